//! A look at every byte, and what is done about damage when the operator says so.

use std::io;

use super::examine::{Piece, examine};
use super::options::{Damage, LogRoute, Progress};
use super::record::{Stamp, put_lost};
use super::segment::{DATA_START, Header, file_name, number_of};
use super::storage::{File, Storage};
use super::survey::CHUNK;

/// One segment, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// The file's length. Bytes.
    pub len: u64,
    /// Up to where it has records. Bytes.
    pub used: u64,
    /// Messages in it.
    pub messages: u64,
    /// The lowest id of a message in it; 0: it has none.
    pub first_id: u64,
    /// The highest.
    pub last_id: u64,
    /// When its first message was stored; milliseconds since 1970; 0: it has none.
    pub first_ms: u64,
    /// And its last.
    pub last_ms: u64,
}

/// One route, as the log itself has written it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReport {
    /// Its topics, and whether the journal keeps them.
    pub route: LogRoute,
    /// How far it is.
    pub progress: Progress,
    /// Messages that are there and still to be delivered; of a route that keeps them: 0.
    pub unfinished: u64,
}

/// What is lost in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where, and what is wrong.
    pub damage: Damage,
    /// Bytes without a valid record.
    pub bytes: u64,
    /// Ids between which messages are missing, the first and the last; `None`: none can be.
    pub ids: Option<(u64, u64)>,
}

/// What was found, or done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The segments, in their order.
    pub segments: Vec<SegmentReport>,
    /// The routes, as they were when the log was last written to.
    pub routes: Vec<RouteReport>,
    /// Damage that stops a start; for a repair, what is lost.
    pub losses: Vec<Loss>,
    /// An unfinished end of the last segment, never acknowledged: a start cuts it. Bytes.
    pub torn: u64,
    /// Files that a repair has put aside.
    pub aside: Vec<String>,
}

impl Report {
    /// Whether a start would go on.
    pub fn is_sound(&self) -> bool {
        self.losses.is_empty()
    }
}

/// Reads and verifies everything, and changes nothing. Safe beside a running server.
///
/// # Errors
/// The system refuses.
pub fn verify<S: Storage>(storage: &S) -> io::Result<Report> {
    Ok(examine(storage)?.report)
}

/// Keeps every valid record, puts damaged files aside under `….damaged`, and says what is lost; then a start succeeds.
/// Only for whoever holds the data directory's lock.
///
/// # Errors
/// The system refuses. May be run again.
pub fn repair<S: Storage>(storage: &S) -> io::Result<Report> {
    resume(storage)?;
    let found = examine(storage)?;
    let mut aside = Vec::new();
    if !found.report.is_sound() {
        for piece in &found.pieces {
            match &piece.header {
                None => aside.push(put_aside(storage, &file_name(piece.number))?),
                Some(header) if piece.mend_header || !piece.gaps.is_empty() => {
                    aside.push(mend(storage, piece, header)?);
                }
                Some(_) => {}
            }
        }
    }
    let Report { losses, .. } = found.report;
    let after = examine(storage)?.report;
    if let Some(loss) = after.losses.first() {
        return Err(io::Error::other(format!("{} after the repair as well", loss.damage)));
    }
    Ok(Report { losses, aside, ..after })
}

/// What a repaired segment is called until it takes the other's place.
pub(super) const REPAIRED: &str = ".repaired";

/// A repair that was interrupted: what was ready takes its place, what was not is made anew.
fn resume<S: Storage>(storage: &S) -> io::Result<()> {
    // What is seen of an interrupted one need not be on the disk.
    storage.sync_names()?;
    let names = storage.list()?;
    for repaired in names.iter().filter(|name| name.ends_with(REPAIRED)) {
        let Some(name) = repaired.strip_suffix(REPAIRED).filter(|name| number_of(name).is_some()) else { continue };
        // The other one goes only when this one is on the disk.
        if names.iter().any(|other| other == name) {
            storage.remove(repaired)?;
        } else {
            storage.rename(repaired, name)?;
        }
        storage.sync_names()?;
    }
    Ok(())
}

/// Renames a file, to a name that none has.
fn put_aside<S: Storage>(storage: &S, name: &str) -> io::Result<String> {
    let names = storage.list()?;
    let mut aside = format!("{name}.damaged");
    let mut count = 1;
    while names.contains(&aside) {
        count += 1;
        aside = format!("{name}.damaged.{count}");
    }
    storage.rename(name, &aside)?;
    storage.sync_names()?;
    Ok(aside)
}

/// Writes a copy of a segment with what is wrong in it mended: every record stays where it is. The copy takes its place.
fn mend<S: Storage>(storage: &S, piece: &Piece, header: &Header) -> io::Result<String> {
    let name = file_name(piece.number);
    let repaired = format!("{name}{REPAIRED}");
    let from = storage.open(&name)?;
    let to = storage.create(&repaired, piece.len.max(piece.end.into()))?;
    let mut buffer = vec![0; CHUNK];
    let mut at = u64::from(DATA_START);
    while at < piece.end.into() {
        let len = (CHUNK as u64).min(u64::from(piece.end) - at) as usize;
        let read = from.read_at(buffer.get_mut(..len).unwrap_or_default(), at)?;
        if read == 0 {
            break;
        }
        to.write_at(buffer.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    for gap in &piece.gaps {
        let stamp = Stamp { seed: header.seed(), batch: gap.batch, synced: gap.synced };
        let mut lost = Vec::new();
        put_lost(&mut lost, stamp, gap.after + 1, (gap.to - gap.from) as usize);
        to.write_at(&lost, gap.from.into())?;
    }
    to.write_at(&header.page(), 0)?;
    to.set_len(piece.end.into())?;
    to.sync()?;
    storage.sync_names()?;
    let aside = put_aside(storage, &name)?;
    storage.rename(&repaired, &name)?;
    storage.sync_names()?;
    Ok(aside)
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
