//! What the service manager is told (sd_notify(3)): systemd, or whoever speaks its protocol.
//!
//! | when | what |
//! |---|---|
//! | every worker turns its loop | `READY=1`, `MAINPID=` |
//! | every now and then | `STATUS=`: what `systemctl status` shows |
//! | at half the watchdog's interval, while every worker is alive | `WATCHDOG=1` |
//! | around a reload | `RELOADING=1`, `MONOTONIC_USEC=`; `READY=1` |
//! | a drain begins | `STOPPING=1` |
//! | each second of it | `EXTEND_TIMEOUT_USEC=`, so that `TimeoutStopSec=` ends no drain that is on its plan |
//!
//! All of it from the supervisor's thread: when that hangs, nothing is told, and the watchdog barks.
//! Without `NOTIFY_SOCKET` nothing happens.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use super::Shared;
use crate::stats::{DrainView, Label, WorkerStats};

/// How often the status is looked at while serving.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often in a drain.
const DRAIN_STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long the service manager waits for the next word of a drain: for as many looks as may be late
/// on a machine that is busy, and for the end, which says nothing while it syncs the ledger.
const EXTENSION: Duration = Duration::from_secs(15);

/// Where the server stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub connections: u64,
    pub workers: usize,
    /// Requests accepted and not yet answered.
    pub in_flight: u64,
    /// Why it should be restarted, if it should.
    pub healthy: Result<(), String>,
    /// How far its drain is, once there is one.
    pub drain: Option<DrainView>,
}

/// The service manager, if there is one.
pub(super) struct Systemd {
    /// Gives it a message of lines such as `READY=1`.
    send: Option<Send>,
    /// It has been told that this process is up, or on its way down.
    is_up: bool,
    /// Half of what it waits for a sign of life.
    watchdog: Option<Duration>,
    status: String,
    status_at: Instant,
    watchdog_at: Instant,
    /// What kept the last sign of life back.
    ill: Option<String>,
    deaf: bool,
}

type Send = Box<dyn FnMut(&str) -> io::Result<()> + std::marker::Send>;

