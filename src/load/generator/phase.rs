//! What a run goes through, and what happens by the clock.

use std::time::Duration;

use super::Generator;
use crate::load::link::{End, State};
use crate::load::message::{Final, Message, Order, Sample};
use crate::load::net;
use crate::load::plan::Shape;
use crate::load::schedule::ramp_at;

/// ECHOs that are sent at once when each connection is to have one.
const ECHO_BATCH: usize = 256;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are opened.
    Connecting,
    /// All are there; the others may not be that far.
    Waiting,
    /// The load.
    Running,
    /// Nothing more is sent; replies and ends are awaited.
    Settling {
        /// And no longer than this.
        until: u64,
    },
    /// There is nothing left.
    Done,
}

/// One ECHO on each connection, under way.
#[derive(Clone, Copy, Debug)]
pub struct Echoing {
    /// Connections before this one have theirs.
    next: usize,
    sent: u64,
    /// Replies before it.
    replies: u64,
    /// The run ends with it.
    last: bool,
}

/// The measured part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure {
    begun: Option<(u64, Duration)>,
    length: u64,
    cpu: Duration,
}

impl Generator {
    /// Does what the orders and the clock ask for.
    pub(super) fn advance(&mut self, tell: &mut dyn FnMut(Message)) -> Result<(), String> {
        self.now = self.clock();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Start if self.phase == Phase::Waiting => self.start(),
                Order::Echo if self.phase == Phase::Running && self.echoing.is_none() => self.begin_echo(false),
                Order::Stop => self.stop(),
                Order::Quit => return Err("it was told to quit".to_owned()),
                Order::Start | Order::Echo => {}
            }
        }
        match self.phase {
            Phase::Connecting => self.check_connected(tell),
            Phase::Running => self.check_running(tell),
            Phase::Settling { until } => self.check_settled(until),
            Phase::Waiting | Phase::Done => {}
        }
        self.sample(false, tell);
        Ok(())
    }

    fn check_connected(&mut self, tell: &mut dyn FnMut(Message)) {
        let storm = self.plan.shape == Shape::Connect;
        let all = self.ready + self.given_up >= self.plan.count;
        let patience = self.progress.max(self.born + self.plan.ramp) + self.plan.connect_timeout;
        if !(storm || all || self.now >= patience) {
            return;
        }
        let trouble = (!storm && self.ready == 0).then(|| {
            let why = self.books.errors.latest().unwrap_or("there was no answer");
            format!("no connection to {}: {why}", self.plan.server)
        });
        self.phase = Phase::Waiting;
        tell(Message::Connected { connections: self.ready as u64, trouble });
    }

    fn start(&mut self) {
        self.phase = Phase::Running;
        self.started = self.now;
        self.books.measure_from = self.now + self.plan.warm_up;
        self.check_warm();
        for slot in 0..self.conns.len() {
            self.now = self.clock();
            self.drive(slot);
        }
    }

    fn check_warm(&mut self) {
        if self.measure.begun.is_none() && self.now >= self.books.measure_from {
            self.measure.begun = Some((self.now, net::cpu_time()));
            self.books.measuring = true;
        }
    }

    fn check_running(&mut self, tell: &mut dyn FnMut(Message)) {
        self.check_warm();
        self.go_on_echoing(tell);
        let storm = self.plan.shape == Shape::Connect;
        let nobody_there = storm
            && self.books.tally.account.connections == 0
            && self.now >= self.started.saturating_add(self.plan.ramp).saturating_add(self.plan.connect_timeout);
        if self.nobody_is_left() || nobody_there || self.has_no_server() {
            return self.stop();
        }
        if self.end_at().is_some_and(|end| self.now >= end) {
            match &mut self.echoing {
                Some(echoing) if self.plan.echo_at_end => echoing.last = true,
                None if self.plan.echo_at_end => self.begin_echo(true),
                _ => self.stop(),
            }
        }
    }

    /// With `--retry`: when nothing has been connected for too long.
    fn patience_ends(&self) -> Option<u64> {
        self.plan.retry.filter(|_| self.ready == 0 && self.phase == Phase::Running).map(|retry| self.progress + retry)
    }

    fn has_no_server(&mut self) -> bool {
        let over = self.patience_ends().is_some_and(|end| self.now >= end);
        if over {
            self.books.note_error("no server for as long as --retry allows");
        }
        over
    }

    /// No connection is open, and none will be.
    fn nobody_is_left(&self) -> bool {
        let nobody = self.open == 0 && self.pauses.is_empty() && self.waiting.is_empty();
        let storm = self.plan.shape == Shape::Connect;
        nobody && self.begun == self.plan.count && (self.given_up == self.plan.count || !storm)
    }

    /// When the measured part ends by itself.
    pub(super) fn end_at(&self) -> Option<u64> {
        let duration = self.plan.duration.filter(|_| !self.plan.until_closed)?;
        Some(self.started.saturating_add(self.plan.warm_up).saturating_add(duration))
    }

    fn begin_echo(&mut self, last: bool) {
        self.echoing = Some(Echoing { next: 0, sent: 0, replies: self.books.replies, last });
    }

    fn go_on_echoing(&mut self, tell: &mut dyn FnMut(Message)) {
        let Some(mut echoing) = self.echoing.take() else { return };
        let until = (echoing.next + ECHO_BATCH).min(self.conns.len());
        for slot in echoing.next..until {
            if self.conns[slot].link.can_send() {
                self.now = self.clock();
                self.send(slot, self.now);
                self.drive(slot);
                echoing.sent += 1;
            }
        }
        echoing.next = until;
        if until < self.conns.len() || self.books.in_flight > 0 {
            self.echoing = Some(echoing);
            return;
        }
        tell(Message::Echoed { sent: echoing.sent, answered: self.books.replies - echoing.replies });
        if echoing.last {
            self.stop();
        }
    }

    /// Sends nothing more; takes leave of the server.
    fn stop(&mut self) {
        if matches!(self.phase, Phase::Settling { .. } | Phase::Done) {
            return;
        }
        // What came due since it was last looked at still belongs to the run.
        self.follow_schedule();
        if let Some((begun, cpu)) = self.measure.begun {
            self.measure.length = self.now - begun;
            self.measure.cpu = net::cpu_time().saturating_sub(cpu);
        }
        self.books.measuring = false;
        let patience = match self.patience_ends() {
            Some(end) if self.now >= end => 0,
            _ => self.plan.settle_timeout.max(self.plan.retry.unwrap_or(0)),
        };
        self.phase = Phase::Settling { until: self.now + patience };
        self.pauses.clear();
        self.waiting.clear();
        for slot in 0..self.conns.len() {
            if self.plan.retry.is_some() {
                let (conn, mut cx) = self.parts(slot);
                conn.link.release();
                if conn.link.state() == State::Ready {
                    conn.link.check_values(&mut cx);
                }
            }
            match self.conns[slot].link.state() {
                State::Connecting => self.close(slot, End::Broken),
                State::Closed if self.is_wanted(slot) && !self.conns[slot].given_up => {
                    self.waiting.push_back(slot as u32);
                }
                State::Closed => {}
                // What is not READY yet takes its leave when it is.
                _ => self.drive(slot),
            }
        }
        self.check_settled(u64::MAX);
    }

    fn check_settled(&mut self, until: u64) {
        let owed = self.plan.retry.is_some() && !(self.pauses.is_empty() && self.waiting.is_empty());
        if (self.open > 0 || owed) && self.now < until {
            return;
        }
        for slot in 0..self.conns.len() {
            if self.conns[slot].link.state() != State::Closed {
                self.books.note_error("no end of the connection in time");
                self.close(slot, End::Broken);
            }
        }
        for slot in 0..self.conns.len() {
            let (conn, mut cx) = self.parts(slot);
            conn.link.abandon(&mut cx);
        }
        self.phase = Phase::Done;
    }

    /// Tells of intervals that are over; at the end, of the one that is not.
    pub(super) fn sample(&mut self, last: bool, tell: &mut dyn FnMut(Message)) {
        let interval = self.plan.interval;
        while self.now >= (self.next_sample + 1) * interval {
            self.tell_sample((self.next_sample + 1) * interval, tell);
        }
        if last && self.now > self.next_sample * interval {
            self.tell_sample(self.now, tell);
        }
    }

    fn tell_sample(&mut self, end: u64, tell: &mut dyn FnMut(Message)) {
        let interval = &mut self.books.interval;
        let sample = Sample {
            index: self.next_sample,
            at_ms: end / 1_000_000,
            length_ms: (end - self.next_sample * self.plan.interval) / 1_000_000,
            answered: std::mem::take(&mut interval.answered),
            errors: std::mem::take(&mut interval.errors),
            connections: self.ready as u64,
            latencies: interval.hist.pairs(),
        };
        if !sample.latencies.is_empty() {
            interval.hist.clear();
        }
        self.next_sample += 1;
        tell(Message::Sample(sample));
    }

    /// Until when to wait for events.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        let unsent = self.echoing.is_some_and(|echoing| echoing.next < self.conns.len());
        let over = self.phase == Phase::Running && self.nobody_is_left();
        if self.phase == Phase::Done || unsent || over {
            return Some(Duration::ZERO);
        }
        let mut next = (self.next_sample + 1) * self.plan.interval;
        let mut also = |at: u64| next = next.min(at);
        if self.begun < self.plan.count && self.allowed() > 0 && self.connecting < self.plan.at_once {
            let zero = if self.plan.shape == Shape::Connect { self.started } else { self.born };
            also(zero + ramp_at(self.begun, self.plan.ramp, self.plan.count));
        }
        match self.phase {
            Phase::Connecting => also(self.progress.max(self.born + self.plan.ramp) + self.plan.connect_timeout),
            Phase::Running if self.measure.begun.is_none() => also(self.books.measure_from),
            Phase::Running => {
                also(self.end_at().unwrap_or(u64::MAX));
                also(self.patience_ends().unwrap_or(u64::MAX));
            }
            Phase::Settling { until } => also(until),
            Phase::Waiting | Phase::Done => {}
        }
        if let Some(pause) = self.pauses.peek() {
            also(pause.0.0);
        }
        if let Some(too_long) = self.too_long.front() {
            also(too_long.0);
        }
        if let Some(at) = self.schedule.as_ref().filter(|_| self.phase == Phase::Running).map(|s| s.next_at()) {
            let at = self.started + at;
            if at >= self.end_at().unwrap_or(u64::MAX) {
            } else if at == self.alarm_at || self.alarm.set(Duration::from_nanos(at.saturating_sub(self.now))) {
                self.alarm_at = at;
            } else {
                next = next.min(at);
            }
        }
        Some(Duration::from_nanos(next.saturating_sub(self.now)))
    }

    /// All that was found.
    pub(super) fn summary(mut self) -> Final {
        let overdue = self.homeless + self.conns.iter().map(|conn| u64::from(conn.due - conn.sent)).sum::<u64>();
        if overdue > 0 {
            self.books.errors.note_many("due and not sent by the end of the run", overdue);
        }
        Final {
            tally: self.books.tally,
            latency: self.books.latency.pairs(),
            connect: self.books.connect.pairs(),
            episodes: self.books.episodes,
            errors: self.books.errors,
            measured: self.books.measured,
            measured_ns: self.measure.length,
            cpu_ns: u64::try_from(self.measure.cpu.as_nanos()).unwrap_or(u64::MAX),
            latest: self.latest,
            overdue,
        }
    }
}
