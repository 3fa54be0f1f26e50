//! Who a connection speaks for: from AUTH's token to a principal.

mod tokens;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use tokens::{TokenError, generate_token};

use crate::config::{AuthMode, Config};
use tokens::TokenTable;

pub use crate::session::Principal;

/// The principal of everybody when `TIDEGATE_AUTH` is `none`.
pub const ANONYMOUS: &str = "anonymous";

/// Decides who gets in. Built once, shared by all workers, and never changed.
///
/// Its debug form shows how many tokens there are, and none of them.
pub struct Authenticator {
    mode: Mode,
}

enum Mode {
    Open(Principal),
    Tokens(TokenTable),
}

impl Authenticator {
    /// Builds what [`Config::auth`] asks for; reads the tokens file once, here.
    ///
    /// # Errors
    /// The tokens file can't be read, or a line of it is wrong. Nothing of its content is in the error.
    pub fn new(config: &Config) -> Result<Authenticator, AuthConfigError> {
        let mode = match &config.auth {
            AuthMode::None => Mode::Open(Arc::from(ANONYMOUS)),
            AuthMode::Tokens(path) => Mode::Tokens(TokenTable::read(path)?),
        };
        Ok(Authenticator { mode })
    }

    /// The principal that `token` belongs to, or `None`: AUTH_FAILED. Takes as long for a wrong token
    /// as for a right one.
    pub fn authenticate(&self, token: &[u8]) -> Option<Principal> {
        match &self.mode {
            Mode::Open(anonymous) => Some(anonymous.clone()),
            Mode::Tokens(table) => table.find(token).cloned(),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mode {
            Mode::Open(_) => f.write_str("Authenticator(none)"),
            Mode::Tokens(table) => write!(f, "Authenticator({} tokens)", table.len()),
        }
    }
}

/// A tokens file that can't be used.
#[derive(Debug)]
pub enum AuthConfigError {
    /// It can't be read.
    Read {
        /// The file, as configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than any list of tokens.
    TooLarge {
        /// The file, as configured.
        path: PathBuf,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A line of it is not what it should be.
    Line {
        /// The file, as configured.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What would be accepted, to follow the word "expected".
        expected: &'static str,
    },
}

impl fmt::Display for AuthConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthConfigError::Read { path, source } => {
                write!(f, "cannot read the tokens file {}: {source}; see TIDEGATE_TOKENS_FILE", path.display())
            }
            AuthConfigError::TooLarge { path, limit } => {
                write!(f, "the tokens file {} is larger than {limit} bytes; see TIDEGATE_TOKENS_FILE", path.display())
            }
            AuthConfigError::Line { path, line, expected } => {
                write!(f, "{}, line {line}: expected {expected}", path.display())
            }
        }
    }
}

impl std::error::Error for AuthConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AuthConfigError::Read { source, .. } => Some(source),
            AuthConfigError::TooLarge { .. } | AuthConfigError::Line { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_none_every_token_is_the_one_anonymous_principal() {
        let auth = Authenticator::new(&Config::default()).unwrap();
        let (first, second) = (auth.authenticate(b"").unwrap(), auth.authenticate(&[0xff; 70_000]).unwrap());
        assert_eq!(&*first, ANONYMOUS);
        assert!(Arc::ptr_eq(&first, &second));
    }
}
