//! Connections with a worker behind them: from bytes read to bytes to be written.

use std::sync::Arc;

use tidegate::config::Config;
use tidegate::conn::{Action, Departure};
use tidegate::proto::{
    Command, Extensions, GoAwayReason, HEADER_LEN, encode, encode_extended, extension_type, message,
};
use tidegate::reactor::bench_support::{Accepted, Worker};
use tidegate::service::{Place, Request, Responder, Router};

use crate::codec::{all_cut, extension_block, stream};
use crate::harness::{Case, Work, work};

pub const CASES: &[Case] = &[
    Case { name: "conn_auth_ready", make: auth_ready },
    Case { name: "conn_auth_resume", make: auth_resume },
    Case { name: "conn_echo_depth_1", make: || requests(reads_of(1, Command::ECHO, &[7; 32])) },
    Case { name: "conn_echo_depth_16", make: || requests(reads_of(16, Command::ECHO, &[7; 32])) },
    Case { name: "conn_echo_depth_64", make: || requests(reads_of(64, Command::ECHO, &[7; 32])) },
    Case { name: "conn_echo_all_cut", make: || requests(all_cut(&stream(FRAMES, 32), FRAMES as usize)) },
    Case { name: "conn_echo_extended", make: echo_extended },
    Case { name: "conn_echo_4k", make: || requests(reads_of(1, Command::ECHO, &[7; 4096])) },
    Case { name: "conn_ping", make: || requests(reads_of(1, Command::PING, b"")) },
    Case { name: "conn_heartbeat", make: heartbeat },
    Case { name: "conn_session_put", make: session_put },
    Case { name: "conn_session_get", make: session_get },
    Case { name: "conn_handler_in_place", make: || requests(reads_of(1, HANDLED, &[7; 32])) },
    Case { name: "conn_unknown_command", make: || requests(reads_of(1, Command(0xF0), &[7; 32])) },
    Case { name: "conn_bye", make: bye },
    Case { name: "conn_drain", make: drain },
];

/// Requests of each batch.
const FRAMES: u32 = 1024;
/// Connections of each batch, where it is they that are counted.
const CONNECTIONS: usize = 256;
/// The application's command that has a handler.
const HANDLED: Command = Command(0x20);

/// A worker with one ready connection, and what that sends.
struct Talk {
    worker: Worker,
    connection: Accepted,
    /// Bytes of each read.
    reads: Vec<Vec<u8>>,
    seq: u32,
}

fn worker() -> Worker {
    let mut router = Router::new();
    let handler = |request: &Request<'_>, responder: Responder<'_>| responder.reply(request.payload());
    router.add(HANDLED, Place::Worker, Arc::new(handler)).expect("the application's own command");
    Worker::new(&Config::default(), router).expect("a poll for the waker")
}

fn frame(seq: u32, cmd: Command, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode(&mut bytes, seq, cmd, payload));
    bytes
}

/// A batch of the same request, `depth` of them to a read.
fn reads_of(depth: usize, cmd: Command, payload: &[u8]) -> Vec<Vec<u8>> {
    let read = frame(0, cmd, payload).repeat(depth);
    vec![read; FRAMES as usize / depth]
}

fn ready(worker: &mut Worker) -> Accepted {
    let mut connection = worker.accept();
    assert_eq!(worker.receive(&mut connection, &frame(0, Command::AUTH, b"")), Action::None);
    assert!(connection.connection().is_ready());
    connection
}

/// Serves the same reads again and again, each time with the sequence numbers that follow.
fn requests(reads: Vec<Vec<u8>>) -> Box<dyn Work> {
    let mut worker = worker();
    let connection = ready(&mut worker);
    work(Talk { worker, connection, reads, seq: 0 }, Talk::number, Talk::serve)
}

impl Talk {
    /// Gives the frames, which may be cut anywhere, the sequence numbers that come next.
    fn number(&mut self) {
        let mut bytes = self.reads.concat();
        let mut at = 0;
        while at < bytes.len() {
            self.seq = self.seq.wrapping_add(1);
            bytes[at + 4..at + 8].copy_from_slice(&self.seq.to_be_bytes());
            at += HEADER_LEN + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        }
        let mut rest = &bytes[..];
        for read in &mut self.reads {
            let (front, behind) = rest.split_at(read.len());
            read.copy_from_slice(front);
            rest = behind;
        }
    }

    fn serve(&mut self) -> u64 {
        let stats = self.worker.stats();
        let before = stats.answered.get() + stats.failed.get();
        for read in &self.reads {
            let action = self.worker.receive(&mut self.connection, read);
            assert_eq!(action, Action::None);
        }
        let stats = self.worker.stats();
        stats.answered.get() + stats.failed.get() - before
    }
}

fn echo_extended() -> Box<dyn Work> {
    let mut read = Vec::new();
    assert!(encode_extended(&mut read, 0, Command::ECHO, &extension_block(), &[7; 32]));
    requests(vec![read; FRAMES as usize])
}

fn session_put() -> Box<dyn Work> {
    let payload = message::session_put_payload(b"cursor", &[7; 32]).expect("a short key");
    requests(reads_of(1, Command::SESSION_PUT, &payload))
}

