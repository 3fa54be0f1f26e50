//! What the binaries of this crate share: epoll, sockets, loads, and what a process has cost.

pub mod cost;
pub mod crash;
pub mod drain;
pub mod durable;
pub mod exchange;
pub mod load;
pub mod net;
pub mod poller;
pub mod report;
pub mod resp;
pub mod serve;
