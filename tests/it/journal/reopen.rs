//! Ends of processes, and beginnings.

use std::sync::Arc;

use tidegate::journal::repair::Report;
use tidegate::journal::{Log, Message, OpenError, Reader, verify};

use super::disk::{End, SimDisk};
use super::draw;
use super::faults::Weather;
use super::life::{Life, Mark, ROOMY};

impl Life {
    /// The process is gone, and another one has opened the log.
    pub fn restart(&mut self, end: End) {
        self.stop(end);
        if self.fixed.is_none() && self.dice.chance(8) {
            self.options.routes = draw::routes(&mut self.dice);
            self.model.reroute(self.options.routes.clone());
            self.disk.state().counts.add("other routes");
            self.disk.tell(|| format!("{:?}", self.options.routes));
        }
        self.open();
    }

    /// The process is gone.
    pub fn stop(&mut self, end: End) {
        // Who is killed does nothing more.
        self.disk.state().stop();
        drop(self.log.take());
        if self.poisoned {
            self.model.refused()
        } else {
            self.model.doubted()
        }
        if let (End::PowerCut(_), Mark::Written) = (end, self.mark) {
            self.mark = Mark::None;
        }
        self.begin_again(end);
    }

    /// The next process, which may have been told when to stop.
    fn begin_again(&mut self, end: End) {
        self.disk = self.disk.restart(end);
        if let Some((calls, when)) = self.fixed.as_mut().and_then(|fixed| fixed.again.take()) {
            let mut state = self.disk.state();
            state.stop_at = Some((state.calls + calls, when));
        }
    }

    /// Opens it, however often the disk stands in the way.
    pub fn open(&mut self) {
        for attempt in 0.. {
            if attempt == 8 {
                self.disk.state().weather = Weather::default();
            }
            self.faults = self.disk.state().faults;
            let faults = self.faults;
            let storage = Arc::new(self.disk.clone());
            match Log::open(storage, self.options.clone(), self.now) {
                // The last call was one whose error does no harm.
                Ok(_) if self.disk.stopped() => {
                    let end = self.draw_end();
                    self.begin_again(end);
                }
                Ok((log, recovery)) => {
                    self.log = Some(log);
                    self.opened(recovery.messages, &recovery.unfinished);
                    return;
                }
                Err(error) => {
                    let now = self.disk.state().faults;
                    assert!(now > faults, "nothing is wrong with the disk: {error}");
                    assert!(matches!(error, OpenError::Io { .. }), "an error of the disk is no damage: {error}");
                    if self.disk.stopped() {
                        let end = self.draw_end();
                        self.begin_again(end);
                    }
                }
            }
        }
    }

    /// A log is open: what was promised is there.
    pub fn opened(&mut self, messages: u64, unfinished: &[u64]) {
        self.poisoned = false;
        self.scarce = self.disk.state().capacity < ROOMY;
        let (found, by_size) = (self.found(), self.too_big());
        // Some may have been done, and were deleted for room.
        assert!(messages >= found.len() as u64, "it says that it found {messages}, and has {}", found.len());
        self.model.opened(&found, self.latest, by_size);
        let full = self.log().full().is_some();
        assert_eq!(unfinished.len(), self.options.routes.len());
        for (route, told) in unfinished.iter().enumerate() {
            let progress = self.log().progress(route).clone();
            self.model.recovered(route, &progress);
            let waits = self.model.unfinished(route);
            assert_eq!(
                (self.log().unfinished(route), *told),
                (waits, waits),
                "unfinished of {route}: {progress:?}, {:?}",
                self.model.waits(route)
            );
        }
        self.model.settled_routes(full);
        let position = self.reader.position().min(self.model.highest);
        self.reader = Reader::new(Arc::new(self.disk.clone()), position);
    }

    /// Everything that is stored.
    pub fn found(&mut self) -> Vec<Message> {
        let upto = self.log().durable_id();
        self.read_up_to(upto)
    }

    /// Everything with ids up to that.
    pub fn read_up_to(&mut self, upto: u64) -> Vec<Message> {
        self.watch(|disk| {
            let mut reader = Reader::new(Arc::new(disk.clone()), 0);
            let next = || reader.next(upto).unwrap_or_else(|error| panic!("it can't be read: {error}"));
            std::iter::from_fn(next).collect()
        })
    }

    /// What `tidegate journal verify` says beside the running log.
    pub fn verified(&mut self) -> Report {
        self.watch(|disk| verify(disk).unwrap_or_else(|error| panic!("it can't be read: {error}")))
    }

    fn watch<T>(&mut self, run: impl FnOnce(&SimDisk) -> T) -> T {
        self.disk.state().watched = true;
        let result = run(&self.disk);
        self.disk.state().watched = false;
        result
    }

    /// Whether the oldest may have been deleted because of the log's size.
    pub fn too_big(&mut self) -> bool {
        let bytes: usize = self.disk.files().iter().map(|(_, len)| len).sum();
        bytes as u64 + 2 * self.options.segment_bytes > self.options.retain_bytes
    }
}
