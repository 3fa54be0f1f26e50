//! Redis, for whoever has something there: where it is, connections to it, and commands that go to the server that has their key.

mod link;
mod slot;
mod url;

pub(crate) use link::{Ask, Fault, Link, Reply};
#[cfg(test)]
pub(crate) use slot::slot;
pub(crate) use url::{Deadline, OPTIONS, RedisUrl};
