//! The label values of metrics: enums all of them, so that nothing a client sends becomes a series.

use super::Counter;
use crate::proto::{ErrorCode, GoAwayReason};

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Its place among all of them.
    fn index(self) -> usize;

    /// As it appears in a label.
    fn name(self) -> &'static str;
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Family<L, const N: usize> {
    counters: [Counter; N],
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label, const N: usize> Family<L, N> {
    /// The counter of one value.
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }

    /// Every value and its number, zeros included.
    pub fn each(&self) -> impl Iterator<Item = (L, u64)> + '_ {
        L::ALL.iter().map(|label| (*label, self.of(*label).get()))
    }

    /// All added up.
    pub fn sum(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

impl<L, const N: usize> Default for Family<L, N> {
    fn default() -> Family<L, N> {
        Family { counters: std::array::from_fn(|_| Counter::default()), label: std::marker::PhantomData }
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl Label for $name {
            const ALL: &'static [$name] = &[$($name::$variant),*];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// What kind of end a connection had.
    EndKind {
        /// In good order.
        Ended = "ended",
        /// The peer or the network ended it with an error.
        Lost = "lost",
        /// It was turned away before it was served.
        Refused = "refused",
        /// The client broke the protocol, or was silent too long.
        Error = "error",
        /// By force.
        Cut = "cut",
    }
}

labels! {
    /// Why a connection ended. The first reason is the one that counts, unless it is cut after that.
    Cause {
        /// The client said BYE.
        Bye = "bye",
        /// The client said GOAWAY.
        GoAway = "goaway",
        /// The client's end of stream.
        Eof = "eof",
        /// A drain, in good order.
        Drain = "drain",
        /// Its session went to a newer connection.
        Replaced = "replaced",
        /// Moved to another worker or server.
        Rebalance = "rebalance",
        /// An operator asked for it.
        Operator = "operator",
        /// A new version takes over.
        Upgrade = "upgrade",
        /// Its token expired.
        Expired = "expired",
        /// The peer or the network ended it with an error.
        Lost = "lost",
        /// The core had all the connections it may have.
        Limit = "limit",
        /// It was not ready when a drain gave notice.
        Draining = "draining",
        /// Its token was not accepted.
        AuthFailed = "auth_failed",
        /// No AUTH in time.
        AuthTimeout = "auth_timeout",
        /// Its first frame was not AUTH.
        AuthRequired = "auth_required",
        /// Its AUTH had an extension that it may not have.
        AuthMalformed = "auth_malformed",
        /// Too many failed logins from its address.
        RateLimited = "rate_limited",
        /// No room for its session, or for its AUTH.
        Overloaded = "overloaded",
        /// What its AUTH needs is not available.
        Unavailable = "unavailable",
        /// The system had nothing left to serve it with.
        Exhausted = "exhausted",
        /// A frame that breaks the protocol.
        Malformed = "malformed",
        /// Bytes that are no frame.
        WrongMagic = "wrong_magic",
        /// A version other than 1 and 2.
        UnsupportedVersion = "unsupported_version",
        /// A `seq` that does not increase.
        BadSequence = "bad_sequence",
        /// A frame over the max payload.
        TooLarge = "too_large",
        /// A frame begun and not completed in time.
        FrameTimeout = "frame_timeout",
        /// Silence, also after a PING.
        Idle = "idle",
        /// It did not read what it was sent.
        SlowConsumer = "slow_consumer",
        /// The worker's memory for unfinished frames and unsent output was used up.
        BufferMemory = "buffer_memory",
        /// The end of a drain's time.
        DrainDeadline = "drain_deadline",
        /// A second signal, or an embedder's word.
        SecondSignal = "second_signal",
        /// A panic of its worker.
        WorkerPanic = "worker_panic",
    }
}

labels! {
    /// Where a worker is in its drain.
    Phase {
        /// No drain.
        Serving = "serving",
        /// Not ready any more, still accepting.
        Announce = "announce",
        /// Those that had begun to connect come in.
        Gate = "gate",
        /// Clients are told to move, and served.
        Notice = "notice",
        /// The last word goes out, and what was accepted is being answered.
        Finish = "finish",
        /// What was answered is being sent, and ends of streams are awaited.
        Flush = "flush",
        /// Nothing is left to do.
        Persist = "persist",
    }
}

labels! {
    /// What a worker's time goes into.
    Step {
        /// Waiting for something to do, or looking whether there is something.
        Poll = "poll",
        /// Reading from sockets.
        Read = "read",
        /// Parsing, handlers in place, encoding.
        Handle = "handle",
        /// Writing to sockets.
        Flush = "flush",
        /// Accepting, timers, closing, and the loop itself.
        Other = "other",
    }
}

impl Label for ErrorCode {
    const ALL: &'static [ErrorCode] = ErrorCode::ALL;

    fn index(self) -> usize {
        usize::from(self.to_wire()) - 1
    }

    fn name(self) -> &'static str {
        ErrorCode::name(self)
    }
}

impl Cause {
    /// What kind of end this is.
    pub fn kind(self) -> EndKind {
        match self {
            Cause::Bye
            | Cause::GoAway
            | Cause::Eof
            | Cause::Drain
            | Cause::Replaced
            | Cause::Rebalance
            | Cause::Operator
            | Cause::Upgrade
            | Cause::Expired => EndKind::Ended,
            Cause::Lost => EndKind::Lost,
            Cause::Limit
            | Cause::Draining
            | Cause::AuthFailed
            | Cause::AuthTimeout
            | Cause::AuthRequired
            | Cause::AuthMalformed
            | Cause::RateLimited
            | Cause::Overloaded
            | Cause::Unavailable
            | Cause::Exhausted => EndKind::Refused,
            Cause::Malformed
            | Cause::WrongMagic
            | Cause::UnsupportedVersion
            | Cause::BadSequence
            | Cause::TooLarge
            | Cause::FrameTimeout
            | Cause::Idle => EndKind::Error,
            Cause::SlowConsumer
            | Cause::BufferMemory
            | Cause::DrainDeadline
            | Cause::SecondSignal
            | Cause::WorkerPanic => EndKind::Cut,
        }
    }

    /// Why a connection ends that is told this ERROR before it is ready, or about itself.
    pub fn of_error(code: ErrorCode) -> Cause {
        match code {
            ErrorCode::UnsupportedVersion => Cause::UnsupportedVersion,
            ErrorCode::AuthRequired => Cause::AuthRequired,
            ErrorCode::AuthFailed | ErrorCode::Forbidden => Cause::AuthFailed,
            ErrorCode::AuthTimeout => Cause::AuthTimeout,
            ErrorCode::BadSequence => Cause::BadSequence,
            ErrorCode::Idle => Cause::Idle,
            ErrorCode::TooLarge => Cause::TooLarge,
            ErrorCode::UnsupportedExtension | ErrorCode::BadRequest => Cause::AuthMalformed,
            ErrorCode::Overloaded => Cause::Overloaded,
            ErrorCode::Draining => Cause::Draining,
            ErrorCode::RateLimited => Cause::RateLimited,
            ErrorCode::SlowConsumer => Cause::SlowConsumer,
            ErrorCode::Unavailable | ErrorCode::DeadlineExceeded | ErrorCode::Internal => Cause::Unavailable,
            ErrorCode::Malformed | ErrorCode::UnknownCommand | ErrorCode::NotFound => Cause::Malformed,
        }
    }

    /// Why a connection ends that is told this GOAWAY.
    pub fn of_departure(reason: GoAwayReason) -> Cause {
        match reason {
            GoAwayReason::Drain => Cause::Drain,
            GoAwayReason::Replaced => Cause::Replaced,
            GoAwayReason::Rebalance => Cause::Rebalance,
            GoAwayReason::Operator => Cause::Operator,
            GoAwayReason::Upgrade => Cause::Upgrade,
            GoAwayReason::Asked => Cause::GoAway,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_are_distinct<L: Label + PartialEq + std::fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
            assert!(L::ALL.iter().filter(|other| other.name() == label.name()).count() == 1, "{label:?}");
        }
    }

    #[test]
    fn every_label_has_its_place_and_a_name_of_its_own() {
        names_are_distinct::<Cause>();
        names_are_distinct::<EndKind>();
        names_are_distinct::<Phase>();
        names_are_distinct::<Step>();
        names_are_distinct::<ErrorCode>();
    }
}
