//! Secrets that are settings themselves, and not paths of files.

use std::fmt;
use std::path::PathBuf;

use crate::limits::ADMIN_TOKEN_CHARS;

/// A secret. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret from the environment, or from an embedder.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself: for its use, and for nothing that is written anywhere.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What an operator has to show at the admin port.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AdminAuth {
    /// Nothing, where the port is on a loopback address; elsewhere only probes and metrics are served.
    #[default]
    None,
    /// The token in the first line of this file.
    File(PathBuf),
    /// This token.
    Token(Secret),
}

/// Whether `text` can be an operator's token: [`ADMIN_TOKEN_CHARS`] printable ASCII characters without
/// spaces, so that it can't be guessed and fits an HTTP header.
pub fn is_admin_token(text: &[u8]) -> bool {
    ADMIN_TOKEN_CHARS.contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}
