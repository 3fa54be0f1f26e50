#![forbid(unsafe_code)]
//! tidegate

pub mod config;
pub mod limits;
pub mod proto;
pub mod stats;
