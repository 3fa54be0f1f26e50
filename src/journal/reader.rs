//! Reads messages in their order, while another thread or process writes them.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::Message;
use super::options::Damage;
use super::storage::Storage;

/// Where one reader is.
#[derive(Debug)]
pub struct Reader<S: Storage> {
    storage: Arc<S>,
    after: u64,
}

impl<S: Storage> Reader<S> {
    /// Reads from the first message with a higher id than `after`. Nothing is opened yet.
    pub fn new(storage: Arc<S>, after: u64) -> Reader<S> {
        Reader { storage, after }
    }

    /// The next message with an id of at most `upto`; `None`: there is none, for now. `upto` is the id up to which
    /// all is durable, or `u64::MAX` where that is not known: then what can't be read yet is no damage.
    ///
    /// # Errors
    /// A record that should be there is damaged; the system refuses. Neither moves the reader.
    pub fn next(&mut self, upto: u64) -> Result<Option<Message>, ReadError> {
        self.next_of(upto, |_| true)
    }

    /// The same, of messages whose topic is wanted; the others are passed over without being copied.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next_of(&mut self, upto: u64, wanted: impl FnMut(&str) -> bool) -> Result<Option<Message>, ReadError> {
        let _ = (upto, wanted, &self.storage);
        unimplemented!()
    }

    /// The id of the last message that was returned or passed over.
    pub fn position(&self) -> u64 {
        self.after
    }
}

/// A reader can't go on.
#[derive(Debug)]
pub enum ReadError {
    /// A record is damaged.
    Damaged(Damage),
    /// The system refused.
    Io {
        /// With which file; empty: the directory.
        file: String,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Damaged(damage) => write!(f, "the journal's file {damage}"),
            ReadError::Io { file, source } if file.is_empty() => write!(f, "cannot list the journal's files: {source}"),
            ReadError::Io { file, source } => write!(f, "cannot read the journal's file {file}: {source}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Damaged(_) => None,
            ReadError::Io { source, .. } => Some(source),
        }
    }
}
