//! The only part of the load generator that touches sockets: one thread, one poll, its share of the
//! connections.
//!
//! connect → (told to start) → run → settle → done. A connection is driven by its events; what is due by
//! the clock is a heap of pauses, a queue of connects that may take too long, and the schedule.

mod connect;
mod phase;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};

use super::acks::Acks;
use super::books::Books;
use super::link::{Cx, Link, News};
use super::message::{Message, Order};
use super::net::Alarm;
use super::payload::Pattern;
use super::plan::{Pacing, Plan};
use super::promise::Ids;
use super::schedule::Schedule;
use super::work::Pool;
use crate::client::backoff::Backoff;
use phase::Phase;

/// Events that are taken from the system at once.
const EVENTS: usize = 1_024;
/// Bytes that are read at once.
const SCRATCH: usize = 256 * 1024;
/// Tokens that are no connection.
const ALARM: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Ceilings of the backoff.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Wakes a generator that has been sent an [`Order`].
pub type Wake = Arc<Waker>;

/// See the module.
pub struct Generator {
    plan: Plan,
    poll: Poll,
    alarm: Alarm,
    waker: Wake,
    orders: Receiver<Order>,
    /// The instant that times are counted from.
    began: Instant,
    now: u64,
    phase: Phase,
    conns: Vec<Conn>,
    /// Connections that were begun for the first time.
    begun: usize,
    /// `connect`: connections begun in all.
    storm: u64,
    /// Begun and not READY.
    connecting: usize,
    /// READY now.
    ready: usize,
    /// Have a socket now.
    open: usize,
    /// Will not be tried again.
    given_up: usize,
    /// When a connection's pause is over.
    pauses: BinaryHeap<Reverse<(u64, u32)>>,
    /// When a connect takes too long: slot and serial.
    too_long: VecDeque<(u64, u32, u32)>,
    /// Slots that are to be opened as soon as there is room.
    waiting: VecDeque<u32>,
    /// Slots with output from the schedule.
    dirty: Vec<u32>,
    schedule: Option<Schedule>,
    /// Where the schedule's zero is.
    started: u64,
    /// When this generator began.
    born: u64,
    /// The last time something came of connecting.
    progress: u64,
    /// What the alarm is set to.
    alarm_at: u64,
    next_sample: u64,
    echoing: Option<phase::Echoing>,
    latest: u64,
    /// Requests of the schedule that came due and have no connection.
    homeless: u64,
    measure: phase::Measure,
    addresses: Vec<SocketAddr>,
    /// What addresses of GOAWAYs were looked up.
    names: HashMap<String, Option<u16>>,
    backoff: Backoff,
    random: Rng,
    pattern: Pattern,
    pool: Pool,
    books: Books,
    ids: Ids,
    acks: Acks,
    /// Where they go.
    acks_file: Option<File>,
    /// Why it can't go on.
    failed: Option<String>,
    scratch: Vec<u8>,
}

/// One connection and its place. Idle, this is all that it takes of the process's memory.
struct Conn {
    stream: Option<TcpStream>,
    link: Link,
    /// Requests of the schedule that have become due.
    due: u32,
    /// Requests of the schedule that were sent.
    sent: u32,
    /// Which connect it is, so that an old timer does not meet a new connection.
    serial: u32,
    /// Which of the addresses.
    address: u16,
    /// Connects that failed in a row.
    attempt: u8,
    /// It is not tried again.
    given_up: bool,
    /// It was READY, and counts as that.
    counted: bool,
    /// While it is being opened: when that began. Else: before when it may not be opened anew; 0: any time.
    mark: u64,
}

