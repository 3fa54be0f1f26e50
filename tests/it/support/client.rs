//! A client that can be as wrong as a test needs it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use tidegate::proto::message::session_put_payload;
use tidegate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Extensions, FrameDecoder, GoAway, GoAwayReason, GoAwayStage, MAX_BODY,
    SessionId, Version, encode, encode_extended, extension_type,
};

use super::PATIENCE;

/// A frame of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub version: Version,
    pub seq: u32,
    pub cmd: Command,
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub payload: Vec<u8>,
}

/// What a read ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Frame(Reply),
    Eof,
    Reset,
}

/// One connection. Every read and write that takes longer than [`PATIENCE`] fails the test.
pub struct Client {
    pub stream: TcpStream,
    received: VecDeque<Reply>,
    decoder: FrameDecoder,
    /// The last `seq` that [`Client::request`] used.
    pub seq: u32,
}

/// A version-1 frame.
pub fn frame(seq: u32, cmd: Command, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(encode(&mut out, seq, cmd, payload));
    out
}

/// A version-2 frame.
pub fn frame_v2(seq: u32, cmd: Command, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(encode_extended(&mut out, seq, cmd, extensions, payload));
    out
}

/// An extension block of one extension.
pub fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    assert!(Extensions::push(&mut block, kind, value));
    block
}

/// Sends ECHOs of this many bytes and reads nothing, until the server takes no more.
pub fn pour(client: &Client, payload: usize) {
    // Fixed, so that the kernel does not find more and more room.
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for seq in client.seq + 1.. {
        if (&client.stream).write_all(&frame(seq, Command::ECHO, &vec![1; payload])).is_err() {
            return;
        }
        assert!(seq < 100_000, "it takes everything from a client that reads nothing");
    }
}

