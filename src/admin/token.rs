//! The operator's token: read from a file or given, kept as a digest, and replaced while the port is served.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{AdminAuth, is_admin_token};
use crate::limits::ADMIN_TOKEN_CHARS;

/// Bytes of its file that are looked at.
const MAX_FILE: u64 = 64 * 1024;

type Digest = [u8; 32];

/// The token that the admin port asks for, if it asks for one. Its debug form does not show it.
pub struct AdminToken(RwLock<Option<Digest>>);

impl AdminToken {
    /// Reads what is configured.
    ///
    /// # Errors
    /// The file can't be read, or holds no token. Nothing of its content is in the error.
    pub fn new(auth: &AdminAuth) -> Result<AdminToken, AdminTokenError> {
        Ok(AdminToken(RwLock::new(read(auth)?)))
    }

    /// Reads what is configured now, and the file anew. Returns whether the token is another one.
    ///
    /// # Errors
    /// As for [`AdminToken::new`]; the old one stays.
    pub fn reload(&self, auth: &AdminAuth) -> Result<bool, AdminTokenError> {
        let digest = read(auth)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, digest) != digest)
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether this is the token; the time that it takes does not tell how much of it is right.
    pub(super) fn is(&self, token: &[u8]) -> bool {
        let wanted = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        wanted.is_some_and(|wanted| bool::from(wanted.ct_eq(&Digest::from(Sha256::digest(token)))))
    }

    #[cfg(test)]
    pub(super) fn of(token: Option<&str>) -> AdminToken {
        let auth = token.map_or(AdminAuth::None, |token| AdminAuth::Token(crate::config::Secret::new(token)));
        AdminToken::new(&auth).unwrap()
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
        let (least, most) = (ADMIN_TOKEN_CHARS.start(), ADMIN_TOKEN_CHARS.end());
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

/// The digest of the configured token.
fn read(auth: &AdminAuth) -> Result<Option<Digest>, AdminTokenError> {
    let (line, file) = match auth {
        AdminAuth::None => return Ok(None),
        AdminAuth::Token(token) => (token.reveal().as_bytes().to_vec(), None),
        AdminAuth::File(path) => (first_line(path)?, Some(path.clone())),
    };
    if !is_admin_token(&line) {
        return Err(AdminTokenError::NoToken { file });
    }
    Ok(Some(Sha256::digest(&line).into()))
}

fn first_line(path: &Path) -> Result<Vec<u8>, AdminTokenError> {
    let failed = |source| AdminTokenError::Read { path: path.to_owned(), source };
    // Before it is opened: to open a pipe is to wait for somebody to write into it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & crate::auth::OTHERS != 0 {
        let path = path.display();
        log::warn!("the admin token file {path} may be used by others than its owner and group: chmod g-w,o= {path}");
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_token_is_the_first_line_of_its_file_and_is_replaced_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let auth = AdminAuth::File(path.clone());
        assert!(matches!(AdminToken::new(&auth), Err(AdminTokenError::Read { .. })));
        fs::write(&path, "0123456789abcdef\r\nwhat follows is a remark\n").unwrap();
        let token = AdminToken::new(&auth).unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF") && !token.is(b""));
        assert!(!token.reload(&auth).unwrap(), "it is the same");
        fs::write(&path, "fedcba9876543210").unwrap();
        assert!(token.reload(&auth).unwrap());
        assert!(token.is(b"fedcba9876543210") && !token.is(b"0123456789abcdef"));
        fs::write(&path, "short").unwrap();
        let error = token.reload(&auth).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("short"), "{error}");
        assert!(token.is(b"fedcba9876543210"), "a bad file changes nothing");
    }

    #[test]
    fn what_can_be_guessed_or_can_not_be_sent_is_no_token() {
        let long = "x".repeat(1025);
        for wrong in
            ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\u{e9}", "0123456789\u{1}abcdef", &long]
        {
            let error = AdminToken::new(&AdminAuth::Token(Secret::new(wrong))).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        let token = AdminToken::of(Some("0123456789abcdef"));
        assert_eq!(format!("{token:?} {:?}", Secret::new("0123456789abcdef")), "AdminToken(set) Secret");
    }
}
