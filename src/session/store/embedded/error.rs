//! Why the embedded session store can't be opened, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redb::DatabaseError;

use super::FORMAT;
use crate::session::store::StoreDown;

/// Why the file can't be used.
#[derive(Debug)]
pub enum OpenError {
    /// It is damaged, or none of ours.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer tidegate has written it.
    Newer {
        /// The file.
        path: PathBuf,
        /// The format that it has.
        format: u64,
    },
    /// Another process has it.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk, or the directory.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Damaged { path, why } => write!(
                f,
                "{0}: the session store is damaged: {why}. Put a backup in its place, or move it away (mv {0} \
                 {0}.damaged) to start with no sessions: clients get new ones",
                path.display()
            ),
            OpenError::Newer { path, format } => write!(
                f,
                "{}: the session store has format {format}, and this tidegate knows {FORMAT}: start the tidegate that \
                 wrote it, or move the file away to start with no sessions",
                path.display()
            ),
            OpenError::InUse { path } => {
                write!(f, "{}: another process uses this session store: stop it first", path.display())
            }
            OpenError::Io { path, why } => write!(
                f,
                "{}: the session store can't be opened: {why}; see to the disk and to who may write there",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<OpenError> for StoreDown {
    fn from(error: OpenError) -> StoreDown {
        StoreDown(error.to_string())
    }
}

impl OpenError {
    pub(super) fn of_database(path: &Path, error: DatabaseError) -> OpenError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
            error => OpenError::of(path, error.into()),
        }
    }

    pub(super) fn of(path: &Path, error: redb::Error) -> OpenError {
        let (path, why) = (path.to_owned(), error.to_string());
        match error {
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => OpenError::Io { path, why },
            _ => OpenError::Damaged { path, why },
        }
    }
}
