//! What a program may choose: for the client, and for one call.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::ClientError;
use crate::proto::{Command, MAX_BODY, SessionId, Trace};

/// How to connect, and what calls do unless they say otherwise.
///
/// ```
/// use std::time::Duration;
/// use tidegate::client::{ClientOptions, Token};
///
/// let options = ClientOptions {
///     token: Some(Token::new("secret")),
///     deadline: Duration::from_secs(2),
///     ..ClientOptions::new(["127.0.0.1:7400"])
/// };
/// assert!(!format!("{options:?}").contains("secret"));
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Servers, as `host:port`, tried in turn from a random one on. At least one.
    pub addresses: Vec<String>,
    /// The token that AUTH carries; `None`: an empty one.
    pub token: Option<Token>,
    /// How long [`crate::client::Client::connect`] keeps trying in all, and how long any later attempt to
    /// connect may take until READY. Default 5 s.
    pub connect_timeout: Duration,
    /// The deadline of a call that names none, and of `close` and `bye`. Default 5 s.
    pub deadline: Duration,
    /// The heartbeat interval to ask the server for, in whole milliseconds; the server decides.
    pub heartbeat: Option<Duration>,
    /// The first ceiling of the delay between attempts to connect. Default 50 ms.
    pub backoff_base: Duration,
    /// The last ceiling of that delay. Default 2 s.
    pub backoff_max: Duration,
    /// Whether a new connection asks for the session of the one before. Default true.
    pub resume: bool,
    /// The session that the first connection asks for.
    pub session: Option<SessionId>,
    /// Whether a request with an unknown outcome is sent again if neither its command nor its call
    /// says that it is idempotent. Default false.
    pub retry_unknown: bool,
}

impl ClientOptions {
    /// The defaults, for these servers.
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> ClientOptions {
        ClientOptions {
            addresses: addresses.into_iter().map(Into::into).collect(),
            token: None,
            connect_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            heartbeat: None,
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            resume: true,
            session: None,
            retry_unknown: false,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ClientError> {
        if self.addresses.is_empty() {
            return Err(ClientError::Invalid("no address to connect to: give at least one host:port".to_owned()));
        }
        match &self.token {
            Some(Token(Source::Fixed(token))) if token.len() > MAX_TOKEN => Err(ClientError::Invalid(too_long())),
            _ => Ok(()),
        }
    }
}

/// A token, or where to get one. Its `Debug` does not show it, and there is no `Display`.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Fixed(Vec<u8>),
    Asked(Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>),
}

impl Token {
    /// Takes the token's bytes as they are to go into AUTH.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Token {
        Token(Source::Fixed(bytes.into()))
    }

    /// Asks `source` before each attempt to connect, for tokens that expire. It runs on the client's
    /// thread, which answers heartbeats: it must not take long. Its error says in words why there is
    /// no token; the attempt has failed then, and another follows.
    pub fn from_fn(source: impl Fn() -> Result<Vec<u8>, String> + Send + Sync + 'static) -> Token {
        Token(Source::Asked(Arc::new(source)))
    }

    /// Reads the first line of `file` before each attempt to connect.
    pub fn from_file(file: impl Into<PathBuf>) -> Token {
        let file = file.into();
        Token::from_fn(move || read_token(&file))
    }

    /// The token to use now: one that stays what it is.
    pub(super) fn now(&self) -> Result<Token, String> {
        match &self.0 {
            Source::Fixed(_) => Ok(self.clone()),
            Source::Asked(source) => match source()? {
                token if token.len() > MAX_TOKEN => Err(too_long()),
                token => Ok(Token::new(token)),
            },
        }
    }

    /// Its bytes, if they are known.
    pub(super) fn expose(&self) -> &[u8] {
        match &self.0 {
            Source::Fixed(bytes) => bytes,
            Source::Asked(_) => &[],
        }
    }

    /// Whether another one may be had later.
    pub(super) fn may_change(&self) -> bool {
        matches!(self.0, Source::Asked(_))
    }
}

/// The token in the first line of a file.
///
/// # Errors
/// The file can't be read, or holds none; in words.
pub fn read_token(file: &Path) -> Result<Vec<u8>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("the token can't be read from {}: {error}", file.display()))?;
    match text.lines().next().map(str::trim).filter(|token| !token.is_empty()) {
        Some(token) => Ok(token.into()),
        None => Err(format!("the token file {} holds no token in its first line", file.display())),
    }
}

/// What is left of a body beside AUTH's extensions, which are 1 + 2 + 16 + 2 + 4 bytes at most.
const MAX_TOKEN: usize = MAX_BODY - 25;

fn too_long() -> String {
    format!("the token does not fit a frame: at most {MAX_TOKEN} bytes")
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// What one call may choose. The default chooses nothing.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// The call returns by then. If given, the server is told too (the DEADLINE extension).
    pub deadline: Option<Duration>,
    /// The trace that the server's logs should name.
    pub trace: Option<Trace>,
    /// The IDEMPOTENCY key: the server answers a second SUBMIT with this key as it did the first.
    pub idempotency: Option<[u8; 16]>,
    /// Whether the request may be processed twice without harm; `None`: see [`CallOptions::is_idempotent`].
    pub idempotent: Option<bool>,
}

impl CallOptions {
    /// Whether a request with this command is sent again when its outcome is unknown: as
    /// [`CallOptions::idempotent`] says; otherwise ECHO, PING, the three SESSION commands, and SUBMIT with a key
    /// are, and for the rest `retry_unknown` decides.
    pub fn is_idempotent(&self, cmd: Command, retry_unknown: bool) -> bool {
        self.idempotent.unwrap_or(match cmd {
            Command::ECHO | Command::PING => true,
            Command::SESSION_GET | Command::SESSION_PUT | Command::SESSION_DELETE => true,
            Command::SUBMIT if self.idempotency.is_some() => true,
            _ => retry_unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let options = ClientOptions { token: Some(Token::new("hunter2")), ..ClientOptions::new(["a:1"]) };
        let shown = format!("{options:?}");
        assert!(shown.contains("redacted") && !shown.contains("hunter2"));
    }

    #[test]
    fn options_without_an_address_or_with_a_token_too_long_are_refused() {
        assert!(matches!(ClientOptions::new([""; 0]).validate(), Err(ClientError::Invalid(_))));
        let long = ClientOptions { token: Some(Token::new(vec![0; MAX_BODY - 24])), ..ClientOptions::new(["a:1"]) };
        assert!(matches!(long.validate(), Err(ClientError::Invalid(_))));
        assert_eq!(ClientOptions::new(["a:1"]).validate(), Ok(()));
    }

    #[test]
    fn what_a_call_says_about_idempotence_goes_before_the_command_and_the_default() {
        let silent = CallOptions::default();
        assert!(silent.is_idempotent(Command::SESSION_PUT, false));
        assert!(!silent.is_idempotent(Command::SUBMIT, false));
        assert!(!silent.is_idempotent(Command(0x20), false));
        assert!(silent.is_idempotent(Command(0x20), true));
        let keyed = CallOptions { idempotency: Some([1; 16]), ..CallOptions::default() };
        assert!(keyed.is_idempotent(Command::SUBMIT, false));
        assert!(!keyed.is_idempotent(Command::PUBLISH, false), "only SUBMIT promises to find a duplicate");
        let no = CallOptions { idempotent: Some(false), ..CallOptions::default() };
        assert!(!no.is_idempotent(Command::ECHO, true));
    }
}
