//! A whole run: starts the generators, has them begin together, and makes one report of what they tell.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, never, select, unbounded};

use super::account::{Errors, Tally};
use super::episodes::Episodes;
use super::hist::Hist;
use super::ledger;
use super::message::{Final, Message, Order, Sample};
use super::net;
use super::plan::{Pacing, Settings, Shape};
use super::report::{Generator, Point, Report};
use super::worker::{Told, Worker};

/// Above this share of the time, a generator has no time to spare.
const BUSY: f64 = 0.9;
/// A generator that was this late with a send of the schedule has fallen behind. Nanoseconds.
const LATE: u64 = 10_000_000;

/// What whoever runs it may say meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// One ECHO on each connection.
    Echo,
    /// End in good order, now.
    Stop,
}

/// Whoever wants to see how it goes.
pub trait Watch {
    /// All connections that could be had are READY; the load begins.
    fn connected(&mut self, connections: u64);
    /// An interval is over.
    fn interval(&mut self, point: &Point, errors: u64);
    /// One ECHO on each connection is done: sent, and of those answered rightly.
    fn echoed(&mut self, sent: u64, answered: u64);
    /// Every connection has ended; what is left is to report.
    fn settled(&mut self);
    /// Something worth a line.
    fn say(&mut self, text: &str);
}

/// There is nothing to report; says why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// Makes the load and reports.
///
/// # Errors
/// The server's name has no address, nothing could connect, or a generator did not start or end.
pub fn run(settings: &Settings, words: &Receiver<Word>, watch: &mut dyn Watch) -> Result<Report, LoadError> {
    let begun = SystemTime::now();
    let server = net::resolve(&settings.address).map_err(|error| {
        LoadError(format!("cannot find the server {}: {error}; expected host:port", settings.address))
    })?;
    let (told, inbox) = unbounded();
    let mut workers = start(settings, server, begun, &told).map_err(LoadError)?;
    drop(told);
    let mut course = Course::new(workers.len());
    course.follow(&mut workers, &inbox, words, watch).map_err(LoadError)?;
    watch.settled();
    drop(workers);
    let (tally, mut report) = course.report(settings, begun);
    if !settings.ledgers.is_empty() {
        let mut company = Company { words, watch };
        report.ledger = Some(ledger::check(&settings.ledgers, begun, &tally, settings.ledger_wait, &mut company));
    }
    Ok(report)
}

fn start(
    settings: &Settings,
    server: SocketAddr,
    begun: SystemTime,
    told: &Sender<Told>,
) -> Result<Vec<Worker>, String> {
    let limit = net::connection_limit();
    let needed = settings.connections.div_ceil(limit);
    let processes = settings.processes.unwrap_or(needed).clamp(1, settings.connections);
    if processes < needed {
        return Err(format!(
            "{} connections need {needed} processes, one may open {limit} files: leave out --processes, or raise the limit (ulimit -n)",
            settings.connections
        ));
    }
    let sources = match settings.sources.as_slice() {
        [] => net::own_sources(server, settings.connections),
        chosen => chosen.to_vec(),
    };
    let began = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = u64::try_from(began.as_nanos()).unwrap_or(u64::MAX);
    let plans = settings.split(server, &sources, processes, began);
    if let [plan] = plans.as_slice() {
        return Ok(vec![Worker::thread(0, plan.clone(), told.clone())?]);
    }
    plans.iter().enumerate().map(|(index, plan)| Worker::process(index, plan, settings, told.clone())).collect()
}

/// One interval, as far as the generators have told of it.
#[derive(Debug, Default)]
struct Merging {
    told: usize,
    point: Point,
    hist: Hist,
}

/// What the generators have told until now.
#[derive(Debug)]
struct Course {
    generators: usize,
    connected: usize,
    connections: u64,
    /// Why a generator has no connection at all.
    trouble: Option<String>,
    started: bool,
    echoed: (usize, u64, u64),
    merging: BTreeMap<u64, Merging>,
    timeline: Vec<Point>,
    errors: u64,
    finals: Vec<Option<Final>>,
}

impl Course {
    fn new(generators: usize) -> Course {
        Course {
            generators,
            connected: 0,
            connections: 0,
            trouble: None,
            started: false,
            echoed: (0, 0, 0),
            merging: BTreeMap::new(),
            timeline: Vec::new(),
            errors: 0,
            finals: vec![None; generators],
        }
    }

    /// Until all generators are done.
    fn follow(
        &mut self,
        workers: &mut [Worker],
        inbox: &Receiver<Told>,
        words: &Receiver<Word>,
        watch: &mut dyn Watch,
    ) -> Result<(), String> {
        let mut words = words.clone();
        while self.finals.iter().any(Option::is_none) {
            select! {
                recv(inbox) -> told => match told {
                    Ok((index, message)) => {
                        if self.handle(index, message, watch)? {
                            workers.iter_mut().for_each(|worker| worker.order(Order::Start));
                        }
                    }
                    Err(_) => return Err("the generators ended before their work was done".to_owned()),
                },
                recv(words) -> word => match word {
                    Ok(word) => {
                        let order = if word == Word::Echo { Order::Echo } else { Order::Stop };
                        workers.iter_mut().for_each(|worker| worker.order(order));
                    }
                    // Whoever spoke has nothing more to say.
                    Err(_) => words = never(),
                },
            }
        }
        while let Some((_, merged)) = self.merging.pop_first() {
            self.timeline.push(merged.finish());
        }
        Ok(())
    }

