//! One connection that sends something and knows what has to come back.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tidegate::proto::{AuthReady, Command, ErrorReply, FrameDecoder, HEADER_LEN, MAX_BODY, encode};

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The protocol: AUTH is answered by READY, an ECHO by the same frame.
    Mcp,
    /// Bytes: whatever is sent comes back.
    Raw,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Its socket.
    pub socket: OwnedFd,
    /// The connect has succeeded.
    pub connected: bool,
    /// It was let in, and has sent its first frames.
    pub greeted: bool,
    out: Vec<u8>,
    sent: usize,
    awaits: Awaits,
    seq: u32,
}

#[derive(Debug)]
enum Awaits {
    Nothing,
    /// The bytes of `out`; this many are there. The reply to a plain ECHO is the request's frame,
    /// and a server that answers in place answers in order.
    Same(usize),
    /// READY; what is there of it.
    Ready(Vec<u8>),
}

impl Client {
    /// A connection that begins with AUTH, or with its bytes.
    pub fn greeting(socket: OwnedFd, mode: Mode, token: &[u8]) -> Client {
        let mut out = Vec::new();
        let fitted = encode(&mut out, 1, Command::AUTH, token);
        debug_assert!(fitted, "a token fits");
        let awaits = match mode {
            Mode::Mcp => Awaits::Ready(Vec::new()),
            Mode::Raw => Awaits::Same(0),
        };
        Client { socket, connected: false, greeted: false, out, sent: 0, awaits, seq: 1 }
    }

    /// Whether nothing is awaited.
    pub fn is_done(&self) -> bool {
        matches!(self.awaits, Awaits::Nothing)
    }

    /// Makes `count` frames with the next sequence numbers; [`Client::write`] sends them.
    pub fn send_frames(&mut self, cmd: Command, count: usize, payload: usize) {
        let frame = HEADER_LEN + payload.min(MAX_BODY);
        if self.out.len() != frame * count || self.out.get(8) != Some(&cmd.0) {
            // Of its exact size: many connections may hold one.
            self.out = Vec::with_capacity(frame * count);
            let body: Vec<u8> = (0..payload.min(MAX_BODY)).map(|i| i as u8).collect();
            for _ in 0..count {
                let fitted = encode(&mut self.out, 0, cmd, &body);
                debug_assert!(fitted, "cut to what fits");
            }
        }
        for frame in self.out.chunks_exact_mut(frame) {
            self.seq = self.seq.wrapping_add(1);
            frame[4..8].copy_from_slice(&self.seq.to_be_bytes());
        }
        self.sent = 0;
        self.awaits = Awaits::Same(0);
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&mut self) -> Result<()> {
        while self.sent < self.out.len() {
            match rustix::io::write(&self.socket, &self.out[self.sent..]) {
                Ok(took) => self.sent += took,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes bytes that came. Returns whether the answer is complete.
    ///
    /// # Errors
    /// It is not what has to come.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        match &mut self.awaits {
            Awaits::Nothing => Err(wrong("something came that was not asked for")),
            Awaits::Same(got) => {
                if self.out.get(*got..*got + bytes.len()) != Some(bytes) {
                    return Err(wrong("the reply is not the request's frame"));
                }
                *got += bytes.len();
                if *got < self.out.len() {
                    return Ok(false);
                }
                self.awaits = Awaits::Nothing;
                Ok(true)
            }
            Awaits::Ready(got) => {
                got.extend_from_slice(bytes);
                if !check_ready(got)? {
                    return Ok(false);
                }
                self.awaits = Awaits::Nothing;
                Ok(true)
            }
        }
    }
}

fn check_ready(bytes: &[u8]) -> Result<bool> {
    let mut decoder = FrameDecoder::new(MAX_BODY);
    let mut input = bytes;
    match decoder.next(&mut input) {
        Ok(None) => Ok(false),
        Ok(Some(frame)) if frame.cmd == Command::READY && frame.seq == 1 && AuthReady::parse(frame.payload).is_ok() => {
            Ok(true)
        }
        Ok(Some(frame)) => match ErrorReply::parse(frame.payload) {
            Ok(error) if frame.cmd == Command::ERROR => Err(wrong(&format!("ERROR {}: {}", error.code, error.text))),
            _ => Err(wrong("AUTH is not answered by READY")),
        },
        Err(error) => Err(wrong(&format!("no frame: {error:?}"))),
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(mode: Mode) -> Client {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        Client::greeting(socket.into(), mode, b"")
    }

    #[test]
    fn a_reply_with_another_seq_or_payload_is_noticed() {
        for wrong_byte in [7, 8, 20] {
            let mut client = client(Mode::Raw);
            client.send_frames(Command::ECHO, 2, 32);
            let mut reply = client.out.clone();
            assert!(!client.take(&reply[..1]).unwrap());
            reply[wrong_byte] ^= 1;
            assert!(client.take(&reply[1..]).is_err(), "{wrong_byte}");
        }
        let mut client = client(Mode::Raw);
        client.send_frames(Command::ECHO, 2, 32);
        let reply = client.out.clone();
        assert!(client.take(&reply).unwrap() && client.is_done());
    }

    #[test]
    fn every_frame_has_a_seq_of_its_own() {
        let mut client = client(Mode::Mcp);
        let mut seqs = Vec::new();
        for _ in 0..3 {
            client.send_frames(Command::ECHO, 2, 5);
            seqs.extend(client.out.chunks(14).map(|f| u32::from_be_bytes(f[4..8].try_into().unwrap())));
        }
        assert_eq!(seqs, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn in_the_protocol_only_ready_lets_in() {
        let mut bytes = Vec::new();
        AuthReady { session: [1; 16], resumed: false, heartbeat_ms: 1, max_payload: 1, session_ttl_s: 1 }
            .encode(&mut bytes, 1);
        let mut ok = client(Mode::Mcp);
        assert!(!ok.take(&bytes[..10]).unwrap());
        assert!(ok.take(&bytes[10..]).unwrap());
        let mut echoed = Vec::new();
        assert!(encode(&mut echoed, 1, Command::AUTH, b""));
        assert!(client(Mode::Mcp).take(&echoed).is_err());
    }
}
