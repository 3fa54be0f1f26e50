//! The load generator: shapes of load, every reply checked, and an account that must add up.
//!
//! [`run`] splits [`Settings`] among generators, each a thread with one poll and its share of the
//! connections, in this process or in helpers; they begin together, and what they find becomes one
//! [`report::Report`].
//!
//! | part | |
//! |---|---|
//! | `plan`, `mix`, `payload`, `schedule` | PURE: what is sent, and when |
//! | `link` + `answer` + `judge`, `work`, `promise` | PURE: one connection's protocol, and the fate of each request |
//! | `books`, `account`, `hist`, `episodes`, `acks` | PURE: what is written down, and how it adds up |
//! | `generator`, `net` | SHELL: sockets and the clock |
//! | `worker`, `message`, `run` | CONTROL: threads, helper processes, merging |
//! | `ledger` | the account beside the server's |
//!
//! What the workload is and when it is sent are two things: a [`Mix`] and a [`Pacing`].

mod account;
mod acks;
mod answer;
mod books;
mod episodes;
mod generator;
mod hist;
pub mod html;
mod judge;
mod ledger;
mod link;
mod message;
mod mix;
mod net;
mod payload;
mod plan;
pub mod progress;
mod promise;
pub mod reading;
pub mod report;
mod run;
#[cfg(test)]
mod samples;
mod schedule;
pub mod table;
mod units;
mod work;
mod worker;

pub use mix::Mix;
pub use plan::{Pacing, Secret, Settings, Shape};
pub use run::{LoadError, Watch, Word, run};
pub use worker::serve_helper;
