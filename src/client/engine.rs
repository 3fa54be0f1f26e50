//! The client's one thread: sockets, clock and callers on one side, the [`Manager`] on the other.
//!
//! No socket blocks and no lock is held while another is taken, so that nothing the server does can keep a
//! caller past its deadline: callers wait for their slot and for nothing else.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::client::ClientError;
use crate::client::call::{Call, Slot};
use crate::client::manager::{Action, End, LinkId, Manager};
use crate::client::stats::Status;

const WAKE: Token = Token(0);
const SCRATCH: usize = 64 * 1024;
/// Reads of one socket before the others, the timers and the callers have their turn.
const READS_PER_TURN: usize = 16;

/// What callers, and threads that resolve names, tell the engine.
#[derive(Debug)]
pub enum Request {
    Call(Call),
    /// End in good order. No call is taken after this.
    Close {
        bye: Option<Call>,
        slot: Arc<Slot<Result<(), ClientError>>>,
        deadline: Instant,
    },
    /// A caller's deadline passed.
    CallerLeft,
    Resolved {
        attempt: u64,
        result: io::Result<Vec<SocketAddr>>,
    },
    /// End now.
    Shutdown,
}

/// What the engine and the callers share.
#[derive(Debug)]
pub struct Shared {
    pub status: Arc<Status>,
    inbox: Mutex<Inbox>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Inbox {
    requests: Vec<Request>,
    /// No call is taken any more.
    closing: bool,
    /// Nobody reads the requests any more.
    ended: bool,
}

impl Shared {
    /// Tells the engine. A call is refused, and gets [`ClientError::Closed`] by being dropped, once the client closes.
    pub fn submit(&self, request: Request) -> bool {
        {
            let mut inbox = self.inbox();
            if inbox.ended || (inbox.closing && matches!(request, Request::Call(_))) {
                return false;
            }
            inbox.closing |= matches!(request, Request::Close { .. });
            inbox.requests.push(request);
        }
        if let Err(error) = self.waker.wake() {
            log::error!("the client's thread could not be woken: {error}");
        }
        true
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Engine {
    poll: Poll,
    shared: Arc<Shared>,
    manager: Manager,
    sockets: HashMap<LinkId, TcpStream>,
    dialing: Option<Dialing>,
    /// Tokens and ids: one sequence, so that a late event never meets a newer socket.
    next_id: usize,
    /// Sockets that had more to read than one turn allows.
    unread: Vec<LinkId>,
    scratch: Vec<u8>,
}

/// The transport that is being connected.
enum Dialing {
    Resolving { attempt: u64, address: String },
    Connecting { id: LinkId, stream: TcpStream, rest: VecDeque<SocketAddr>, address: String },
}

impl Engine {
    /// Makes what can fail to be made.
    pub fn new(status: Arc<Status>, manager: Manager) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Arc::new(Shared { status, inbox: Mutex::default(), waker });
        Ok(Engine {
            poll,
            shared,
            manager,
            sockets: HashMap::new(),
            dialing: None,
            next_id: WAKE.0 + 1,
            unread: Vec::new(),
            scratch: vec![0; SCRATCH],
        })
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Runs until the client is closed or dropped.
    pub fn run(mut self) {
        let _ended = EndsInbox(Arc::clone(&self.shared));
        let mut events = Events::with_capacity(64);
        loop {
            let now = Instant::now();
            if !self.take_requests(now) {
                break self.manager.abort(&ClientError::Closed, now);
            }
            self.manager.handle_timers(now);
            self.perform(now);
            if self.manager.is_closed() {
                break;
            }
            if let Err(error) = self.wait(&mut events) {
                log::error!("the client's poll failed: {error}");
                break self.manager.abort(&ClientError::io("poll", &error), now);
            }
            let now = Instant::now();
            // Input goes before timers: a process that was stopped must not take what it has not read for silence.
            for id in std::mem::take(&mut self.unread) {
                self.read(id, now);
            }
            for event in &events {
                if event.token() != WAKE {
                    self.handle_socket(event.token().0, now);
                }
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let until = if self.unread.is_empty() { self.manager.next_timer() } else { Some(Instant::now()) };
        let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Returns whether the engine goes on.
    fn take_requests(&mut self, now: Instant) -> bool {
        let requests = std::mem::take(&mut self.shared.inbox().requests);
        for request in requests {
            match request {
                Request::Call(call) => self.manager.handle_call(call),
                Request::Close { bye, slot, deadline } => self.manager.handle_close(bye, slot, deadline),
                Request::CallerLeft => self.manager.forget_left(),
                Request::Resolved { attempt, result } => self.handle_resolved(attempt, result, now),
                Request::Shutdown => return false,
            }
        }
        true
    }

    /// Does what the manager wants done, writes what there is to write, and what follows from that.
    fn perform(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.manager.poll_action() {
                match action {
                    Action::Connect(address) => self.connect(address, now),
                    Action::Abort => self.dialing = None,
                    Action::Close(id) => drop(self.sockets.remove(&id)),
                }
            }
            let mut written = false;
            for id in self.manager.writable() {
                written |= self.flush(id, now);
            }
            if !written {
                return;
            }
            self.manager.update(now);
        }
    }

    fn connect(&mut self, address: String, now: Instant) {
        if let Ok(literal) = address.parse::<SocketAddr>() {
            return self.connect_to(VecDeque::from([literal]), address, None, now);
        }
        // The system's resolver blocks, for as long as it likes: on a thread that nobody waits for.
        let attempt = self.next_id as u64;
        self.next_id += 1;
        let (shared, name) = (Arc::clone(&self.shared), address.clone());
        let resolve = move || {
            let result = name.to_socket_addrs().map(Iterator::collect);
            shared.submit(Request::Resolved { attempt, result });
        };
        match std::thread::Builder::new().name("tidegate-resolve".to_owned()).spawn(resolve) {
            Ok(_) => self.dialing = Some(Dialing::Resolving { attempt, address }),
            Err(error) => self.manager.handle_connect_failed(ClientError::io(&address, &error), now),
        }
    }

    fn handle_resolved(&mut self, wanted: u64, result: io::Result<Vec<SocketAddr>>, now: Instant) {
        let address = match self.dialing.take() {
            Some(Dialing::Resolving { attempt, address }) if attempt == wanted => address,
            other => return self.dialing = other,
        };
        match result {
            Ok(addresses) => self.connect_to(addresses.into(), address, None, now),
            Err(error) => self.manager.handle_connect_failed(ClientError::io(&address, &error), now),
        }
    }

    /// Begins to connect to the first address that takes it.
    fn connect_to(
        &mut self,
        mut rest: VecDeque<SocketAddr>,
        address: String,
        mut error: Option<io::Error>,
        now: Instant,
    ) {
        while let Some(next) = rest.pop_front() {
            let id = self.next_id;
            self.next_id += 1;
            let begun = TcpStream::connect(next).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, Token(id), interest).map(|()| stream)
            });
            match begun {
                Ok(stream) => return self.dialing = Some(Dialing::Connecting { id, stream, rest, address }),
                Err(failed) => error = Some(failed),
            }
        }
        let error = error.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        self.manager.handle_connect_failed(ClientError::io(&address, &error), now);
    }

    fn handle_socket(&mut self, id: LinkId, now: Instant) {
        match self.dialing.take() {
            Some(Dialing::Connecting { id: dialed, stream, rest, address }) if dialed == id => {
                match is_connected(&stream) {
                    Ok(false) => self.dialing = Some(Dialing::Connecting { id, stream, rest, address }),
                    Ok(true) => {
                        self.sockets.insert(id, stream);
                        self.manager.handle_connected(id, now);
                        self.read(id, now);
                    }
                    Err(error) => self.connect_to(rest, address, Some(error), now),
                }
            }
            other => {
                self.dialing = other;
                self.read(id, now);
            }
        }
    }

    fn read(&mut self, id: LinkId, now: Instant) {
        for _ in 0..READS_PER_TURN {
            let Some(stream) = self.sockets.get_mut(&id) else { return };
            match stream.read(&mut self.scratch) {
                Ok(0) => return self.manager.handle_end(id, End::Eof, now),
                Ok(n) => {
                    if !self.manager.handle_input(id, &self.scratch[..n], now) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.manager.handle_end(id, End::Lost(error.to_string()), now),
            }
        }
        self.unread.push(id);
    }

    /// Writes until the socket takes no more. Returns whether it took anything, or ended.
    fn flush(&mut self, id: LinkId, now: Instant) -> bool {
        let mut any = false;
        while let (Some(stream), output @ [_, ..]) = (self.sockets.get_mut(&id), self.manager.output(id)) {
            match stream.write(output) {
                Ok(n) => {
                    self.manager.handle_written(id, n);
                    any |= n > 0;
                    if n == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // What the server said before it closed tells what became of the requests.
                    self.read(id, now);
                    self.manager.handle_end(id, End::Lost(error.to_string()), now);
                    return true;
                }
            }
        }
        any
    }
}

/// Whether the connect has ended well (`Ok(true)`), or has not ended.
fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // A port of this host's dynamic range on which nobody listens can connect to itself.
        Ok(peer) if stream.local_addr().is_ok_and(|local| local == peer) => {
            Err(io::Error::from(io::ErrorKind::ConnectionRefused))
        }
        Ok(_) => {
            stream.set_nodelay(true)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// However the thread ends, callers learn of it.
struct EndsInbox(Arc<Shared>);

impl Drop for EndsInbox {
    fn drop(&mut self) {
        let left = {
            let mut inbox = self.0.inbox();
            inbox.ended = true;
            std::mem::take(&mut inbox.requests)
        };
        for request in left {
            if let Request::Close { slot, .. } = request {
                slot.complete(Err(ClientError::Closed));
            }
        }
    }
}
