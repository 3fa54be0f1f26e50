//! Follows the sink while the server lives and dies: which ids have arrived.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client::Site;
use super::places::{Findings, Sink};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(2);

/// The sink, and what was found in it until now.
#[derive(Debug)]
pub struct Tail {
    seed: u64,
    sink: Mutex<(Sink, Findings)>,
    /// Of each client: the highest id found.
    newest: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl Tail {
    /// Follows this sink.
    pub fn new(sink: Sink, seed: u64, clients: usize) -> Tail {
        let newest = (0..clients).map(|_| AtomicU64::new(0)).collect();
        Tail { seed, sink: Mutex::new((sink, Findings::default())), newest, ended: AtomicBool::new(false) }
    }

    /// Looks for what is new until told to end.
    pub fn follow(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            self.look();
            std::thread::sleep(LOOK);
        }
    }

    /// Ends [`Tail::follow`].
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Takes what is new; returns how much that was.
    fn look(&self) -> usize {
        let mut guard = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let (sink, findings) = &mut *guard;
        let before = findings.found.len();
        sink.read(self.seed, findings);
        for found in &findings.found[before..] {
            if let Some(newest) = self.newest.get(found.client as usize) {
                newest.fetch_max(found.id, Ordering::Release);
            }
        }
        findings.found.len() - before
    }

    /// Waits until everything up to these ids has arrived, one id for each client. Returns whether it has.
    pub fn has_all(&self, marks: &[u64], until: Instant) -> bool {
        loop {
            let there = marks.iter().zip(&self.newest).all(|(mark, newest)| newest.load(Ordering::Acquire) >= *mark);
            if there || Instant::now() >= until {
                return there;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits until nothing new comes any more, or it is too late.
    pub fn settle(&self, quiet: Duration, until: Instant) {
        let mut since = Instant::now();
        while since.elapsed() < quiet && since < until {
            if self.look() > 0 || !self.is_there() {
                since = Instant::now();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn is_there(&self) -> bool {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).0.is_there()
    }

    /// The sink's server was killed, and had nothing that outlives it.
    pub fn begin_anew(&self) {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).0.begin_anew();
    }

    /// Everything, at the end.
    ///
    /// # Errors
    /// The sink can't be read.
    pub fn into_findings(self) -> std::io::Result<Findings> {
        let (mut sink, findings) = self.sink.into_inner().unwrap_or_else(PoisonError::into_inner);
        sink.read_all(self.seed, findings)
    }
}

/// What was acknowledged until now, by client.
pub fn marks(site: &Site) -> Vec<u64> {
    site.newest.iter().map(|newest| newest.load(Ordering::Acquire)).collect()
}
