//! A server that does what the test says, frame by frame, on a real socket.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::client::{Client, ClientError, ClientOptions};
use crate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Extensions, FrameDecoder, GoAway, GoAwayReason, GoAwayStage, MAX_BODY,
    SessionId, Version, encode,
};

/// No test waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server(TcpListener);

impl Server {
    pub fn start() -> Server {
        Server(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Listens again where a server was before.
    pub fn start_at(address: SocketAddr) -> Server {
        Server(TcpListener::bind(address).unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Quick, patient with calls, and everything at its default.
    pub fn options(&self) -> ClientOptions {
        ClientOptions {
            connect_timeout: PATIENCE,
            deadline: PATIENCE,
            backoff_base: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            ..ClientOptions::new([self.address().to_string()])
        }
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        let listener = self.0.try_clone().unwrap();
        let accepted = spawn(move || listener.accept().map(|(stream, _)| stream));
        let stream = accepted.recv_timeout(PATIENCE).expect("no connection came").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer { stream, decoder: FrameDecoder::new(MAX_BODY), frames: VecDeque::new(), last_seq: 0 }
    }

    /// The next connection, after it has got its READY.
    pub fn accept_ready(&self) -> Peer {
        let mut peer = self.accept();
        peer.ready(&Peer::READY);
        peer
    }

    pub fn connect(&self) -> (Client, Peer) {
        self.connect_with(self.options())
    }

    pub fn connect_with(&self, options: ClientOptions) -> (Client, Peer) {
        let client = spawn(move || Client::connect(options));
        let peer = self.accept_ready();
        (wait(&client).unwrap(), peer)
    }
}

/// Runs `job` on another thread; its result comes by the channel.
pub fn spawn<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(job()));
    receiver
}

/// Calls on another thread.
pub fn call(client: &Client, cmd: Command, payload: &'static [u8]) -> Receiver<Result<Vec<u8>, ClientError>> {
    let client = client.clone();
    spawn(move || client.call(cmd, payload).map(|reply| reply.payload))
}

pub fn wait<T>(result: &Receiver<T>) -> T {
    result.recv_timeout(PATIENCE).expect("no result came")
}

/// A frame that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub version: Version,
    pub seq: u32,
    pub cmd: Command,
    pub payload: Vec<u8>,
    pub resume: Option<SessionId>,
    pub heartbeat_ms: Option<u32>,
    pub deadline_ms: Option<u32>,
    pub idempotency: Option<[u8; 16]>,
}

/// The server's end of one connection.
pub struct Peer {
    stream: TcpStream,
    decoder: FrameDecoder,
    frames: VecDeque<Got>,
    /// Of the last request.
    pub last_seq: u32,
}

impl Peer {
    pub const READY: AuthReady =
        AuthReady { session: [7; 16], resumed: false, heartbeat_ms: 3_600_000, max_payload: 65_535, session_ttl_s: 60 };

    /// Takes AUTH, answers READY.
    pub fn ready(&mut self, ready: &AuthReady) -> Got {
        let auth = self.request(Command::AUTH);
        self.write(|out| ready.encode(out, auth.seq));
        auth
    }

    /// The next frame, or `None` at EOF or reset.
    pub fn frame(&mut self) -> Option<Got> {
        let mut buffer = [0; 4096];
        while self.frames.is_empty() {
            let n = match self.stream.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("no frame came: {error}"),
            };
            if n == 0 {
                return None;
            }
            let mut input = &buffer[..n];
            while let Some(frame) = self.decoder.next(&mut input).unwrap() {
                self.frames.push_back(Got {
                    version: frame.version,
                    seq: frame.seq,
                    cmd: frame.cmd,
                    payload: frame.payload.to_vec(),
                    resume: frame.extensions.resume(),
                    heartbeat_ms: frame.extensions.heartbeat_ms(),
                    deadline_ms: frame.extensions.deadline_ms(),
                    idempotency: frame.extensions.idempotency(),
                });
            }
            self.decoder.keep(&mut input);
        }
        self.frames.pop_front()
    }

    /// The next frame, which must be this one.
    pub fn expect(&mut self, cmd: Command) -> Got {
        let frame = self.frame().unwrap_or_else(|| panic!("EOF in place of {cmd}"));
        assert_eq!(frame.cmd, cmd, "{frame:?}");
        frame
    }

    /// The next frame, which must be this request.
    pub fn request(&mut self, cmd: Command) -> Got {
        let frame = self.expect(cmd);
        self.last_seq = frame.seq;
        frame
    }

    /// The client has closed.
    pub fn expect_eof(&mut self) {
        assert_eq!(self.frame(), None);
    }

    pub fn reply(&mut self, request: &Got, payload: &[u8]) {
        let cmd = if request.cmd == Command::PING { Command::PONG } else { request.cmd };
        self.send(request.seq, cmd, payload);
    }

    pub fn error(&mut self, seq: u32, code: ErrorCode, retry_after_ms: u32) {
        let error = ErrorReply { retry_after_ms, ..ErrorReply::new(code, Command(0), code.text()) };
        self.write(|out| error.encode(out, seq));
    }

    pub fn send(&mut self, seq: u32, cmd: Command, payload: &[u8]) {
        self.write(|out| assert!(encode(out, seq, cmd, payload)));
    }

    pub fn send_extended(&mut self, seq: u32, cmd: Command, kind: u8, value: &[u8], payload: &[u8]) {
        let mut block = Vec::new();
        assert!(Extensions::push(&mut block, kind, value));
        self.write(|out| assert!(crate::proto::encode_extended(out, seq, cmd, &block, payload)));
    }

    pub fn notice(&mut self, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        self.goaway(GoAwayStage::Notice, GoAwayReason::Drain, GoAway::NO_LAST_SEQ, addresses);
    }

    pub fn last_goaway(&mut self, reason: GoAwayReason, last_seq: u32) {
        self.goaway(GoAwayStage::Final, reason, last_seq, Vec::new());
    }

    fn goaway(&mut self, stage: GoAwayStage, reason: GoAwayReason, last_seq: u32, addresses: Vec<String>) {
        let goaway = GoAway { stage, reason, last_seq, deadline_ms: 20_000, reconnect_after_ms: 0, addresses };
        self.write(|out| goaway.encode(out));
    }

    pub fn write(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        append(&mut out);
        self.stream.write_all(&out).unwrap();
    }

    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Answers the client's GOAWAY as a server does, after everything before it was answered.
    pub fn part(&mut self) {
        self.expect(Command::GOAWAY);
        self.last_goaway(GoAwayReason::Asked, self.last_seq);
        self.half_close();
        self.expect_eof();
    }
}
