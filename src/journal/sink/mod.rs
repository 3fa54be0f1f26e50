//! From the journal to the user's systems.

use crate::config::{SinkKind, SinkSpec};
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
    /// It was left alone, because of one before it.
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
        SinkKind::Redis if !cfg!(feature = "redis") => Err(built_without("redis")),
        SinkKind::Kafka if !cfg!(feature = "kafka") => Err(built_without("kafka")),
        _ => Ok(()),
    }
}

fn built_without(feature: &str) -> String {
    format!("this tidegate was built without {feature}: build it with --features {feature}")
}
