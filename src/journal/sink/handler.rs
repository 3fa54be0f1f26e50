//! An embedder's own consumer, in the server's process.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Down, Outcome, Sink};
use crate::journal::Message;

/// Takes messages of the routes that name it: `TIDEGATE_SINKS=orders/#=handler:NAME`.
///
/// It is called on the route's own thread, which may block, with one message after the other, in order per topic.
/// After a crash, or when a call failed, messages come again, with the same [`Message::id`]. A
/// panic is a refusal. Closures are consumers:
///
/// ```
/// use tidegate::journal::sink::{Consumer, ConsumeError};
/// use tidegate::journal::Message;
///
/// let consumer = |message: &Message| match std::str::from_utf8(&message.body) {
///     Ok(text) => Ok(println!("{} {text}", message.id)),
///     Err(_) => Err(ConsumeError::Refused("the body is to be UTF-8".to_owned())),
/// };
/// # fn takes(consumer: impl Consumer) {}
/// # takes(consumer);
/// ```
pub trait Consumer: Send + Sync + 'static {
    /// Takes one message. `Ok`: it lasts, and will not come again.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    fn consume(&self, message: &Message) -> Result<(), ConsumeError>;
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumeError {
    /// This one is not, and why. It is tried `TIDEGATE_SINK_TRIES` times and is then a dead letter; meanwhile
    /// its topic waits, and no other.
    Refused(String),
    /// None is for now, and why. The route waits and tries again for as long as it takes.
    Down(String),
}

impl<F> Consumer for F
where
    F: Fn(&Message) -> Result<(), ConsumeError> + Send + Sync + 'static,
{
    fn consume(&self, message: &Message) -> Result<(), ConsumeError> {
        self(message)
    }
}

/// How long a consumer is given messages before it is told of those that it has taken.
const SLICE: Duration = Duration::from_millis(50);

/// An embedder's consumers, by their names.
#[derive(Clone, Default)]
pub struct Handlers(HashMap<String, Arc<dyn Consumer>>);

impl Handlers {
    /// Adds one; of two with one name, the later counts.
    pub fn add(&mut self, name: &str, consumer: Arc<dyn Consumer>) {
        self.0.insert(name.to_owned(), consumer);
    }

    /// The sink that hands over to the consumer of this name.
    pub(super) fn sink(&self, name: &str) -> Result<HandlerSink, String> {
        match self.0.get(name) {
            Some(consumer) => Ok(HandlerSink { consumer: Arc::clone(consumer) }),
            None if self.0.is_empty() => Err(format!(
                "handler:{name}: this server has no consumers; a program that embeds it gives them to Builder::sink"
            )),
            None => {
                let mut known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                known.sort_unstable();
                Err(format!("handler:{name}: there is no such consumer, but {}", known.join(", ")))
            }
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Hands messages to a consumer.
pub(super) struct HandlerSink {
    consumer: Arc<dyn Consumer>,
}

impl Sink for HandlerSink {
    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        let mut refused: Vec<&str> = Vec::new();
        let begun = Instant::now();
        for message in messages {
            let late = !outcomes.is_empty() && begun.elapsed() > SLICE;
            if late || refused.contains(&message.topic.as_str()) {
                outcomes.push(Outcome::Untried);
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| self.consumer.consume(message))) {
                Ok(Ok(())) => outcomes.push(Outcome::Delivered),
                Ok(Err(ConsumeError::Down(why))) => return Err(Down(why)),
                Ok(Err(ConsumeError::Refused(why))) => {
                    refused.push(&message.topic);
                    outcomes.push(Outcome::Refused(why));
                }
                Err(panic) => {
                    refused.push(&message.topic);
                    outcomes.push(Outcome::Refused(format!("the consumer panicked: {}", super::panic_text(&*panic))));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::message;
    use super::*;

    fn sink(consumer: impl Consumer) -> HandlerSink {
        let mut handlers = Handlers::default();
        handlers.add("mine", Arc::new(consumer));
        handlers.sink("mine").unwrap()
    }

    #[test]
    fn a_refusal_and_a_panic_hold_up_their_own_topic_alone() {
        let mut sink = sink(|message: &Message| match message.body.as_slice() {
            b"bad" => Err(ConsumeError::Refused("bad".to_owned())),
            b"worse" => panic!("worse by {}", message.id),
            _ => Ok(()),
        });
        let messages = [
            message(1, "a", "bad"),
            message(2, "b", "x"),
            message(3, "a", "x"),
            message(4, "c", "worse"),
            message(5, "c", "x"),
        ];
        let mut outcomes = Vec::new();
        sink.deliver(&messages.iter().collect::<Vec<_>>(), &mut outcomes).unwrap();
        let wanted = [
            Outcome::Refused("bad".to_owned()),
            Outcome::Delivered,
            Outcome::Untried,
            Outcome::Refused("the consumer panicked: worse by 4".to_owned()),
            Outcome::Untried,
        ];
        assert_eq!(outcomes, wanted);
    }

    #[test]
    fn a_consumer_that_is_down_keeps_what_it_has_taken() {
        let mut sink = sink(|message: &Message| match message.id {
            1 => Ok(()),
            _ => Err(ConsumeError::Down("no database".to_owned())),
        });
        let messages = [message(1, "a", ""), message(2, "a", ""), message(3, "a", "")];
        let mut outcomes = Vec::new();
        let down = sink.deliver(&messages.iter().collect::<Vec<_>>(), &mut outcomes);
        assert_eq!((down, outcomes), (Err(Down("no database".to_owned())), vec![Outcome::Delivered]));
    }

    #[test]
    fn a_slow_consumer_does_not_hold_back_what_became_of_the_messages_that_it_took() {
        let mut sink = sink(|_: &Message| {
            std::thread::sleep(SLICE);
            Ok(())
        });
        let messages = [message(1, "a", ""), message(2, "a", ""), message(3, "a", "")];
        let mut outcomes = Vec::new();
        sink.deliver(&messages.iter().collect::<Vec<_>>(), &mut outcomes).unwrap();
        assert_eq!((&outcomes[0], &outcomes[2], outcomes.len()), (&Outcome::Delivered, &Outcome::Untried, 3));
    }

    #[test]
    fn a_name_that_nobody_has_is_told_beside_those_there_are() {
        let mut handlers = Handlers::default();
        assert!(handlers.sink("x").err().unwrap().contains("Builder::sink"));
        for name in ["b", "a"] {
            handlers.add(name, Arc::new(|_: &Message| Ok(())));
        }
        assert_eq!(handlers.sink("x").err().unwrap(), "handler:x: there is no such consumer, but a, b");
    }
}
