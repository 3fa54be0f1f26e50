//! What delivery stands on: the journal, as a route's thread sees it.

use std::time::Duration;

use crate::journal::{Draft, Message, Progress};

/// The journal, for the threads that deliver: one for all of them. Routes are counted as in `TIDEGATE_SINKS`, from 0.
pub trait Feed: Send + Sync + 'static {
    /// Waits until a message of the route that is newer than `after` is durable, `timeout` is over, or
    /// [`Feed::stop`] was called, be it before. Returns the newest durable id of all routes. May
    /// return early, and for messages of other routes, too: whoever asks looks for himself.
    fn wait(&self, route: usize, after: u64, timeout: Duration) -> u64;

    /// Nobody waits any more: [`Feed::wait`] returns at once, now and later.
    fn stop(&self);

    /// Reads the route's messages from the first with a higher id than `after`.
    fn messages(&self, route: usize, after: u64) -> Box<dyn Messages>;

    /// How far the route was when the journal was opened.
    fn progress(&self, route: usize) -> Progress;

    /// The route is so far: becomes durable with a later commit, and nobody waits for that.
    fn report(&self, route: usize, progress: Progress);

    /// Messages of the route that are still to be delivered, as of the last report. Cheap.
    fn unfinished(&self, route: usize) -> u64;

    /// Stores a message of the server's own: a dead letter. Returns its id when it is durable; that of the
    /// first one, if its principal has stored one with its key before.
    ///
    /// # Errors
    /// It is not stored, and why; may be tried again.
    fn append(&self, draft: &Draft<'_>) -> Result<u64, String>;

    /// These messages are done: their sink has them, or they are kept as dead letters. Told as soon as it
    /// is so, for requests that wait for it (`TIDEGATE_SUBMIT_ACK=sink`): both are answered with their id.
    fn delivered(&self, route: usize, ids: &[u64]);
}

/// A route's messages, in their order.
pub trait Messages: Send {
    /// The next one with an id of at most `upto`, which is durable; `None`: there is none left, nor will there be.
    ///
    /// # Errors
    /// It can't be read, in words. The reader has not moved, and may be asked again.
    fn next(&mut self, upto: u64) -> Result<Option<Message>, String>;
}