fn session_get() -> Box<dyn Work> {
    let mut worker = worker();
    let mut connection = ready(&mut worker);
    let payload = message::session_put_payload(b"cursor", &[7; 32]).expect("a short key");
    assert_eq!(worker.receive(&mut connection, &frame(1, Command::SESSION_PUT, &payload)), Action::None);
    let reads = reads_of(1, Command::SESSION_GET, b"cursor");
    work(Talk { worker, connection, reads, seq: 1 }, Talk::number, |talk| {
        let failed = talk.worker.stats().failed.get();
        let answered = talk.serve();
        assert_eq!(talk.worker.stats().failed.get(), failed, "it is found");
        answered
    })
}

/// Silence, our PING, and the PONG to it.
fn heartbeat() -> Box<dyn Work> {
    let mut worker = worker();
    let connection = ready(&mut worker);
    let heartbeat_ms = Config::default().heartbeat.as_millis() as u32;
    let reads = reads_of(1, Command::PONG, b"");
    work(
        Talk { worker, connection, reads, seq: 0 },
        |_| {},
        move |Talk { worker, connection, reads, .. }| {
            let before = worker.stats().pings_out.get();
            for read in reads {
                worker.wait(heartbeat_ms);
                let action = worker.step(connection, |conn, cx| conn.handle_timeout(cx));
                assert_eq!((action, worker.receive(connection, read)), (Action::None, Action::None));
            }
            worker.stats().pings_out.get() - before
        },
    )
}

/// A worker and the connections of one batch.
struct Crowd {
    worker: Worker,
    connections: Vec<Accepted>,
    /// What each of them sends.
    reads: Vec<Vec<u8>>,
}

impl Crowd {
    fn new() -> Crowd {
        Crowd { worker: worker(), connections: Vec::new(), reads: Vec::new() }
    }

    /// Ends those of the batch before, and lets new ones in.
    fn renew(&mut self, mut accept: impl FnMut(&mut Worker) -> Accepted) {
        let Crowd { worker, connections, .. } = self;
        connections.drain(..).for_each(|connection| worker.end(connection));
        worker.forget_sessions();
        connections.extend((0..CONNECTIONS).map(|_| accept(worker)));
    }

    fn all_send(&mut self) -> u64 {
        for (connection, read) in self.connections.iter_mut().zip(&self.reads) {
            let _ = self.worker.receive(connection, read);
        }
        self.count(|connection| connection.connection().is_ready())
    }

    fn count(&self, which: impl Fn(&Accepted) -> bool) -> u64 {
        self.connections.iter().filter(|connection| which(connection)).count() as u64
    }
}

fn auth_ready() -> Box<dyn Work> {
    let mut crowd = Crowd::new();
    crowd.reads = vec![frame(1, Command::AUTH, b""); CONNECTIONS];
    work(crowd, |crowd| crowd.renew(Worker::accept), Crowd::all_send)
}

/// The session lives on this worker, and its connection is gone.
fn auth_resume() -> Box<dyn Work> {
    let prepare = |crowd: &mut Crowd| {
        let mut reads = Vec::new();
        crowd.renew(|worker| {
            let gone = ready(worker);
            let id = worker.session_id(&gone).expect("it is ready");
            worker.end(gone);
            let (mut block, mut read) = (Vec::new(), Vec::new());
            assert!(Extensions::push(&mut block, extension_type::RESUME, &id));
            assert!(encode_extended(&mut read, 1, Command::AUTH, &block, b""));
            reads.push(read);
            worker.accept()
        });
        crowd.reads = reads;
    };
    let run = |crowd: &mut Crowd| {
        let before = crowd.worker.stats().sessions_resumed.get();
        crowd.all_send();
        crowd.worker.stats().sessions_resumed.get() - before
    };
    work(Crowd::new(), prepare, run)
}

/// BYE and its answer, our half-close, the peer's, and what is given back.
fn bye() -> Box<dyn Work> {
    let bye = frame(1, Command::BYE, b"");
    let run = move |Crowd { worker, connections, .. }: &mut Crowd| {
        for mut connection in connections.drain(..) {
            assert_eq!(worker.receive(&mut connection, &bye), Action::HalfClose);
            assert_eq!(worker.step(&mut connection, |conn, cx| conn.handle_eof(cx)), Action::Close);
            worker.end(connection);
        }
        CONNECTIONS as u64
    };
    work(Crowd::new(), |crowd| crowd.renew(ready), run)
}

/// A drain's notice and its last word, our half-close, the peer's, and what is given back.
fn drain() -> Box<dyn Work> {
    let run = |Crowd { worker, connections, .. }: &mut Crowd| {
        let departure = Departure::because(GoAwayReason::Drain, 25_000);
        for connection in connections.iter_mut() {
            assert_eq!(worker.step(connection, |conn, cx| conn.notice(cx, departure)), Action::None);
        }
        for mut connection in connections.drain(..) {
            assert_eq!(worker.step(&mut connection, |conn, cx| conn.finish(cx, departure)), Action::HalfClose);
            assert_eq!(worker.step(&mut connection, |conn, cx| conn.handle_eof(cx)), Action::Close);
            worker.end(connection);
        }
        CONNECTIONS as u64
    };
    work(Crowd::new(), |crowd| crowd.renew(ready), run)
}
