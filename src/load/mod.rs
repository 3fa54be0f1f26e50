//! The load generator: shapes of load, every reply checked, and an account that must add up.

pub mod report;
