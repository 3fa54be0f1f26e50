//! The operator's token: read from a file or given, kept as a digest, and replaced while the port is served.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// Characters of a token. Shorter ones can be guessed.
pub const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Bytes of its file that are looked at.
const MAX_FILE: u64 = 64 * 1024;

type Digest = [u8; 32];

/// The token that the admin port asks for, if it asks for one. Its debug form does not show it.
pub struct AdminToken {
    file: Option<PathBuf>,
    digest: RwLock<Option<Digest>>,
}

impl AdminToken {
    /// None: who may ask is for the port's address to say.
    pub fn none() -> AdminToken {
        AdminToken { file: None, digest: RwLock::new(None) }
    }

    /// The one that is in the first line of this file.
    ///
    /// # Errors
    /// It can't be read, or holds none. Nothing of its content is in the error.
    pub fn from_file(path: &Path) -> Result<AdminToken, AdminTokenError> {
        let digest = read(path)?;
        Ok(AdminToken { file: Some(path.to_owned()), digest: RwLock::new(Some(digest)) })
    }

    /// This one.
    ///
    /// # Errors
    /// It is no token: see [`TOKEN_CHARS`].
    pub fn from_text(token: &str) -> Result<AdminToken, AdminTokenError> {
        let digest = digest_of(token.as_bytes()).ok_or(AdminTokenError::NoToken { file: None })?;
        Ok(AdminToken { file: None, digest: RwLock::new(Some(digest)) })
    }

    /// Reads the file again. Returns whether the token is another one now.
    ///
    /// # Errors
    /// As for [`AdminToken::from_file`]; the old one stays.
    pub fn reload(&self) -> Result<bool, AdminTokenError> {
        let Some(path) = &self.file else { return Ok(false) };
        let digest = Some(read(path)?);
        let mut current = self.digest.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, digest) != digest)
    }

    pub(super) fn is_set(&self) -> bool {
        self.digest.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether this is the token; the time that it takes does not tell how much of it is right.
    pub(super) fn is(&self, token: &[u8]) -> bool {
        let wanted = *self.digest.read().unwrap_or_else(PoisonError::into_inner);
        wanted.is_some_and(|wanted| bool::from(wanted.ct_eq(&Digest::from(Sha256::digest(token)))))
    }

    #[cfg(test)]
    pub(super) fn of(token: Option<&str>) -> AdminToken {
        token.map_or_else(AdminToken::none, |token| AdminToken::from_text(token).unwrap())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({})", if self.is_set() { "set" } else { "none" })
    }
}

/// There is no token to be had.
#[derive(Debug)]
pub enum AdminTokenError {
    /// The file can't be read.
    Read {
        /// The file, as configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What should be a token is none.
    NoToken {
        /// The file, as configured; `None`: it came from the environment.
        file: Option<PathBuf>,
    },
}

impl fmt::Display for AdminTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (TOKEN_CHARS.start(), TOKEN_CHARS.end());
        match self {
            AdminTokenError::Read { path, source } => {
                write!(
                    f,
                    "cannot read the admin token from {}: {source}; see TIDEGATE_ADMIN_TOKEN_FILE",
                    path.display()
                )
            }
            AdminTokenError::NoToken { file: Some(path) } => write!(
                f,
                "{}, line 1: expected an admin token of {least} to {most} printable ASCII characters without spaces; \
                 see TIDEGATE_ADMIN_TOKEN_FILE",
                path.display()
            ),
            AdminTokenError::NoToken { file: None } => {
                write!(f, "TIDEGATE_ADMIN_TOKEN: expected {least} to {most} printable ASCII characters without spaces")
            }
        }
    }
}

impl std::error::Error for AdminTokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AdminTokenError::Read { source, .. } => Some(source),
            AdminTokenError::NoToken { .. } => None,
        }
    }
}

/// The digest of the token in the first line of a file.
fn read(path: &Path) -> Result<Digest, AdminTokenError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| AdminTokenError::Read { path: path.to_owned(), source })?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    digest_of(line.trim_ascii()).ok_or_else(|| AdminTokenError::NoToken { file: Some(path.to_owned()) })
}

fn digest_of(token: &[u8]) -> Option<Digest> {
    let good = TOKEN_CHARS.contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
    good.then(|| Sha256::digest(token).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_the_first_line_of_its_file_and_is_replaced_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(AdminToken::from_file(&path), Err(AdminTokenError::Read { .. })));
        fs::write(&path, "0123456789abcdef\r\nwhat follows is a remark\n").unwrap();
        let token = AdminToken::from_file(&path).unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF") && !token.is(b""));
        assert!(!token.reload().unwrap(), "it is the same");
        fs::write(&path, "fedcba9876543210").unwrap();
        assert!(token.reload().unwrap());
        assert!(token.is(b"fedcba9876543210") && !token.is(b"0123456789abcdef"));
        fs::write(&path, "short").unwrap();
        let error = token.reload().unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("short"), "{error}");
        assert!(token.is(b"fedcba9876543210"), "a bad file changes nothing");
    }

    #[test]
    fn what_can_be_guessed_or_can_not_be_sent_is_no_token() {
        let long = "x".repeat(1025);
        for wrong in
            ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\u{e9}", "0123456789\u{1}abcdef", &long]
        {
            let error = AdminToken::from_text(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        assert_eq!(format!("{:?}", AdminToken::from_text("0123456789abcdef").unwrap()), "AdminToken(set)");
    }
}
