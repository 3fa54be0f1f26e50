//! Error codes of the wire.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $value:literal, $name:literal, $fatal:literal, $text:literal;)*) => {
        /// Why a request, or a connection, failed (PROTOCOL: errors).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $value,)*
        }

        impl ErrorCode {
            /// Every code, in order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The code a number on the wire stands for, if this build knows it.
            pub const fn from_wire(code: u16) -> Option<ErrorCode> {
                match code {
                    $($value => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// The name in the protocol.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)* }
            }

            /// Whether the connection ends after an ERROR with this code.
            pub const fn is_fatal(self) -> bool {
                match self { $(ErrorCode::$variant => $fatal,)* }
            }

            /// What it means, for a person, when nothing more precise is known.
            pub const fn text(self) -> &'static str {
                match self { $(ErrorCode::$variant => $text,)* }
            }
        }
    };
}

error_codes! {
    /// The frame or payload breaks the protocol.
    Malformed = 1, "MALFORMED", true, "the frame breaks the protocol";
    /// A version other than 1 and 2.
    UnsupportedVersion = 2, "UNSUPPORTED_VERSION", true, "versions 1 and 2 are spoken here";
    /// The first frame was not AUTH.
    AuthRequired = 3, "AUTH_REQUIRED", true, "the first frame must be AUTH";
    /// The token was not accepted.
    AuthFailed = 4, "AUTH_FAILED", true, "the token was not accepted";
    /// No AUTH in time.
    AuthTimeout = 5, "AUTH_TIMEOUT", true, "no AUTH in time";
    /// A request's `seq` did not increase.
    BadSequence = 6, "BAD_SEQUENCE", true, "seq must increase from request to request";
    /// The client was silent too long.
    Idle = 7, "IDLE", true, "nothing was heard from you, not even a PONG";
    /// Nothing serves this command.
    UnknownCommand = 8, "UNKNOWN_COMMAND", false, "nothing serves this command";
    /// The body is over the server's max payload.
    TooLarge = 9, "TOO_LARGE", true, "the body is over the max payload that READY told";
    /// The payload is invalid for its command.
    BadRequest = 10, "BAD_REQUEST", false, "the payload is invalid for this command";
    /// The request's deadline passed before it was answered.
    DeadlineExceeded = 11, "DEADLINE_EXCEEDED", false, "the deadline passed before there was an answer";
    /// Not processed: safe to retry after `retry-after ms`.
    Overloaded = 12, "OVERLOADED", false, "too much to do; not processed, retry later";
    /// Not processed: safe to retry elsewhere.
    Draining = 13, "DRAINING", false, "going away; not processed, retry elsewhere";
    /// A dependency is down and no fallback applies.
    Unavailable = 14, "UNAVAILABLE", false, "something this needs is not available";
    /// There is no such thing.
    NotFound = 15, "NOT_FOUND", false, "there is no such thing";
    /// Not processed: too many requests.
    RateLimited = 16, "RATE_LIMITED", false, "too many requests; not processed";
    /// A handler failed.
    Internal = 17, "INTERNAL", false, "the handler failed";
    /// A critical extension that this build does not know.
    UnsupportedExtension = 18, "UNSUPPORTED_EXTENSION", false, "a critical extension is not known here";
    /// This principal may not do this.
    Forbidden = 19, "FORBIDDEN", false, "this principal may not do this";
    /// The client does not read what it is sent.
    SlowConsumer = 20, "SLOW_CONSUMER", true, "you do not read what you are sent";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn to_wire(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_from_1_to_20_has_its_number() {
        assert_eq!(ErrorCode::ALL.len(), 20);
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.to_wire()), i + 1);
            assert_eq!(ErrorCode::from_wire(code.to_wire()), Some(*code));
        }
        assert_eq!(ErrorCode::from_wire(0), None);
        assert_eq!(ErrorCode::from_wire(21), None);
    }

    #[test]
    fn the_fatal_codes_are_the_marked_ones() {
        let fatal: Vec<u16> = ErrorCode::ALL.iter().filter(|c| c.is_fatal()).map(|c| c.to_wire()).collect();
        assert_eq!(fatal, [1, 2, 3, 4, 5, 6, 7, 9, 20]);
    }
}
