#![forbid(unsafe_code)]
//! tidegate: a gateway for very many long-lived connections.

#[cfg(feature = "admin")]
pub mod admin;
pub mod auth;
pub mod config;
pub mod conn;
pub mod limits;
pub mod proto;
pub mod reactor;
pub mod server;
pub mod service;
pub mod session;
pub mod stats;
