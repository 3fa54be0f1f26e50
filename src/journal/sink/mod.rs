//! From the journal to the user's systems.
//!
//! | file | what it does |
//! |---|---|
//! | `feed` | the journal, as delivery sees it |
//! | `delivery` | all routes' threads |
//! | `runner` | one route's delivery: batches, outcomes, backoff, progress |
//! | `lanes` | PURE: the window of messages in memory; in order per topic |
//! | `dead` | what is refused for good, kept with the reason |
//! | `told` | what a route tells of itself |
//! | `file`, `lines` | JSON lines in a file |
//! | `exec`, `command` | a command that reads JSON lines |
//! | `handler` | an embedder's consumer |
//! | `redis` | Redis Streams |
//! | `kafka` | Kafka |

mod command;
mod dead;
mod delivery;
mod exec;
mod feed;
mod file;
mod handler;
#[cfg(feature = "kafka")]
pub mod kafka;
mod lanes;
mod lines;
#[cfg(feature = "redis")]
pub mod redis;
mod runner;
#[cfg(test)]
mod testing;
mod told;

use std::any::Any;

pub use delivery::{Delivery, Left, Sinks, make_all};
pub use feed::{Feed, Messages};
pub use handler::{ConsumeError, Consumer, Handlers};

use crate::config::{Config, SinkKind, SinkSpec};
use crate::journal::Message;

/// Where messages go: one for each route, on a thread of its own, which may block.
pub trait Sink: Send {
    /// Connects, or finds what it has already, before the first message and after it was down.
    /// `done` is the id up to which the journal knows all to be delivered; returns that up to which
    /// the sink itself has all, if it can tell that it is further.
    ///
    /// # Errors
    /// It is down; tried again later.
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        Ok(done)
    }

    /// Delivers messages, in order, and pushes one outcome for each onto `outcomes`, which is empty. After a
    /// [`Outcome::Refused`] no later message of the same topic may be delivered: it is [`Outcome::Untried`].
    ///
    /// # Errors
    /// The sink is down: messages without an outcome are tried again later, after [`Sink::open`].
    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down>;

    /// Brings what it has taken to where it lasts, and lets go of everything.
    ///
    /// # Errors
    /// It is down.
    fn close(&mut self) -> Result<(), Down> {
        Ok(())
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, and stays there.
    Delivered,
    /// This message is not taken, and why; others may be.
    Refused(String),
    /// It was left alone, because of one before it or for want of time; it is given again.
    Untried,
}

/// The sink takes nothing for now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down(pub String);

/// Whether a sink can be had as it is written down; asked before anything is bound.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(sink: &SinkSpec) -> Result<(), String> {
    match sink.kind {
        SinkKind::File => file::Options::parse(&sink.argument).map(drop),
        SinkKind::Exec => exec::Options::parse(&sink.argument).map(drop),
        #[cfg(feature = "redis")]
        SinkKind::Redis => redis::Options::parse(&sink.argument).map(drop),
        #[cfg(not(feature = "redis"))]
        SinkKind::Redis => Err(built_without("redis")),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka => kafka::Options::parse(&sink.argument).map(drop),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka => Err(built_without("kafka")),
        _ => Ok(()),
    }
}

/// The sink that is written down; nothing is opened or connected yet. `none` has no sink.
///
/// # Errors
/// It can't be had, in words: see [`check`]; a consumer of this name is not among `handlers`.
pub fn make(spec: &SinkSpec, config: &Config, handlers: &Handlers) -> Result<Option<Box<dyn Sink>>, String> {
    check(spec)?;
    match spec.kind {
        SinkKind::None => Ok(None),
        SinkKind::Handler => Ok(Some(Box::new(handlers.sink(&spec.argument)?))),
        SinkKind::File => Ok(Some(Box::new(file::FileSink::new(file::Options::parse(&spec.argument)?)))),
        SinkKind::Exec => {
            let options = exec::Options::parse(&spec.argument)?;
            Ok(Some(Box::new(exec::ExecSink::new(options, config.sink_timeout))))
        }
        #[cfg(feature = "redis")]
        SinkKind::Redis => {
            let options = redis::Options::parse(&spec.argument)?;
            Ok(Some(Box::new(redis::RedisSink::new(options, config.sink_timeout))))
        }
        #[cfg(feature = "kafka")]
        SinkKind::Kafka => {
            let options = kafka::Options::parse(&spec.argument)?;
            Ok(Some(Box::new(kafka::KafkaSink::new(options, config.sink_timeout))))
        }
        // `check` has said so.
        #[cfg(not(feature = "redis"))]
        SinkKind::Redis => Err(built_without("redis")),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka => Err(built_without("kafka")),
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing")
}

#[cfg(not(all(feature = "redis", feature = "kafka")))]
fn built_without(feature: &str) -> String {
    format!("this tidegate was built without {feature}: build it with --features {feature}")
}
