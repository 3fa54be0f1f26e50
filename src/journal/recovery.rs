//! A start: what the log's files say, and a log that goes on from there.
//!
//! First everything is read and verified, and nothing is changed. Then what was never acknowledged is taken away, the
//! end is brought to the disk, and a new segment begun: torn places are never written over.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::batch::Batch;
use super::dedup::Dedup;
use super::log::{Log, Route};
use super::options::{CommitError, Cut, Damage, LogOptions, LogRoute, OpenError, Progress, Recovery};
use super::record::{Kind, View};
use super::reroute;
use super::retention::{Brief, Runs, Segment};
use super::segment::{Header, file_name};
use super::storage::{File, Storage};
use super::survey::{End, Order, Survey, refused, scan, survey};

/// [`Log::open`].
pub(super) fn open<S: Storage>(
    storage: Arc<S>,
    options: LogOptions,
    now_ms: u64,
) -> Result<(Log<S>, Recovery), OpenError> {
    let options = options.bounded();
    let survey = survey(&*storage)?;
    if let Some(damage) = survey.faults.first() {
        return Err(OpenError::Damaged(damage.clone()));
    }
    let mut reading = Reading::new(&options, now_ms);
    let mut last = None;
    let chain: Vec<Header> = survey.pieces.iter().filter_map(|(_, header)| *header).collect();
    for (index, header) in chain.iter().enumerate() {
        let expected = chain.get(index + 1).map(|next| next.previous_end);
        last = Some(reading.read(&*storage, header, expected)?);
    }
    survey.superseded.iter().try_for_each(|number| without_messages(&*storage, *number))?;
    let routes = reading.settle(&*storage)?;
    let cut = clean_up(&*storage, &survey, last, reading.segments.back_mut())?;

    let same = reroute::is_of(&reading.table, &options.routes);
    let mut log = reading.into_log(storage, &survey, routes)?;
    let recovery = Recovery {
        segments: log.segments(),
        messages: log.older.iter().map(|segment| segment.messages).sum(),
        bytes: log.older.iter().map(|segment| u64::from(segment.end)).sum(),
        cut,
        unfinished: (0..log.routes.len()).map(|route| log.unfinished(route)).collect(),
    };
    begin(&mut log, same)?;
    Ok((log, recovery))
}

/// What is gathered while the records are read.
pub(super) struct Reading<'o> {
    pub options: &'o LogOptions,
    now_ms: u64,
    order: Order,
    pub segments: VecDeque<Segment>,
    dedup: Dedup,
    /// The routes, as they were when the last record was written, and how far they were.
    pub table: Vec<(LogRoute, Progress)>,
    /// Some table was of other routes, or goes back: what is unfinished has to be counted once more.
    pub rerouted: bool,
    pub runs: Vec<Runs>,
    /// No message after the last record has this id or a lower one.
    next_id: u64,
}

