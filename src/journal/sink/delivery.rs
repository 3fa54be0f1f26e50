//! All routes' threads: started, watched, and brought to an end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::runner::{Next, Options, Runner};
use super::told::{SystemClock, Told, nameplate};
use super::{Feed, Handlers, Sink, panic_text};
use crate::config::{Config, SinkRoute};
use crate::limits::SINK_GRACE_MS;
use crate::stats::RouteView;

/// How long a route with nothing to do waits at most; what is new wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// The sinks of all routes, in the order of [`Config::sinks`]; `None`: the journal itself is the store.
pub type Sinks = Vec<Option<Box<dyn Sink>>>;

/// Makes every route's sink; nothing is opened or connected yet.
///
/// # Errors
/// One can't be had, in words that name its route: the configuration is wrong.
pub fn make_all(config: &Config, handlers: &Handlers) -> Result<Sinks, String> {
    let make = |route: &SinkRoute| {
        super::make(&route.sink, config, handlers).map_err(|why| format!("TIDEGATE_SINKS: {}: {why}", route.pattern))
    };
    config.sinks.iter().map(make).collect()
}

/// The threads that deliver, one a route. Dropped, they end as they are.
pub struct Delivery {
    routes: Vec<(SinkRoute, Option<Arc<Told>>)>,
    feed: Arc<dyn Feed>,
    stop: Arc<Stop>,
    /// Closed when the last thread has ended; each says which it was.
    ended: Receiver<usize>,
}

/// What the end of delivery leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Messages delivered since the start, by route.
    pub delivered: Vec<u64>,
    /// Messages that are still to be delivered, by route, as of the last report that the feed has taken in. Exact when
    /// the feed is asked again after it has brought everything to the disk.
    pub unfinished: Vec<u64>,
    /// Patterns of routes whose thread hangs in its sink and was left behind.
    pub hung: Vec<String>,
}

impl Delivery {
    /// Starts a thread for each route that has a sink.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &Config, sinks: Sinks, feed: Arc<dyn Feed>) -> io::Result<Delivery> {
        let stop = Arc::<Stop>::default();
        let (ending, ended) = bounded(sinks.len());
        let mut delivery = Delivery { routes: Vec::with_capacity(sinks.len()), feed, stop, ended };
        for (index, (route, sink)) in config.sinks.iter().zip(sinks).enumerate() {
            let told = sink.is_some().then(|| Arc::new(Told::new(config.sink_timeout)));
            if let (Some(sink), Some(told)) = (sink, &told) {
                let name = (index, format!("{} ({})", route.pattern, route.sink.kind.name()));
                let (feed, told) = (Arc::clone(&delivery.feed), Arc::clone(told));
                let runner = Runner::new(name, sink, feed, told, Options::of(config), Box::new(SystemClock));
                spawn(runner, &delivery.stop, ending.clone())?;
            }
            delivery.routes.push((route.clone(), told));
        }
        Ok(delivery)
    }

    /// Where each route stands, those without a sink included.
    pub fn views(&self) -> Vec<RouteView> {
        let view = |(index, (route, told)): (usize, &(SinkRoute, Option<Arc<Told>>))| match told {
            Some(told) => told.view(index, route, self.feed.as_ref()),
            None => nameplate(route),
        };
        self.routes.iter().enumerate().map(view).collect()
    }

    /// The end: delivers what is durable as far as sinks take it until `deadline`, closes them, and reports how far
    /// each route is. Calls [`Feed::stop`]. What is left is logged. A sink that is down is not waited for, and one
    /// that hangs is left behind.
    pub fn flush(&self, deadline: Instant) -> Left {
        self.stop.set(deadline);
        self.feed.stop();
        let until = deadline.max(Instant::now() + Duration::from_millis(SINK_GRACE_MS));
        let mut running: Vec<bool> = self.routes.iter().map(|(_, told)| told.is_some()).collect();
        while let Ok(index) = self.ended.recv_deadline(until) {
            if let Some(running) = running.get_mut(index) {
                *running = false;
            }
        }
        let told =
            |of: fn(&Told) -> u64| self.routes.iter().map(move |(_, told)| told.as_deref().map_or(0, of)).collect();
        let hung = self.routes.iter().zip(running).filter(|(_, running)| *running).map(|((route, _), _)| route);
        let left = Left {
            delivered: told(|told| told.delivered.get()),
            unfinished: (0..self.routes.len()).map(|index| self.feed.unfinished(index)).collect(),
            hung: hung.map(|route| route.pattern.to_string()).collect(),
        };
        for pattern in &left.hung {
            log::error!(route = pattern.as_str(); "the sink of {pattern} does not come back: its thread is left behind");
        }
        left
    }
}

/// Its threads end, and are not waited for.
impl Drop for Delivery {
    fn drop(&mut self) {
        if self.stop.deadline().is_none() {
            self.stop.set(Instant::now());
            self.feed.stop();
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// When delivery is to end.
#[derive(Debug, Default)]
struct Stop {
    deadline: Mutex<Option<Instant>>,
    bell: Condvar,
}

impl Stop {
    fn set(&self, deadline: Instant) {
        *self.lock() = Some(deadline);
        self.bell.notify_all();
    }

    fn deadline(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Waits until then, or until the end is near.
    fn rest(&self, until: Instant) {
        let mut deadline = self.lock();
        while deadline.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            deadline = self.bell.wait_timeout(deadline, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(mut runner: Runner, stop: &Arc<Stop>, ending: Sender<usize>) -> io::Result<()> {
    let stop = Arc::clone(stop);
    let thread = std::thread::Builder::new().name(format!("sink-{}", runner.route));
    let run = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&mut runner, &stop))) {
            runner.broke(panic_text(&*panic));
        }
        let index = runner.route;
        drop(runner);
        // Nobody waits any more: it was too late.
        let _ = ending.send(index);
    };
    thread.spawn(run).map(drop)
}

fn run(runner: &mut Runner, stop: &Stop) {
    let deadline = loop {
        if let Some(deadline) = stop.deadline() {
            break deadline;
        }
        match runner.turn() {
            Next::Turn => {}
            Next::Rest(until) => stop.rest(until),
            Next::News(until) => runner.wait(until.unwrap_or_else(|| Instant::now() + IDLE)),
        }
    };
    runner.flush(deadline);
    runner.end();
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
