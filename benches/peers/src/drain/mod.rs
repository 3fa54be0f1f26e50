//! The clients' side of a drain: many kinds of connections to one server, each with its own books.

mod account;
mod client;
mod stream;

use std::io::{Error, Result, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use account::{Account, Tally, balanced};
pub use client::{Kind, Orders};

use client::Client;
use stream::Stream;

use crate::net;
use crate::poller::{EDGES, Poller, Ready};

const TICK: Duration = Duration::from_millis(2);
/// A slow reader's window, so that the server soon meets a socket that takes no more. Bytes.
const SLOW_WINDOW: usize = 8 * 1024;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// How many of each kind.
    pub mix: Vec<(Kind, usize)>,
    /// What the clients are told.
    pub orders: Orders,
    /// Decides sizes and starting points.
    pub seed: u64,
    /// After this long it is over, and whoever is left is a violation.
    pub limit: Duration,
}

/// Runs until the server has closed every connection. `out` gets the line `flowing` once every
/// client has done its first round trips, and from then on a line for each tick until a drain shows.
///
/// # Errors
/// No epoll, no sockets, or nobody to write to.
pub fn run(plan: &Plan, out: &mut impl Write) -> Result<Account> {
    net::raise_descriptor_limit();
    let mut run = Run {
        plan,
        poller: Poller::new(1024)?,
        clients: Vec::new(),
        scratch: vec![0; 64 * 1024],
        random: fastrand::Rng::with_seed(plan.seed),
        account: Account::default(),
        open: 0,
        drain_seen: None,
        last_close: Instant::now(),
        connects: 0,
    };
    for (kind, count) in &plan.mix {
        for _ in 0..*count {
            run.clients.push(None);
            run.begin(*kind, run.clients.len() - 1, 0, None)?;
        }
    }
    run.follow(out)
}

struct Run<'a> {
    plan: &'a Plan,
    poller: Poller,
    clients: Vec<Option<Client>>,
    scratch: Vec<u8>,
    random: fastrand::Rng,
    account: Account,
    open: usize,
    drain_seen: Option<Instant>,
    last_close: Instant,
    connects: usize,
}

impl Run<'_> {
    fn follow(mut self, out: &mut impl Write) -> Result<Account> {
        let over = Instant::now() + self.plan.limit;
        let mut flowing = false;
        let mut last_tick = Instant::now();
        while self.open > 0 {
            let ready = self.poller.wait(Some(TICK))?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                self.handle(&event)?;
            }
            let now = Instant::now();
            if now < last_tick + TICK {
                continue;
            }
            last_tick = now;
            self.tick()?;
            if !flowing && self.clients.iter().flatten().all(Client::flows) {
                flowing = true;
                writeln!(out, "flowing")?;
            } else if flowing && self.drain_seen.is_none() {
                writeln!(out, "progress {}", self.account.total.answered)?;
            }
            if now >= over {
                self.name_the_left();
                break;
            }
        }
        let began = self.drain_seen.unwrap_or(self.last_close);
        self.account.drain_ms = self.last_close.saturating_duration_since(began).as_millis() as u64;
        if !flowing {
            self.account.violate("the load did not flow on all connections before it was over".to_owned());
        }
        Ok(self.account)
    }

    fn begin(&mut self, kind: Kind, slot: usize, life: u32, session: Option<[u8; 16]>) -> Result<()> {
        let window = matches!(kind, Kind::Slow | Kind::Deaf).then_some(SLOW_WINDOW);
        let socket = net::begin_connect(self.plan.address, self.connects, window)?;
        self.connects += 1;
        self.poller.add(&socket, slot, EDGES)?;
        // Some start right before the wrap of sequence numbers.
        let first_seq = if self.random.bool() { self.random.u32(..) } else { u32::MAX - self.random.u32(0..500) };
        let stream = Stream::new(socket, first_seq);
        self.clients[slot] = Some(Client::new(kind, slot, life, session, stream, &self.plan.orders));
        self.open += 1;
        Ok(())
    }

    fn handle(&mut self, event: &Ready) -> Result<()> {
        let Some(client) = self.clients[event.slot].as_mut() else { return Ok(()) };
        if !client.stream.connected {
            if !event.writable && !event.ends {
                return Ok(());
            }
            if let Err(error) = net::connect_result(&client.stream.socket) {
                return self.not_connected(event.slot, error);
            }
            client.stream.connected = true;
        }
        if event.writable {
            client.stream.write();
        }
        if event.readable {
            client.handle_readable(&mut self.scratch, event.ends);
        }
        self.go_on(event.slot)
    }

    fn tick(&mut self) -> Result<()> {
        for slot in 0..self.clients.len() {
            let Some(client) = self.clients[slot].as_mut() else { continue };
            if client.stream.connected && client.needs_ticks() {
                client.handle_tick(&mut self.scratch);
                self.go_on(slot)?;
            }
        }
        Ok(())
    }

    /// Lets a client say what it has to say, and sees whether it is over.
    fn go_on(&mut self, slot: usize) -> Result<()> {
        let now = Instant::now();
        let Some(client) = self.clients[slot].as_mut() else { return Ok(()) };
        if client.stream.knows_of_drain() {
            self.drain_seen.get_or_insert(now);
        }
        client.drive(&self.plan.orders, &mut self.random);
        if client.is_over(now) {
            self.close(slot)?;
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) -> Result<()> {
        let Some(mut client) = self.clients[slot].take() else { return Ok(()) };
        self.open -= 1;
        self.last_close = Instant::now();
        client.check_end();
        let again = client.comes_again() && self.drain_seen.is_none();
        let (kind, life, session) = (client.kind, client.life + 1, client.session);
        let (tally, errors, mut violations) = client.stream.close();
        if kind == Kind::Deaf {
            violations.clear(); // what it did not read is lost, by its own doing
        }
        self.account.add(kind.name(), &tally, &errors, &violations);
        if again { self.begin(kind, slot, life, session) } else { Ok(()) }
    }

    fn not_connected(&mut self, slot: usize, error: Errno) -> Result<()> {
        let Some(client) = self.clients[slot].take() else { return Ok(()) };
        self.open -= 1;
        if error == Errno::CONNREFUSED {
            self.account.refused += 1;
            return Ok(());
        }
        let error = Error::from(error);
        self.account.violate(format!("{}: a connect failed: {error}", client.kind));
        Ok(())
    }

    fn name_the_left(&mut self) {
        for client in self.clients.iter().flatten() {
            let stream = &client.stream;
            self.account.violate(format!(
                "{}: still open: connected {}, ready {}, noticed {}, last {:?}, in flight {}, unwritten {}, life {}",
                client.kind,
                stream.connected,
                stream.ready.is_some(),
                stream.noticed,
                stream.last,
                stream.in_flight(),
                stream.unwritten(),
                client.life
            ));
        }
    }
}
