//! Why a call failed.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::proto::{ErrorCode, ErrorReply};

/// Why a call, or the client, failed. What may have happened at the server differs from one to
/// the next: see each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The server answered with ERROR. Not processed if the code is OVERLOADED, DRAINING or
    /// RATE_LIMITED; otherwise what the code says.
    Server(ServerError),
    /// The deadline passed here before there was an answer.
    Deadline {
        /// How long the call had.
        after: Duration,
        /// Whether the request was sent, and so may have been, or may yet be, processed.
        sent: bool,
        /// Why there was no connection, if there was none.
        trouble: Option<String>,
    },
    /// The connection was lost after the request was sent, and the request is not idempotent: it
    /// was processed, or it was not.
    UnknownOutcome {
        /// How the connection was lost.
        why: String,
    },
    /// The server does not accept the token. Final: the client does not try again.
    AuthFailed {
        /// The server's words.
        text: String,
    },
    /// The server broke the protocol before it was READY. (Later, that ends the connection like any
    /// other loss.)
    Protocol {
        /// What it did.
        text: String,
    },
    /// The client was closed. The request was not processed.
    Closed,
    /// The body would be over the server's max payload. Not sent.
    TooLarge {
        /// Bytes of body: the payload, and the extensions if there are any.
        size: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// The arguments are wrong. Not sent.
    Invalid(String),
    /// No connection could be made, or it was lost while it was being closed.
    Io {
        /// The kind of the last attempt's error.
        kind: io::ErrorKind,
        /// What was attempted, and what the system said.
        text: String,
    },
}

/// The server's ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The code as a number: a newer server may send one that this build does not know.
    pub code: u16,
    /// Milliseconds after which a retry makes sense; 0: nothing is known.
    pub retry_after_ms: u32,
    /// For a person.
    pub text: String,
}

impl ServerError {
    /// The code, if this build knows it.
    pub fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_wire(self.code)
    }

    pub(super) fn from_reply(reply: &ErrorReply<'_>) -> ServerError {
        ServerError { code: reply.code, retry_after_ms: reply.retry_after_ms, text: reply.text.to_owned() }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_code() {
            Some(code) => f.write_str(code.name())?,
            None => write!(f, "ERROR_{}", self.code)?,
        }
        write!(f, ": {}", self.text)?;
        if self.retry_after_ms > 0 {
            write!(f, " (retry after {} ms)", self.retry_after_ms)?;
        }
        Ok(())
    }
}

impl ClientError {
    /// The server's ERROR, if that is what this is.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            ClientError::Server(error) => Some(error),
            _ => None,
        }
    }

    pub(super) fn io(what: &str, error: &io::Error) -> ClientError {
        ClientError::Io { kind: error.kind(), text: format!("{what}: {error}") }
    }
}

impl fmt::Display for ClientError {
    /// `NAME: text`, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Server(error) => error.fmt(f),
            ClientError::Deadline { after, sent, trouble } => {
                write!(f, "DEADLINE: no answer within {} ms; the request was ", after.as_millis())?;
                f.write_str(if *sent { "sent and may have been processed" } else { "not processed" })?;
                trouble.iter().try_for_each(|trouble| write!(f, " ({trouble})"))
            }
            ClientError::UnknownOutcome { why } => {
                write!(
                    f,
                    "UNKNOWN_OUTCOME: the connection was lost after the request was sent ({why}); it may have been processed"
                )
            }
            ClientError::AuthFailed { text } => write!(f, "AUTH_FAILED: {text}"),
            ClientError::Protocol { text } => write!(f, "PROTOCOL: this server does not keep to the protocol: {text}"),
            ClientError::Closed => f.write_str("CLOSED: the client is closed"),
            ClientError::TooLarge { size, max } => {
                write!(f, "TOO_LARGE: the body has {size} bytes, {max} are allowed; not sent")
            }
            ClientError::Invalid(text) => write!(f, "INVALID: {text}"),
            ClientError::Io { text, .. } => write!(f, "IO: {text}"),
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_shows_name_text_and_retry_time_in_one_line() {
        let error = ServerError { code: 12, retry_after_ms: 250, text: "busy".to_owned() };
        assert_eq!(ClientError::Server(error).to_string(), "OVERLOADED: busy (retry after 250 ms)");
        let unknown = ServerError { code: 999, retry_after_ms: 0, text: "new".to_owned() };
        assert_eq!(unknown.to_string(), "ERROR_999: new");
    }

    #[test]
    fn a_deadline_says_whether_the_request_may_have_been_processed() {
        let after = Duration::from_millis(5);
        let sent = ClientError::Deadline { after, sent: true, trouble: None };
        assert!(sent.to_string().contains("may have been processed"));
        let unsent = ClientError::Deadline { after, sent: false, trouble: Some("refused".to_owned()) };
        assert_eq!(unsent.to_string(), "DEADLINE: no answer within 5 ms; the request was not processed (refused)");
    }
}