impl Generator {
    /// A generator that has not begun.
    ///
    /// # Errors
    /// The system gives no poll; the file for what is acknowledged can't be made.
    pub fn new(plan: Plan, orders: Receiver<Order>) -> io::Result<Generator> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ago = since.saturating_sub(Duration::from_nanos(plan.began));
        let now = Instant::now();
        let mut random = Rng::with_seed(plan.seed ^ plan.first.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let schedule = match plan.pacing {
            Pacing::Open { rate } => Some(Schedule::new(rate, plan.all, plan.first, plan.count as u64)),
            Pacing::Closed { .. } | Pacing::Silent => None,
        };
        let acks_file = plan.acks.as_ref().map(File::create).transpose()?;
        let mut generator = Generator {
            poll,
            alarm,
            waker,
            orders,
            began: now.checked_sub(ago).unwrap_or(now),
            now: 0,
            phase: Phase::Connecting,
            conns: Vec::with_capacity(plan.count),
            begun: 0,
            storm: 0,
            connecting: 0,
            ready: 0,
            open: 0,
            given_up: 0,
            pauses: BinaryHeap::new(),
            too_long: VecDeque::new(),
            waiting: VecDeque::new(),
            dirty: Vec::new(),
            schedule,
            started: 0,
            born: 0,
            progress: 0,
            alarm_at: 0,
            next_sample: 0,
            echoing: None,
            latest: 0,
            homeless: 0,
            measure: phase::Measure::default(),
            addresses: vec![plan.server],
            names: HashMap::new(),
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1, random.fork()),
            // No two runs begin in the same nanosecond.
            pattern: Pattern::new(plan.seed, plan.began),
            pool: Vec::new(),
            books: Books::new(plan.shape),
            ids: Ids::default(),
            acks: Acks { wanted: acks_file.is_some(), lines: Vec::new(), began_ms: plan.began / 1_000_000 },
            acks_file,
            failed: None,
            scratch: vec![0; SCRATCH],
            random,
            plan,
        };
        generator.now = generator.clock();
        (generator.born, generator.progress) = (generator.now, generator.now);
        generator.next_sample = generator.now / generator.plan.interval;
        Ok(generator)
    }

    /// To be called after an order was sent.
    pub fn wake(&self) -> Wake {
        Arc::clone(&self.waker)
    }

    /// Runs to the end. `tell` gets all messages, the last one being [`Message::Final`] or
    /// [`Message::Failed`].
    pub fn run(mut self, tell: &mut dyn FnMut(Message)) {
        let last = match self.run_to_end(tell) {
            Ok(()) => Message::Final(Box::new(self.summary())),
            Err(error) => Message::Failed(error),
        };
        tell(last);
    }

    fn run_to_end(&mut self, tell: &mut dyn FnMut(Message)) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        while self.phase != Phase::Done {
            self.advance(tell)?;
            self.open_connections();
            self.follow_schedule();
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("cannot wait for events: {error}")),
            }
            self.now = self.clock();
            for event in &events {
                if event.token().0 < self.conns.len() {
                    self.handle_event(event);
                }
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
        }
        self.sample(true, tell);
        Ok(())
    }

    /// Nanoseconds since the run began.
    #[inline]
    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Brings what was acknowledged to the file, before anything is made of it.
    #[inline]
    fn keep_acks(&mut self) {
        if self.acks.lines.is_empty() {
            return;
        }
        if let Some(Err(error)) = self.acks_file.as_mut().map(|file| file.write_all(&self.acks.lines)) {
            self.failed = Some(format!("cannot write what was acknowledged: {error}"));
        }
        self.acks.lines.clear();
    }

    /// Splits off one connection with all that it needs.
    #[inline]
    fn parts(&mut self, slot: usize) -> (&mut Conn, Cx<'_>) {
        let cx = Cx {
            books: &mut self.books,
            pattern: &self.pattern,
            mix: &self.plan.mix,
            pool: &mut self.pool,
            ids: &mut self.ids,
            acks: &mut self.acks,
            retry: self.plan.retry.is_some(),
            owner: (self.plan.first as u32).wrapping_add(slot as u32),
            now: self.now,
            news: News::default(),
        };
        (&mut self.conns[slot], cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_connection_takes_less_than_100_bytes_here() {
        // mio keeps an id in each socket where debug assertions are on.
        let size = size_of::<Conn>() - if cfg!(debug_assertions) { 8 } else { 0 };
        assert!(size <= 96, "{size}");
    }
}
