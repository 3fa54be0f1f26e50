//! What is there and what is wrong with it, down to every byte; nothing is changed.

use std::io;

use super::options::{Damage, LogRoute, OpenError, Progress};
use super::record::Kind;
use super::recovery::without_messages;
use super::repair::{Loss, Report, RouteReport, SegmentReport};
use super::reroute::follow;
use super::segment::{Header, file_name};
use super::storage::{File, Storage};
use super::survey::{End, Gap, INTERRUPTED, Order, Survey, salvage, survey};

/// All there is to say of a log.
#[derive(Debug, Default)]
pub(super) struct Examined {
    pub report: Report,
    pub pieces: Vec<Piece>,
}

/// One segment.
#[derive(Debug)]
pub(super) struct Piece {
    pub number: u64,
    /// The header that it should have; `None`: nothing of it can be used.
    pub header: Option<Header>,
    /// Its own is not that.
    pub mend_header: bool,
    pub gaps: Vec<Gap>,
    /// Where its records end.
    pub end: u32,
    pub len: u64,
}

/// Reads everything.
///
/// # Errors
/// The system refuses.
pub(super) fn examine<S: Storage>(storage: &S) -> io::Result<Examined> {
    let survey = survey(storage).map_err(|error| match error {
        OpenError::Io { source, .. } => source,
        OpenError::Damaged(damage) => io::Error::other(damage.to_string()),
    })?;
    let mut work =
        Work { identity: survey.identity, torn: survey.torn.as_ref().map_or(0, |cut| cut.bytes), ..Work::default() };
    for index in 0..survey.pieces.len() {
        work.piece(storage, &survey, index)?;
    }
    for damage in survey.faults.iter().filter(|fault| fault.what == INTERRUPTED) {
        work.report.losses.push(Loss { damage: damage.clone(), bytes: 0, ids: None });
    }
    for number in &survey.superseded {
        if let Err(OpenError::Damaged(damage)) = without_messages(storage, *number) {
            work.report.losses.push(Loss { damage, bytes: 0, ids: None });
            work.pieces.push(Piece {
                number: *number,
                header: None,
                mend_header: false,
                gaps: Vec::new(),
                end: 0,
                len: 0,
            });
        }
    }
    let mut examined = Examined { report: work.report, pieces: work.pieces };
    examined.report.torn = work.torn;
    examined.report.routes = routes(storage, &examined.pieces, work.table)?;
    Ok(examined)
}

#[derive(Default)]
struct Work {
    identity: Option<[u8; 16]>,
    report: Report,
    pieces: Vec<Piece>,
    order: Order,
    table: Vec<(LogRoute, Progress)>,
    torn: u64,
}