    /// Returns whether all are ready to start, for the first time.
    fn handle(&mut self, index: usize, message: Message, watch: &mut dyn Watch) -> Result<bool, String> {
        match message {
            Message::Connected { connections, trouble } => {
                self.connected += 1;
                self.connections += connections;
                self.trouble = trouble.or(self.trouble.take());
                if self.connected == self.generators
                    && self.connections == 0
                    && let Some(trouble) = self.trouble.take()
                {
                    return Err(trouble);
                }
                if self.connected == self.generators && !std::mem::replace(&mut self.started, true) {
                    watch.connected(self.connections);
                    return Ok(true);
                }
            }
            Message::Sample(sample) => self.merge(sample, watch),
            Message::Echoed { sent, answered } => {
                let (told, all_sent, all_answered) = &mut self.echoed;
                (*told, *all_sent, *all_answered) = (*told + 1, *all_sent + sent, *all_answered + answered);
                if *told == self.generators {
                    watch.echoed(*all_sent, *all_answered);
                    self.echoed = (0, 0, 0);
                }
            }
            Message::Final(found) => {
                if let Some(place) = self.finals.get_mut(index) {
                    *place = Some(*found);
                }
            }
            Message::Failed(_) if self.finals.get(index).is_some_and(Option::is_some) => {}
            Message::Failed(error) => return Err(error),
        }
        Ok(false)
    }

    fn merge(&mut self, sample: Sample, watch: &mut dyn Watch) {
        let merging = self.merging.entry(sample.index).or_default();
        merging.told += 1;
        merging.hist.add(&sample.latencies);
        let point = &mut merging.point;
        point.at_ms = point.at_ms.max(sample.at_ms);
        point.length_ms = point.length_ms.max(sample.length_ms);
        point.answered += sample.answered;
        point.errors += sample.errors;
        point.connections += sample.connections;
        if merging.told < self.generators {
            return;
        }
        if let Some(merged) = self.merging.remove(&sample.index) {
            let point = merged.finish();
            self.errors += point.errors;
            watch.interval(&point, self.errors);
            self.timeline.push(point);
        }
    }

    fn report(mut self, settings: &Settings, begun: SystemTime) -> (Tally, Report) {
        self.timeline.sort_by_key(|point| point.at_ms);
        let finals: Vec<Final> = std::mem::take(&mut self.finals).into_iter().flatten().collect();
        let (mut tally, mut latency, mut connect) = (Tally::default(), Hist::new(), Hist::new());
        let (mut episodes, mut errors) = (Episodes::default(), Errors::default());
        for found in &finals {
            tally.add(&found.tally);
            latency.add(&found.latency);
            connect.add(&found.connect);
            episodes.add(&found.episodes);
            errors.add(&found.errors);
        }
        let longest = finals.iter().map(|found| found.measured_ns).max().unwrap_or(0);
        let rate = |found: &Final| found.measured as f64 * 1e9 / found.measured_ns.max(1) as f64;
        let report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shape: settings.shape.name().to_owned(),
            address: settings.address.clone(),
            started: humantime::format_rfc3339_millis(begun).to_string(),
            settings: settings.shown.clone(),
            missing: match settings.shape {
                Shape::Connect => 0,
                _ => (settings.connections as u64).saturating_sub(self.connections),
            },
            duration_ms: longest / 1_000_000,
            rate: finals.iter().map(rate).sum(),
            account: tally.account,
            latency: latency.latency(),
            connect: connect.latency(),
            timeline: self.timeline,
            events: episodes.events(),
            errors: errors.sorted(),
            generator: effort(settings, &finals),
            ledger: None,
        };
        (tally, report)
    }
}

/// Waits for a ledger until somebody has had enough.
struct Company<'a> {
    words: &'a Receiver<Word>,
    watch: &'a mut dyn Watch,
}

impl ledger::Company for Company<'_> {
    fn say(&mut self, text: &str) {
        self.watch.say(text);
    }

    fn pass(&mut self, time: Duration) -> bool {
        match self.words.recv_timeout(time) {
            Ok(word) => word != Word::Stop,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(time);
                true
            }
        }
    }
}

impl Merging {
    fn finish(self) -> Point {
        let Merging { mut point, hist, .. } = self;
        (point.p50, point.p99, point.max) = (hist.quantile(0.5), hist.quantile(0.99), hist.max());
        point
    }
}

/// What the generators needed, and whether that was too much.
fn effort(settings: &Settings, finals: &[Final]) -> Generator {
    let busy = |found: &Final| found.cpu_ns as f64 / found.measured_ns.max(1) as f64;
    let open = matches!(settings.pacing, Pacing::Open { .. });
    let processes = finals.len() as u64;
    let busiest = finals.iter().map(busy).fold(0.0, f64::max).min(1.0);
    let latest = if open { finals.iter().map(|found| found.latest).max().unwrap_or(0) } else { 0 };
    let more = "give it more processes (--processes) or processors, or ask less of it";
    let saturated = if busiest > BUSY && settings.shape != Shape::Hold {
        Some(format!(
            "the busiest of {processes} generator process(es) ran {:.0} % of the time: {more}",
            busiest * 100.0
        ))
    } else if latest > LATE {
        let late = Duration::from_nanos(latest).as_secs_f64() * 1e3;
        Some(format!(
            "the generator was up to {late:.1} ms behind its schedule, for too much to do or too few processors: {more}"
        ))
    } else {
        None
    };
    let cpu_ms = finals.iter().map(|found| found.cpu_ns).sum::<u64>() / 1_000_000;
    Generator { processes, cpu_ms, busiest, latest, saturated }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