impl Systemd {
    /// The one that started this process, as the environment has it.
    #[cfg(target_os = "linux")]
    pub fn from_env() -> Systemd {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Systemd::none();
        }
        let send = |text: &str| sd_notify::notify(&[sd_notify::NotifyState::Custom(text.trim_end())]);
        Systemd::new(Some(Box::new(send)), sd_notify::watchdog_enabled(), Instant::now())
    }

    #[cfg(not(target_os = "linux"))]
    pub fn from_env() -> Systemd {
        Systemd::none()
    }

    /// Nobody is told anything.
    pub fn none() -> Systemd {
        Systemd::new(None, None, Instant::now())
    }

    fn new(send: Option<Send>, watchdog: Option<Duration>, now: Instant) -> Systemd {
        // It barks after the whole of it. Zero means that there is none.
        let watchdog = watchdog.map(|interval| interval / 2).filter(|half| !half.is_zero());
        let is_up = false;
        Systemd {
            send,
            is_up,
            watchdog,
            status: String::new(),
            status_at: now,
            watchdog_at: now,
            ill: None,
            deaf: false,
        }
    }

    /// When [`Systemd::look`] has something to do. `None`: never, or not yet.
    pub fn next_look(&self) -> Option<Instant> {
        self.send.as_ref().filter(|_| self.is_up)?;
        Some(if self.watchdog.is_some() { self.status_at.min(self.watchdog_at) } else { self.status_at })
    }

    /// Connections are accepted by every worker.
    pub fn ready(&mut self, now: Instant, standing: &Standing) {
        self.tell(&format!("READY=1\nMAINPID={}\n", std::process::id()));
        self.is_up = true;
        self.look(now, || standing.clone());
    }

    /// A reload begins.
    pub fn reloading(&mut self) {
        self.tell(&format!("RELOADING=1\n{}", monotonic()));
    }

    /// It is over, whatever came of it.
    pub fn reloaded(&mut self) {
        self.tell("READY=1\n");
    }

    /// A drain begins.
    pub fn stopping(&mut self, now: Instant, standing: &Standing) {
        // Also what has been told already, by a look between the drain's beginning and the report of it.
        self.status.clear();
        self.status_at = now;
        self.is_up = true;
        self.tell("STOPPING=1\n");
        self.look(now, || standing.clone());
    }

    /// The drain is over, but for the last accounts.
    pub fn finishing(&mut self) {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS=drained: closing the books\n", EXTENSION.as_micros()));
    }

    /// Tells what is due.
    pub fn look(&mut self, now: Instant, standing: impl FnOnce() -> Standing) {
        if self.next_look().is_none_or(|at| now < at) {
            return;
        }
        let standing = standing();
        let mut text = String::new();
        if now >= self.status_at {
            let every = if standing.drain.is_some() { DRAIN_STATUS_EVERY } else { STATUS_EVERY };
            self.status_at = now + every;
            if standing.drain.is_some() {
                // Writing to a string does not fail.
                let _ = writeln!(text, "EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
            }
            let status = standing.to_string();
            if status != self.status {
                let _ = writeln!(text, "STATUS={status}");
                self.status = status;
            }
        }
        if let Some(half) = self.watchdog.filter(|_| now >= self.watchdog_at) {
            if self.is_well(&standing) {
                self.watchdog_at = now + half;
                text += "WATCHDOG=1\n";
            } else {
                self.watchdog_at = now + half / 4;
            }
        }
        if !text.is_empty() {
            self.tell(&text);
        }
    }

    fn is_well(&mut self, standing: &Standing) -> bool {
        let ill = standing.healthy.clone().err();
        if let Some(why) = ill.as_ref().filter(|_| self.ill.is_none()) {
            log::error!("systemd's watchdog gets no sign of life, and will restart the server: {why}");
        }
        self.ill = ill;
        self.ill.is_none()
    }

    fn tell(&mut self, text: &str) {
        let Some(send) = &mut self.send else { return };
        match send(text) {
            Ok(()) => self.deaf = false,
            Err(error) if !self.deaf => {
                self.deaf = true;
                log::warn!("systemd could not be told {:?}: {error}", text.trim_end());
            }
            Err(_) => {}
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (connections, workers, in_flight) = (self.connections, self.workers, self.in_flight);
        match &self.drain {
            None => {
                write!(f, "serving: {connections} connections on {workers} workers")?;
                self.healthy.as_ref().err().map_or(Ok(()), |why| write!(f, "; not well: {why}"))
            }
            Some(DrainView { reason, phase, left, .. }) => write!(
                f,
                "draining ({reason}), {}: {connections} connections left, {in_flight} requests in flight, {} s \
                 until the rest is cut",
                phase.name(),
                left.as_secs()
            ),
        }
    }
}

impl Shared {
    /// Where the server stands.
    pub(super) fn standing(&self) -> Standing {
        let sum = |number: fn(&WorkerStats) -> u64| self.stats.iter().map(|stats| number(stats)).sum();
        Standing {
            connections: sum(|stats| stats.connections_open.get()),
            workers: self.stats.len(),
            in_flight: sum(|stats| stats.in_flight.get()),
            healthy: self.health(),
            drain: self.drain_view(),
        }
    }
}

/// Since when a reload runs, in the one clock that both sides have.
#[cfg(target_os = "linux")]
fn monotonic() -> String {
    sd_notify::NotifyState::monotonic_usec_now().map_or_else(|_| String::new(), |state| format!("{state}\n"))
}

#[cfg(not(target_os = "linux"))]
fn monotonic() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::stats::Phase;

    const SERVING: Standing = Standing { connections: 3, workers: 2, in_flight: 1, healthy: Ok(()), drain: None };

    fn systemd(watchdog: Option<Duration>, now: Instant) -> (Systemd, Receiver<String>) {
        let (told, heard) = channel();
        let send: Send = Box::new(move |text: &str| told.send(text.to_owned()).map_err(io::Error::other));
        let mut systemd = Systemd::new(Some(send), watchdog, now);
        assert_eq!(systemd.next_look(), None, "it is not up");
        systemd.ready(now, &SERVING);
        assert_eq!(heard.try_recv(), Ok(format!("READY=1\nMAINPID={}\n", std::process::id())));
        (systemd, heard)
    }

    /// Looks whenever it is time to, for `seconds`; what was told at which second.
    fn looks(
        systemd: &mut Systemd,
        heard: &Receiver<String>,
        from: Instant,
        seconds: u64,
        standing: &Standing,
    ) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        while let Some(at) = systemd.next_look().filter(|at| at.duration_since(from).as_secs() < seconds) {
            systemd.look(at, || standing.clone());
            told.extend(heard.try_iter().map(|text| (at.duration_since(from).as_secs(), text)));
        }
        told
    }

    #[test]
    fn the_watchdog_has_its_sign_of_life_at_half_its_interval_and_the_status_only_when_it_changes() {
        let now = Instant::now();
        let (mut systemd, heard) = systemd(Some(Duration::from_secs(8)), now);
        assert_eq!(heard.try_recv().unwrap(), "STATUS=serving: 3 connections on 2 workers\nWATCHDOG=1\n");
        let told = looks(&mut systemd, &heard, now, 12, &SERVING);
        let text = |at, text: &str| (at, text.to_owned());
        assert_eq!(told, [text(4, "WATCHDOG=1\n"), text(8, "WATCHDOG=1\n")]);
        let told = looks(&mut systemd, &heard, now, 16, &Standing { connections: 4, ..SERVING });
        let status = "STATUS=serving: 4 connections on 2 workers\n";
        assert_eq!(told, [text(12, "WATCHDOG=1\n"), text(15, status)]);
    }

    #[test]
    fn the_watchdog_hears_nothing_while_a_worker_does_not_turn() {
        let now = Instant::now();
        let (mut systemd, heard) = systemd(Some(Duration::from_secs(8)), now);
        heard.try_recv().unwrap();
        let ill = Standing { healthy: Err("worker 1 hangs".to_owned()), ..SERVING };
        let told = looks(&mut systemd, &heard, now, 20, &ill);
        assert_eq!(told, [(5, "STATUS=serving: 3 connections on 2 workers; not well: worker 1 hangs\n".to_owned())]);
        let told = looks(&mut systemd, &heard, now, 22, &SERVING);
        assert!(told.iter().any(|(_, text)| text.contains("WATCHDOG=1")), "soon after it is well: {told:?}");
    }

    #[test]
    fn a_drain_that_goes_on_is_given_the_time_it_takes() {
        let now = Instant::now();
        let (mut systemd, heard) = systemd(None, now);
        heard.try_recv().unwrap();
        let drain = DrainView {
            reason: "admin".to_owned(),
            elapsed: Duration::ZERO,
            left: Duration::from_secs(9),
            phase: Phase::Notice,
            connections_at_begin: 3,
            phases: Vec::new(),
        };
        let standing = Standing { drain: Some(drain), ..SERVING };
        systemd.stopping(now, &standing);
        let told: Vec<String> = heard.try_iter().collect();
        let status =
            "STATUS=draining (admin), notice: 3 connections left, 1 requests in flight, 9 s until the rest is cut";
        assert_eq!(told, ["STOPPING=1\n".to_owned(), format!("EXTEND_TIMEOUT_USEC=15000000\n{status}\n")]);
        let told = looks(&mut systemd, &heard, now, 4, &standing);
        assert_eq!(told, [1, 2, 3].map(|at| (at, "EXTEND_TIMEOUT_USEC=15000000\n".to_owned())));
    }

    #[test]
    fn without_a_service_manager_there_is_nothing_to_look_at() {
        let mut systemd = Systemd::none();
        assert_eq!(systemd.next_look(), None);
        systemd.ready(Instant::now(), &SERVING);
        systemd.look(Instant::now() + STATUS_EVERY, || unreachable!("nobody asks"));
    }

    #[test]
    fn a_watchdog_of_no_time_at_all_is_none() {
        let now = Instant::now();
        let (mut systemd, heard) = systemd(Some(Duration::ZERO), now);
        assert_eq!(heard.try_recv().unwrap(), "STATUS=serving: 3 connections on 2 workers\n");
        assert_eq!(looks(&mut systemd, &heard, now, 20, &SERVING), []);
    }
}