impl Client {
    /// Connects, and says nothing.
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).unwrap())
    }

    /// A client on a stream that is connected already.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, received: VecDeque::new(), decoder: FrameDecoder::new(MAX_BODY), seq: 0 }
    }

    /// Connects and authenticates with an empty token.
    pub fn ready(address: SocketAddr) -> (Client, AuthReady) {
        let mut client = Client::connect(address);
        let ready = client.auth(b"");
        (client, ready)
    }

    /// Authenticates.
    pub fn auth(&mut self, token: &[u8]) -> AuthReady {
        let seq = self.request(Command::AUTH, token);
        self.expect_ready(seq)
    }

    /// Authenticates and asks for a session.
    pub fn resume(&mut self, token: &[u8], session: SessionId) -> AuthReady {
        let seq = self.request_v2(Command::AUTH, &extension(extension_type::RESUME, &session), token);
        self.expect_ready(seq)
    }

    /// Asks for a session of which nobody can say whether it is to be had.
    pub fn expect_resume_unavailable(&mut self, session: SessionId) {
        let seq = self.request_v2(Command::AUTH, &extension(extension_type::RESUME, &session), b"");
        self.expect_end(seq, ErrorCode::Unavailable);
    }

    /// Reads READY.
    pub fn expect_ready(&mut self, seq: u32) -> AuthReady {
        let reply = self.frame();
        assert_eq!((reply.cmd, reply.seq), (Command::READY, seq), "{reply:?}");
        AuthReady::parse(&reply.payload).unwrap()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a version-1 request with the next `seq`, which it returns.
    pub fn request(&mut self, cmd: Command, payload: &[u8]) -> u32 {
        self.seq += 1;
        self.send(&frame(self.seq, cmd, payload));
        self.seq
    }

    /// Sends a version-2 request with the next `seq`, which it returns.
    pub fn request_v2(&mut self, cmd: Command, extensions: &[u8], payload: &[u8]) -> u32 {
        self.seq += 1;
        self.send(&frame_v2(self.seq, cmd, extensions, payload));
        self.seq
    }

    /// A request and its reply, which must be the next frame.
    pub fn call(&mut self, cmd: Command, payload: &[u8]) -> Vec<u8> {
        let seq = self.request(cmd, payload);
        self.expect_reply(seq, cmd)
    }

    /// Puts an entry into the session's state.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        assert_eq!(self.call(Command::SESSION_PUT, &session_put_payload(key, value).unwrap()), b"");
    }

    /// An entry of the session's state, if it is there.
    pub fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let seq = self.request(Command::SESSION_GET, key);
        let reply = self.frame();
        assert_eq!(reply.seq, seq);
        if reply.cmd == Command::SESSION_GET {
            return Some(reply.payload);
        }
        assert_eq!(ErrorReply::parse(&reply.payload).unwrap().known_code(), Some(ErrorCode::NotFound));
        None
    }

    /// A request and the code of its ERROR, which must be the next frame.
    pub fn call_failing(&mut self, cmd: Command, payload: &[u8]) -> ErrorCode {
        let seq = self.request(cmd, payload);
        self.expect_error(seq).0
    }

    /// Whether everything still works.
    pub fn assert_alive(&mut self) {
        assert_eq!(self.call(Command::ECHO, b"alive?"), b"alive?");
    }

    /// The next thing that the server does.
    pub fn next(&mut self) -> Got {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if let Some(reply) = self.received.pop_front() {
                return Got::Frame(reply);
            }
            let n = match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.decoder.is_empty(), "the stream ended within a frame");
                    return Got::Eof;
                }
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Got::Reset,
                Err(e) => panic!("nothing came: {e}"),
            };
            let mut input = &buffer[..n];
            while let Some(frame) = self.decoder.next(&mut input).expect("the server speaks the protocol") {
                self.received.push_back(Reply {
                    version: frame.version,
                    seq: frame.seq,
                    cmd: frame.cmd,
                    extensions: frame.extensions.iter().map(|(kind, value)| (kind, value.to_vec())).collect(),
                    payload: frame.payload.to_vec(),
                });
            }
            self.decoder.keep(&mut input);
        }
    }

    /// The next frame; an end instead fails the test.
    pub fn frame(&mut self) -> Reply {
        match self.next() {
            Got::Frame(reply) => reply,
            end => panic!("a frame was expected, not {end:?}"),
        }
    }

    /// The reply to this request, which must be the next frame.
    pub fn expect_reply(&mut self, seq: u32, cmd: Command) -> Vec<u8> {
        let reply = self.frame();
        if let Ok(error) = ErrorReply::parse(&reply.payload)
            && reply.cmd == Command::ERROR
        {
            panic!("{error:?} to {} instead of a reply to {seq}", reply.seq);
        }
        assert_eq!((reply.cmd, reply.seq), (cmd, seq), "{reply:?}");
        reply.payload
    }

    /// Code, retry-after and command of the ERROR with this `seq`, which must be the next frame.
    pub fn expect_error(&mut self, seq: u32) -> (ErrorCode, u32, u8) {
        let reply = self.frame();
        assert_eq!((reply.cmd, reply.seq), (Command::ERROR, seq), "{reply:?}");
        let error = ErrorReply::parse(&reply.payload).unwrap();
        assert!(!error.text.is_empty());
        (error.known_code().unwrap(), error.retry_after_ms, error.cmd)
    }

    /// An ERROR with this code and `seq`, then the orderly end.
    pub fn expect_end(&mut self, seq: u32, code: ErrorCode) {
        assert_eq!(self.expect_error(seq).0, code);
        self.expect_eof();
    }

    /// GOAWAY of this stage and reason, which must be the next frame.
    pub fn expect_goaway(&mut self, stage: GoAwayStage, reason: GoAwayReason) -> GoAway {
        let reply = self.frame();
        assert_eq!((reply.cmd, reply.seq), (Command::GOAWAY, 0), "{reply:?}");
        let goaway = GoAway::parse(&reply.payload).unwrap();
        assert_eq!((goaway.stage, goaway.reason), (stage, reason), "{goaway:?}");
        goaway
    }

    /// The orderly end, now.
    pub fn expect_eof(&mut self) {
        assert_eq!(self.next(), Got::Eof);
    }

    /// A reset, now.
    pub fn expect_reset(&mut self) {
        assert_eq!(self.next(), Got::Reset);
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> (Vec<Reply>, Got) {
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Got::Frame(reply) => frames.push(reply),
                end => return (frames, end),
            }
        }
    }

    /// Sends nothing more.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}