impl<'o> Reading<'o> {
    fn new(options: &'o LogOptions, now_ms: u64) -> Reading<'o> {
        let window_ms = u64::try_from(options.dedup_window.as_millis()).unwrap_or(u64::MAX);
        Reading {
            options,
            now_ms,
            order: Order::default(),
            segments: VecDeque::new(),
            dedup: Dedup::new(window_ms, options.dedup_max),
            table: Vec::new(),
            rerouted: false,
            runs: options.routes.iter().map(|_| Runs::default()).collect(),
            next_id: 1,
        }
    }

    /// Reads and verifies one segment.
    fn read<S: Storage>(&mut self, storage: &S, header: &Header, expected: Option<u32>) -> Result<End, OpenError> {
        let name = file_name(header.number);
        let refused = |source| refused("read", &name, source);
        let file = storage.open(&name).map_err(refused)?;
        let bytes = file.len().map_err(refused)?;
        let mut segment = Segment::new(*header, bytes, 0, self.options.routes.len());
        let mut order = self.order;
        let end = scan(file, header, expected, &mut order, |view| self.add(&mut segment, view)).map_err(refused)?;
        if let Some(damage) = end.damage {
            return Err(OpenError::Damaged(damage));
        }
        segment.end = end.at;
        self.order = order;
        self.next_id = self.next_id.max(header.first_id).max(order.last_id + 1);
        self.segments.push_back(segment);
        Ok(end)
    }

    fn add(&mut self, segment: &mut Segment, view: &View<'_>) {
        match view.kind {
            Kind::Message => {
                let route = self.options.route_of(view.topic());
                let route = self.options.delivers(route).then_some(route);
                // What was stored to be kept is kept for its time, also when a new route takes its topic.
                let old = || self.table.iter().find(|(old, _)| old.pattern.matches(view.topic()));
                let kept = route.is_none() || (self.rerouted && old().is_none_or(|(old, _)| old.keeps));
                segment.add(Brief::of(view, route, kept));
                if let Some(runs) = route.and_then(|route| self.runs.get_mut(route)) {
                    runs.push(view.id);
                }
                if let Some(key) = view.key() {
                    let digest = self.dedup.digest(view.principal(), &key);
                    self.dedup.insert(digest, view.id, view.time_ms, self.now_ms);
                }
            }
            Kind::Mark => {}
            Kind::Table | Kind::Progress | Kind::Lost => {
                let before = view.begins().then(|| self.table.clone());
                reroute::follow(&mut self.table, view);
                if let Some(before) = before {
                    // Other routes in between, of which nothing is left but that one of these begins again.
                    let back = self.table.iter().zip(&before).any(|((_, now), (_, before))| now.upto < before.upto);
                    self.rerouted |= back || !reroute::is_of(&self.table, &self.options.routes);
                    if !before.is_empty() && reroute::leaves_some(&self.table, &before) {
                        self.segments.iter_mut().for_each(Segment::keep);
                    }
                }
                // What is done need not be remembered for long; but by other routes it may not be done.
                if !self.rerouted {
                    let done = self.table.iter().map(|(_, progress)| progress.upto);
                    self.runs.iter_mut().zip(done).for_each(|(runs, upto)| runs.finish(upto));
                }
            }
        }
    }

    /// How far each route is, and what it has still to deliver.
    fn settle<S: Storage>(&mut self, storage: &S) -> Result<Vec<Route>, OpenError> {
        for (_, progress) in &self.table {
            // Never an id for a message that would be taken for done.
            let highest = progress.beyond.last().copied().unwrap_or(0).max(progress.upto);
            self.next_id = self.next_id.max(highest.saturating_add(1));
        }
        let mut progress = if self.rerouted {
            reroute::settle(self, storage, self.next_id - 1)?
        } else if self.table.is_empty() {
            vec![Progress::default(); self.options.routes.len()]
        } else {
            self.table.iter().map(|(_, progress)| progress.clone()).collect()
        };
        // What was deleted was done, though the progress that said so may have been lost.
        let gone = self.segments.front().map_or(0, |oldest| oldest.header.first_id.saturating_sub(1));
        for (_, progress) in progress.iter_mut().enumerate().filter(|(index, _)| self.options.delivers(*index)) {
            progress.upto = progress.upto.max(gone);
            let upto = progress.upto;
            progress.beyond.retain(|id| *id > upto);
        }
        let runs = std::mem::take(&mut self.runs).into_iter();
        Ok(runs.zip(progress).map(|(runs, progress)| Route { progress, dirty: false, runs }).collect())
    }

    fn into_log<S: Storage>(self, storage: Arc<S>, survey: &Survey, routes: Vec<Route>) -> Result<Log<S>, OpenError> {
        let mut identity = [0; 16];
        match survey.identity {
            Some(known) => identity = known,
            None => getrandom::fill(&mut identity)
                .map_err(|error| refused("choose the identity", "", io::Error::other(error.to_string())))?,
        }
        let durable_id = if self.order.last_id > 0 { self.order.last_id } else { self.next_id - 1 };
        Ok(Log {
            storage,
            options: self.options.clone(),
            identity,
            active: None,
            older: self.segments,
            batch: Batch::default(),
            made: Vec::new(),
            routes,
            dedup: self.dedup,
            next_id: self.next_id,
            durable_id,
            next_batch: self.order.last_batch + 1,
            next_number: survey.newest + 1,
            full: None,
            own: false,
            failed: None,
            free: None,
            now_ms: self.now_ms,
        })
    }
}

/// A segment may only be passed over when it has no messages.
pub(super) fn without_messages<S: Storage>(storage: &S, number: u64) -> Result<(), OpenError> {
    let name = file_name(number);
    let refused = |source| refused("read", &name, source);
    let file = storage.open(&name).map_err(refused)?;
    let Some(header) = Header::read(&file, number).map_err(refused)?.header() else { return Ok(()) };
    let mut messages = 0;
    let count = |view: &View<'_>| messages += u64::from(view.kind == Kind::Message);
    scan(file, &header, None, &mut Order::default(), count).map_err(refused)?;
    if messages == 0 {
        return Ok(());
    }
    let what = format!("its successor knows nothing of the {messages} messages in it");
    Err(OpenError::Damaged(Damage { file: name, offset: 0, what }))
}

/// Takes away what was never acknowledged, and brings what is left to the disk: a record that can be read
/// need not be there yet.
fn clean_up<S: Storage>(
    storage: &S,
    survey: &Survey,
    last: Option<End>,
    segment: Option<&mut Segment>,
) -> Result<Option<Cut>, OpenError> {
    let sync_names = || storage.sync_names().map_err(|source| refused("sync the directory", "", source));
    sync_names()?;
    for number in survey.empty.iter().chain(&survey.superseded) {
        let name = file_name(*number);
        storage.remove(&name).map_err(|source| refused("remove", &name, source))?;
        // One after the other: never a gap, whatever a crash leaves.
        sync_names()?;
    }
    let (Some(end), Some(segment)) = (last, segment) else { return Ok(survey.torn.clone()) };
    let name = file_name(segment.header.number);
    finish(storage, &name, &end).map_err(|source| refused("cut the end of", &name, source))?;
    segment.bytes = end.at.into();
    let torn = (end.torn > 0).then(|| Cut { file: name, offset: end.at.into(), bytes: end.torn.into() });
    Ok(torn.or_else(|| survey.torn.clone()))
}

/// Cuts the last segment and syncs it. A sync that failed in another life may have left pages that look as if they
/// were on the disk: what no record says was synced is written once more.
fn finish<S: Storage>(storage: &S, name: &str, end: &End) -> io::Result<()> {
    let file = storage.open(name)?;
    let mut buffer = vec![0; super::survey::CHUNK];
    let mut at = end.proven;
    while at < end.at {
        let len = buffer.len().min((end.at - at) as usize);
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        if file.read_at(bytes, at.into())? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(bytes, at.into())?;
        at += len as u32;
    }
    file.set_len(end.at.into())?;
    file.sync()
}

/// Begins a new segment. One without messages before it is needed no more, unless it is all that knows of routes which
/// are not `the_same` today.
fn begin<S: Storage>(log: &mut Log<S>, the_same: bool) -> Result<(), OpenError> {
    let idle = log.older.pop_back_if(|segment| segment.messages == 0 && the_same);
    let begun = match log.turn_over() {
        Ok(()) => log.commit(),
        Err(why) => Err(CommitError::NoRoom(why)),
    };
    match (begun, idle) {
        (Ok(()), Some(idle)) => {
            let number = idle.header.number;
            log.remove(number).map_err(|source| refused("remove", &file_name(number), source))
        }
        (Err(CommitError::NoRoom(why)), idle) => {
            log::warn!("{why}; it goes on when there is room");
            log.older.extend(idle);
            Ok(())
        }
        (Err(CommitError::Failed(source)), _) => Err(refused("begin a segment", "", source)),
        (Ok(()), None) => Ok(()),
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