impl Work {
    fn piece<S: Storage>(&mut self, storage: &S, survey: &Survey, index: usize) -> io::Result<()> {
        let Some((number, own)) = survey.pieces.get(index).copied() else { return Ok(()) };
        let name = file_name(number);
        let file = match storage.open(&name) {
            // Beside a running server: it was done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let len = file.len()?;
        let next = survey.pieces.get(index + 1).and_then(|(_, header)| *header);
        let is_foreign = |header: &Header| Some(header.identity) != self.identity;
        let last_id = self.order.last_id;
        let header = match own {
            Some(own) if is_foreign(&own) => None,
            Some(own) => Some(own),
            None => self.identity.map(|identity| Header {
                identity,
                number,
                first_id: last_id + 1,
                previous: 0,
                previous_end: 0,
            }),
        };
        let before = self.pieces.iter().rev().find(|piece| piece.header.is_some());
        let header = header.map(|header| match before {
            Some(before) => Header { previous: before.number, previous_end: before.end, ..header },
            None => header,
        });
        let first_id = next.map(|next| next.first_id);
        self.faults(survey, &name, own, header.is_none().then_some((len, first_id)));
        let mend_header = own != header || survey.faults.iter().any(|fault| fault.file == name && fault.offset < 4096);
        let mut piece = Piece { number, header, mend_header, gaps: Vec::new(), end: 0, len };
        if let Some(header) = header {
            let is_last = index + 1 == survey.pieces.len();
            let expected = next.filter(|next| next.identity == header.identity && next.previous == number);
            let found = self.records(file, &header, expected.map(|next| next.previous_end), len)?;
            (piece.end, piece.gaps) = (found.0.at, found.1);
            if is_last && own.is_some() {
                self.torn += u64::from(found.0.torn);
            } else if found.0.torn > 0 {
                self.unread(&name, found.0.at, found.0.torn, first_id);
            }
            for gap in &piece.gaps {
                let ids = lost_ids(gap.after, gap.before.or(first_id));
                let loss = Loss { damage: gap.damage.clone(), bytes: u64::from(gap.to - gap.from), ids };
                self.report.losses.retain(|other| {
                    (&other.damage.file, other.damage.offset) != (&loss.damage.file, loss.damage.offset)
                });
                self.report.losses.push(loss);
            }
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// What the survey has found wrong with a file, or with the one that should be before it. `unusable`: nothing of it
    /// is kept, with its length and the first id behind it.
    fn faults(&mut self, survey: &Survey, name: &str, own: Option<Header>, unusable: Option<(u64, Option<u64>)>) {
        let last_id = self.order.last_id;
        let is_there = |name: &str| survey.pieces.iter().any(|(number, _)| file_name(*number) == name);
        for fault in &survey.faults {
            let missing = own.filter(|own| file_name(own.previous) == fault.file && !is_there(&fault.file));
            let ids = match (missing, unusable) {
                (Some(own), _) => lost_ids(last_id, Some(own.first_id)),
                (None, _) if fault.file != *name => continue,
                (None, Some((_, first_id))) => lost_ids(last_id, first_id),
                (None, None) => None,
            };
            let bytes = unusable.filter(|_| missing.is_none()).map_or(0, |(len, _)| len);
            self.report.losses.push(Loss { damage: fault.clone(), bytes, ids });
        }
    }

    /// The end of a segment that is not the last, and whose successor can't say where it should be.
    fn unread(&mut self, name: &str, at: u32, bytes: u32, first_id: Option<u64>) {
        let what = "its records end, and its successor does not say where".to_owned();
        let damage = Damage { file: name.to_owned(), offset: at.into(), what };
        let ids = lost_ids(self.order.last_id, first_id);
        self.report.losses.push(Loss { damage, bytes: bytes.into(), ids });
    }

    fn records<F: File>(
        &mut self,
        file: F,
        header: &Header,
        expected: Option<u32>,
        len: u64,
    ) -> io::Result<(End, Vec<Gap>)> {
        let mut segment = SegmentReport {
            file: file_name(header.number),
            len,
            used: 0,
            messages: 0,
            first_id: 0,
            last_id: 0,
            first_ms: 0,
            last_ms: 0,
        };
        let table = &mut self.table;
        let found = salvage(file, header, expected, &mut self.order, |view| {
            if view.kind != Kind::Message {
                return follow(table, view);
            }
            if segment.messages == 0 {
                (segment.first_id, segment.first_ms) = (view.id, view.time_ms);
            }
            segment.messages += 1;
            (segment.last_id, segment.last_ms) = (view.id, view.time_ms);
        })?;
        segment.used = found.0.at.into();
        self.report.segments.push(segment);
        Ok(found)
    }
}

/// Ids that may be missing between two messages.
fn lost_ids(after: u64, before: Option<u64>) -> Option<(u64, u64)> {
    let (first, last) = (after + 1, before.map_or(u64::MAX, |before| before.saturating_sub(1)));
    (first <= last).then_some((first, last))
}

/// How far the routes are, and what they have still to deliver.
fn routes<S: Storage>(storage: &S, pieces: &[Piece], table: Vec<(LogRoute, Progress)>) -> io::Result<Vec<RouteReport>> {
    let mut routes: Vec<RouteReport> =
        table.into_iter().map(|(route, progress)| RouteReport { route, progress, unfinished: 0 }).collect();
    let delivering = routes.iter().filter(|route| !route.route.keeps);
    let Some(from) = delivering.map(|route| route.progress.upto).min() else { return Ok(routes) };
    for (index, piece) in pieces.iter().enumerate() {
        let next = pieces.get(index + 1).and_then(|next| next.header);
        let Some(header) = piece.header.filter(|_| next.is_none_or(|next| next.first_id > from + 1)) else { continue };
        let file = match storage.open(&file_name(piece.number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let expected = next.map(|_| piece.end);
        salvage(file, &header, expected, &mut Order::default(), |view| {
            if view.kind != Kind::Message || view.id <= from {
                return;
            }
            let topic = view.topic();
            let route = routes.iter_mut().find(|route| route.route.pattern.matches(topic));
            if let Some(route) = route.filter(|route| !route.route.keeps && !route.progress.has(view.id)) {
                route.unfinished += 1;
            }
        })?;
    }
    Ok(routes)
}
