#![forbid(unsafe_code)]
//! A gateway for very many long-lived connections, that can be restarted at noon: nothing it has
//! acknowledged is lost, and it proves so in a ledger.
//!
//! It speaks **MCP**, the *Modular Communication Protocol*, a small binary framed protocol (not the
//! Model Context Protocol): see [`proto`].
//!
//! ```text
//!             supervisor thread: starts workers, follows the drain, joins, writes the ledger
//!                 │ reports                            ▲
//!  ┌──────────────┴───────────────┐   ┌────────────────┴─────────────┐   journal thread: one fdatasync
//!  │ worker 0, pinned to a core   │   │ worker N: the same           │     at a time for all workers
//!  │ mio Poll                     │   │                              │   delivery threads: one a route,
//!  │  ├ listener (SO_REUSEPORT)   │◄──┤ mailbox (bounded channel     │     from the journal to a sink
//!  │  ├ slab of connections       │   │  + Waker) between workers    │   store threads: sessions
//!  │  ├ self-pipe for signals     │   │                              │   blocking pool: handlers that block
//!  │  └ waker of the mailbox      │   │                              │   admin thread: HTTP
//!  └──────────────────────────────┘   └──────────────────────────────┘   logs thread: standard error
//! ```
//!
//! Data: bytes → [`proto::FrameDecoder`] → [`conn::Connection`] → [`service::Router`] →
//! [`service::Handler`] → reply → outbound queue → bytes. One direction, one thread, no lock, no
//! allocation for a request that is answered in place. Control: signal → the worker's own self-pipe
//! → drain → report → the supervisor joins, and closes with a [`server::Ledger`].
//!
//! | module | |
//! |---|---|
//! | [`config`], [`limits`] | what the operator may set; what nothing may exceed |
//! | [`proto`] | PURE: frames and bytes |
//! | [`conn`] | PURE: one connection's state machine |
//! | [`session`] | PURE: identity that survives reconnects |
//! | [`service`] | handlers, requests, responders |
//! | [`auth`] | who gets in |
//! | [`journal`] | what is acknowledged is on the disk first, and goes on to the user's systems |
//! | [`reactor`] | SHELL: the worker's loop |
//! | [`server`] | CONTROL: supervisor, drain, reload, ledger, audit log, systemd |
//! | `admin` | the admin port: health, metrics, status, the live page (cargo feature `admin`) |
//! | `logging` | log lines as text or JSON, limited, by a thread of their own (cargo feature `logs`) |
//! | [`stats`] | each worker's counters |
//! | [`build`] | which build this is |
//! | [`client`] | blocking client: heartbeats, reconnects, GOAWAY obeyed |
//! | `doctor` | what a host allows, beside what so many connections need (cargo feature `cli`) |
//! | `load` | load generator: every reply checked, every request accounted for (cargo feature `load`) |
//!
//! PURE modules name no socket, thread, clock or file: they run under a simulated clock and network
//! in the tests.
//!
//! # A server with a handler of one's own
//!
//! ```
//! use tidegate::config::Config;
//! use tidegate::proto::ErrorCode;
//! use tidegate::server::Server;
//! use tidegate::service::Failure;
//!
//! let config = Config { listen: vec!["127.0.0.1:0".parse()?], admin: None, ..Config::default() };
//! let server = Server::builder()
//!     .config(config)
//!     // In place on the worker: must not block.
//!     .route(0x20, |request, responder| match std::str::from_utf8(request.payload()) {
//!         Ok(name) => responder.reply(format!("hello {name}, {}", request.principal()).as_bytes()),
//!         Err(_) => responder.fail(Failure::new(ErrorCode::BadRequest, "a name in UTF-8 is wanted")),
//!     })
//!     // On the blocking pool: may take its time.
//!     .route_blocking(0x21, |request, responder| {
//!         let digits: u64 = request.payload().iter().map(|b| u64::from(*b)).sum();
//!         responder.reply(&digits.to_be_bytes());
//!     })
//!     .start()?;
//!
//! println!("listening on {}", server.local_addrs()[0]);
//! server.drain();
//! let ended = server.wait();
//! assert!(ended.ledger.clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "admin")]
pub mod admin;
pub mod auth;
pub mod build;
pub mod client;
pub mod config;
pub mod conn;
#[cfg(feature = "cli")]
pub mod doctor;
mod hex;
pub mod journal;
pub mod limits;
#[cfg(feature = "load")]
pub mod load;
#[cfg(feature = "logs")]
pub mod logging;
pub mod proto;
pub mod reactor;
#[cfg(feature = "redis")]
mod redis_link;
pub mod server;
pub mod service;
pub mod session;
pub mod stats;
mod time;
#[cfg(any(feature = "redis", feature = "mysql", feature = "kafka"))]
#[allow(dead_code)]
mod url;
