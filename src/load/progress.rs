//! How a run goes, on standard error: a bar for a person, lines for a log, or nothing.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::Point;

/// Shows a run's progress.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    connections: u64,
    /// Length of the run's load; `None`: it ends otherwise.
    length: Option<Duration>,
    /// When the load began, ms since the run began.
    started: Option<u64>,
    last: u64,
}

#[derive(Debug)]
enum Show {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    /// For a run with so many connections whose load takes `length`. A bar where standard error is a
    /// terminal, one line for each interval elsewhere, nothing where `quiet`.
    pub fn new(quiet: bool, connections: u64, length: Option<Duration>) -> Progress {
        let show = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Bar(bar(connections)),
            (false, false) => Show::Lines,
        };
        Progress { show, connections, length, started: None, last: 0 }
    }

    /// All connections that could be had are READY; the load begins.
    pub fn begin(&mut self, connections: u64) {
        self.started = Some(self.last);
        match &self.show {
            Show::Bar(bar) => {
                bar.set_length(self.length.map_or(0, millis));
                bar.set_position(0);
            }
            Show::Lines if connections > 0 => {
                self.say(&format!("{connections} of {} connections are ready", self.connections))
            }
            Show::Lines | Show::Nothing => {}
        }
    }

    /// An interval is over; `errors` counts all until now.
    pub fn interval(&mut self, point: &Point, errors: u64) {
        self.last = point.at_ms;
        match &self.show {
            Show::Bar(bar) => {
                bar.set_position(self.started.map_or(point.connections, |started| point.at_ms - started));
                bar.set_message(describe(point, errors));
            }
            Show::Lines => {
                let line = format!("{:>7.1} s  {}", point.at_ms as f64 / 1e3, describe(point, errors));
                self.say(&line);
            }
            Show::Nothing => {}
        }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.show {
            Show::Bar(bar) => bar.println(text),
            Show::Lines => {
                // Where standard error is gone there is nobody left to tell.
                let _ = writeln!(io::stderr(), "{text}");
            }
            Show::Nothing => {}
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}

fn bar(connections: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(connections), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// `12,345/s  p50 0.12 ms  p99 0.90 ms  64 connections  0 errors`.
fn describe(point: &Point, errors: u64) -> String {
    let rate = point.answered as f64 * 1e3 / point.length_ms.max(1) as f64;
    let mut text = format!("{rate:.0}/s");
    if point.p50 > 0 {
        let _ = write!(text, "  p50 {:.3} ms  p99 {:.3} ms", ms(point.p50), ms(point.p99));
    }
    let _ = write!(text, "  {} connections  {errors} errors", point.connections);
    text
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_told_as_a_rate_and_latencies_if_there_are_any() {
        let point = Point { length_ms: 500, answered: 100, connections: 3, ..Point::default() };
        assert_eq!(describe(&point, 2), "200/s  3 connections  2 errors");
        let point = Point { p50: 120_000, p99: 900_000, ..point };
        assert_eq!(describe(&point, 0), "200/s  p50 0.120 ms  p99 0.900 ms  3 connections  0 errors");
    }
}
