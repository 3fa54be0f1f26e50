//! The load generator: shapes of load, every reply checked, and an account that must add up.

pub mod html;
pub mod reading;
pub mod report;
#[cfg(test)]
mod samples;
pub mod table;
mod units;
