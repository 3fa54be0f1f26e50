//! Reads messages in their order, while another thread or process writes them.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::Message;
use super::options::Damage;
use super::record::Kind;
use super::segment::{DATA_START, Header, Scanner, Step, file_name, number_of};
use super::storage::{File, Storage};

/// Bytes read at a time: a delivery thread has one such buffer.
const CHUNK: usize = 64 * 1024;

/// Where one reader is. It has a file open and one buffer, which holds what it has read ahead.
#[derive(Debug)]
pub struct Reader<S: Storage> {
    storage: Arc<S>,
    after: u64,
    place: Option<Place<S::File>>,
}

#[derive(Debug)]
struct Place<F> {
    header: Header,
    scanner: Scanner<F>,
}

/// What a reader does where no record is.
enum Next<F> {
    Wait,
    Go(Place<F>),
    Damaged,
}

impl<S: Storage> Reader<S> {
    /// Reads from the first message with a higher id than `after`. Nothing is opened yet.
    pub fn new(storage: Arc<S>, after: u64) -> Reader<S> {
        Reader { storage, after, place: None }
    }

    /// The next message with an id of at most `upto`; `None`: there is none, for now. `upto` is the id up to which
    /// all is durable, or `u64::MAX` where that is not known: then what can't be read yet is no damage, and what
    /// is read may not be durable yet.
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
    pub fn next_of(&mut self, upto: u64, mut wanted: impl FnMut(&str) -> bool) -> Result<Option<Message>, ReadError> {
        // What was read ahead may be older than what is there by now: looked at twice before it is no record.
        let mut fresh = false;
        while self.after < upto {
            let Some(place) = self.place.as_mut() else {
                self.place = self.find()?;
                match &self.place {
                    Some(place) => self.after = self.after.max(place.header.first_id.saturating_sub(1)),
                    None => return Ok(None),
                }
                continue;
            };
            let number = place.header.number;
            let why = match place.scanner.next().map_err(|source| ReadError::of(number, source))? {
                Step::Record(at, view) if view.kind == Kind::Message && view.id > upto => {
                    place.scanner.back_to(at);
                    return Ok(None);
                }
                Step::Record(_, view) => {
                    fresh = false;
                    if view.kind == Kind::Message && view.id > self.after {
                        self.after = view.id;
                        if wanted(view.topic()) {
                            return Ok(Some(view.message()));
                        }
                    }
                    continue;
                }
                Step::Invalid(why) => why,
            };
            place.scanner.forget();
            if !fresh {
                fresh = true;
                continue;
            }
            let (from, position) = (place.header, place.scanner.position());
            match self.next_place(&from, position, upto)? {
                Next::Wait => return Ok(None),
                Next::Go(next) => {
                    self.after = self.after.max(next.header.first_id.saturating_sub(1));
                    self.place = Some(next);
                    fresh = false;
                }
                Next::Damaged => {
                    let (file, offset) = (file_name(number), position.into());
                    return Err(ReadError::Damaged(Damage { file, offset, what: why.to_owned() }));
                }
            }
        }
        Ok(None)
    }

    /// The id of the last message that was returned or passed over.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// Whether anything but the room to come follows what was read: a record that is being written, one that a
    /// crash has torn, or damage. With `u64::MAX` none of these is an error of [`Reader::next`].
    ///
    /// # Errors
    /// The system refuses.
    pub fn has_rest(&self) -> Result<bool, ReadError> {
        let Some(place) = &self.place else { return Ok(false) };
        let (mut buffer, mut at) = (vec![0; CHUNK], u64::from(place.scanner.position()));
        loop {
            let read = place.scanner.file().read_at(&mut buffer, at);
            match read.map_err(|source| ReadError::of(place.header.number, source))? {
                0 => return Ok(false),
                n if buffer.iter().take(n).any(|byte| *byte != 0) => return Ok(true),
                n => at += n as u64,
            }
        }
    }

    /// The segment that has the next message, or would have it.
    fn find(&self) -> Result<Option<Place<S::File>>, ReadError> {
        let mut found = None;
        for number in self.numbers()?.into_iter().rev() {
            if let Some(place) = self.open(number)? {
                let is_it = place.header.first_id <= self.after.saturating_add(1);
                found = Some(place);
                if is_it {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Where it goes on from where this segment has no more records.
    fn next_place(&self, from: &Header, position: u32, upto: u64) -> Result<Next<S::File>, ReadError> {
        for number in self.numbers()?.into_iter().filter(|number| *number > from.number) {
            let Some(mut next) = self.open(number)? else { continue };
            if next.header.previous != from.number || next.header.previous_end <= position {
                return Ok(Next::Go(next));
            }
            // It was made before the last records were written to this one, and is written to after that.
            let begun = next.scanner.next().map_err(|source| ReadError::of(number, source))?;
            return Ok(if upto != u64::MAX || matches!(begun, Step::Record(..)) { Next::Damaged } else { Next::Wait });
        }
        Ok(if upto == u64::MAX { Next::Wait } else { Next::Damaged })
    }

    fn numbers(&self) -> Result<Vec<u64>, ReadError> {
        let names = self.storage.list().map_err(|source| ReadError::Io { file: String::new(), source })?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A segment; `None`: it is gone, or has no header yet.
    fn open(&self, number: u64) -> Result<Option<Place<S::File>>, ReadError> {
        let file = match self.storage.open(&file_name(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| ReadError::of(number, source))?,
        };
        let page = Header::read(&file, number).map_err(|source| ReadError::of(number, source))?;
        let Some(header) = page.header() else { return Ok(None) };
        Ok(Some(Place { header, scanner: Scanner::new(file, header.seed(), DATA_START, CHUNK) }))
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

impl ReadError {
    fn of(number: u64, source: io::Error) -> ReadError {
        ReadError::Io { file: file_name(number), source }
    }
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

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
