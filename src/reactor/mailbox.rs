//! How other threads reach a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use mio::Waker;

use super::inspect::{Back, Disconnected, ListPart, ListQuery};
use super::pending::PendingKey;
use crate::journal::Settle;
pub(crate) use crate::journal::Settled;
use crate::proto::SessionId;
use crate::service::{AnswerSink, Outcome};
use crate::session::{Owner, Principal};

/// From worker to worker, and from whoever watches them.
#[derive(Debug)]
pub enum Letter {
    /// To a session's home: a connection of `from` wants it. Answered with [`Outcome::Claimed`].
    Claim {
        /// The session.
        id: SessionId,
        /// Who wants it.
        principal: Principal,
        /// The connection that wants it.
        from: Owner,
        /// The AUTH that waits for it.
        pending: PendingKey,
    },
    /// From a session's home: the session of this connection is on a newer one.
    Evict {
        /// The older connection.
        token: u64,
    },
    /// To a session's home: its connection is gone.
    Release {
        /// The session.
        id: SessionId,
        /// The connection.
        owner: Owner,
    },
    /// To a session's home: BYE.
    End {
        /// The session.
        id: SessionId,
        /// The connection.
        owner: Owner,
    },
    /// To a session's home: an operation on its state. Answered with a reply or an ERROR.
    State {
        /// The session.
        id: SessionId,
        /// Whose request it is.
        from: u16,
        /// The request.
        pending: PendingKey,
        /// The operation.
        op: StateOp,
    },
    /// To all: this worker panicked and has lost its connections.
    WorkerLost {
        /// Which.
        worker: u16,
    },
    /// To all: which connections there are.
    List {
        /// Which are wanted.
        query: Arc<ListQuery>,
        /// Where the list goes.
        back: Back<ListPart>,
    },
    /// To a session's home: its connection is to go.
    Disconnect {
        /// The session.
        id: SessionId,
        /// Where to tell which one that was; `None`: there is none.
        back: Back<Option<Disconnected>>,
    },
    /// From a session's home: this connection is to go.
    Dismiss {
        /// The connection.
        token: u64,
        /// Where to tell about it.
        back: Back<Option<Disconnected>>,
    },
    /// For tests of recovery: panic.
    Panic,
}

/// An operation on a session's state.
#[derive(Debug)]
pub enum StateOp {
    /// SESSION_GET of a key.
    Get(Box<[u8]>),
    /// SESSION_PUT of a key and a value.
    Put(Box<[u8]>, Box<[u8]>),
    /// SESSION_DELETE of a key.
    Delete(Box<[u8]>),
}

/// An answer to a request in flight.
#[derive(Debug)]
pub struct Answer {
    /// The request.
    pub pending: PendingKey,
    /// How it ended.
    pub outcome: Outcome,
}

/// The outside of a worker's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    letters: Sender<Letter>,
    /// Not bounded by itself, but by the table of requests in flight: each entry is answered once.
    answers: Sender<Answer>,
    /// Answers too, many at once.
    settled: Sender<Settled>,
    waker: Waker,
    awake: AtomicBool,
}

/// The inside of a worker's mailbox. Survives the worker's panic.
#[derive(Debug)]
pub struct Inbox {
    /// From workers; bounded.
    pub letters: Receiver<Letter>,
    /// From handlers and workers.
    pub answers: Receiver<Answer>,
    /// From the journal.
    pub settled: Receiver<Settled>,
}

/// A worker's mailbox for `capacity` letters.
pub fn mailbox(capacity: usize, waker: Waker) -> (Arc<Mailbox>, Inbox) {
    let (letters, letters_in) = bounded(capacity);
    let (answers, answers_in) = unbounded();
    let (settled, settled_in) = unbounded();
    let mailbox = Mailbox { letters, answers, settled, waker, awake: AtomicBool::new(false) };
    (Arc::new(mailbox), Inbox { letters: letters_in, answers: answers_in, settled: settled_in })
}

impl Mailbox {
    /// Sends a letter; gives it back if the mailbox is full. Never blocks.
    pub fn send(&self, letter: Letter) -> Result<(), Letter> {
        let sent = self.letters.try_send(letter).map_err(|error| match error {
            TrySendError::Full(letter) | TrySendError::Disconnected(letter) => letter,
        });
        self.wake();
        sent
    }

    /// Letters and answers that the worker has not taken yet. Any thread.
    pub fn len(&self) -> usize {
        self.letters.len() + self.answers.len()
    }

    /// Makes the worker look up, if it is not already about to.
    pub fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            log::error!("a worker can't be woken: {error}; it will look up at its next timer");
        }
    }

    /// The worker is about to empty the mailbox: what comes later must wake it again. Returns
    /// whether anybody has sent anything since the last time.
    pub fn opened(&self) -> bool {
        // The load alone keeps an idle mailbox's cache line shared.
        self.awake.load(Ordering::Acquire) && self.awake.swap(false, Ordering::AcqRel)
    }
}

impl Settle for Mailbox {
    fn settle(&self, settled: Settled) {
        // As with answers, below.
        let _ = self.settled.send(settled);
        self.wake();
    }
}

impl AnswerSink for Mailbox {
    fn deliver(&self, pending: PendingKey, outcome: Outcome) {
        // The worker has ended: its ledger has counted this request as cut.
        let _ = self.answers.send(Answer { pending, outcome });
        self.wake();
    }
}
