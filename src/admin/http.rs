//! The admin port's transport: one thread, one Poll, and bounds on everything that a client may hold.
//!
//! A client that is silent, slow or deaf keeps nobody but itself, and not even itself for long:
//! it is given up at its deadline, or earlier when its place is wanted by another.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::Control;
use super::access::Access;
use super::client::{Client, Patience, Progress};
use super::routes::Desk;
use super::token::AdminToken;

/// Clients at a time. The one that is nearest to its deadline makes room for a new one.
const MAX_CLIENTS: usize = 64;

/// How long to wait before accepting again, when the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(crate::limits::ACCEPT_PAUSE_MS as u64);

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

/// Everything that can fail, before anything is accepted.
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    poll: Poll,
    waker: Arc<Waker>,
    pub(super) patience: Patience,
}

impl Bound {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Bound> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Bound { listener, address, poll, waker, patience: Patience::DEFAULT })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn spawn(self, control: Arc<dyn Control>, token: Arc<AdminToken>) -> io::Result<AdminHandle> {
        let (waker, stopped) = (self.waker.clone(), Arc::new(AtomicBool::new(false)));
        let mut port = Port {
            listener: self.listener,
            poll: self.poll,
            patience: self.patience,
            clients: Slab::with_capacity(MAX_CLIENTS),
            unfinished: Vec::new(),
            accept_at: None,
            control,
            access: Access::new(self.address, token),
            waker: waker.clone(),
            stopped: stopped.clone(),
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || port.run())?;
        Ok(AdminHandle { waker, stopped, thread: Some(thread) })
    }
}

/// The running admin port. Dropping it stops it.
pub struct AdminHandle {
    waker: Arc<Waker>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// Closes the listener and every client, and joins the thread. Waits for no client.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return };
        match self.waker.wake() {
            // Its panics are caught where they happen; there is nothing to tell about one here.
            Ok(()) => drop(thread.join()),
            // It would be joined too late: it ends at the next request.
            Err(error) => log::warn!("admin port: its thread could not be woken to end: {error}"),
        }
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for AdminHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminHandle")
    }
}

/// What the thread owns.
struct Port {
    listener: TcpListener,
    poll: Poll,
    patience: Patience,
    clients: Slab<Client>,
    /// Clients with more to do, for whom no event will come.
    unfinished: Vec<usize>,
    /// Accepting pauses until then.
    accept_at: Option<Instant>,
    control: Arc<dyn Control>,
    access: Access,
    waker: Arc<Waker>,
    stopped: Arc<AtomicBool>,
}

impl Port {
    fn run(&mut self) {
        let mut events = Events::with_capacity(MAX_CLIENTS + 2);
        while !self.stopped.load(Ordering::SeqCst) {
            if let Err(error) = self.poll.poll(&mut events, self.wait(Instant::now())) {
                if error.kind() != io::ErrorKind::Interrupted {
                    log::error!("admin port: {error}; it is served no more");
                    return;
                }
                continue;
            }
            let now = Instant::now();
            let mut ready = std::mem::take(&mut self.unfinished);
            let tokens = events.iter().map(|event| event.token());
            ready.extend(tokens.clone().filter(|token| *token < WAKER).map(usize::from));
            // The waker tells of workers' answers, and not of whose.
            ready.extend(self.clients.iter().filter(|(_, client)| client.waits_until().is_some()).map(|(key, _)| key));
            for key in ready {
                self.advance(key, now);
            }
            // Last, so that an event of this turn can't meet the new client in an old one's place.
            if events.iter().any(|event| event.token() == LISTENER) || self.accept_at.is_some_and(|at| at <= now) {
                self.accept(now);
            }
            self.clients.retain(|_, client| client.deadline() > now);
        }
    }

    /// Until something is due; `None` for ever.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines =
            self.clients.iter().flat_map(|(_, client)| client.waits_until().into_iter().chain([client.deadline()]));
        deadlines.chain(self.accept_at).min().map(|at| at.saturating_duration_since(now))
    }

    fn accept(&mut self, now: Instant) {
        self.accept_at = None;
        loop {
            match self.listener.accept() {
                Ok((stream, from)) => self.welcome(stream, from, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    log::warn!("admin port: {error}; accepting again in {PAUSE:?}");
                    self.accept_at = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream, from: SocketAddr, now: Instant) {
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, client)| client.deadline()).map(|(key, _)| key);
            oldest.map(|key| self.clients.remove(key));
        }
        let slot = self.clients.vacant_entry();
        let key = slot.key();
        match self.poll.registry().register(&mut stream, Token(key), Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => {
                slot.insert(Client::new(stream, from, self.patience, now));
                self.advance(key, now);
            }
            Err(error) => log::warn!(peer:% = from; "admin port: a client was turned away: {error}"),
        }
    }

    fn advance(&mut self, key: usize, now: Instant) {
        let open = self.clients.iter().filter(|(_, client)| client.waits_until().is_some()).count();
        let Some(client) = self.clients.get_mut(key) else { return };
        let control = &*self.control;
        let patience = self.patience.inquiry;
        let mut desk = Desk { control, access: &mut self.access, waker: &self.waker, open, patience, now };
        match client.advance(&mut desk) {
            Progress::Waiting => {}
            Progress::Unfinished => self.unfinished.push(key),
            Progress::Over => drop(self.clients.remove(key)),
        }
    }
}
