//! A client's connection: blocking, with a time-out, and everything read is checked by the caller.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidegate::proto::{
    AuthReady, Command, ErrorReply, Extensions, FrameDecoder, MAX_BODY, SessionId, encode, encode_extended,
    extension_type,
};

/// A reply, or an ERROR, to the request with this `seq`; 0: about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whose reply it is.
    pub seq: u32,
    /// The payload; or the code and words of an ERROR.
    pub what: std::result::Result<Vec<u8>, (u16, String)>,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    tail: Vec<u8>,
    /// Decoded and not yet given out, the first one last.
    waiting: Vec<Reply>,
    seq: u32,
    out: Vec<u8>,
    /// The server wishes that we go.
    pub moving: bool,
}

impl Wire {
    /// Connects and logs in, with the session that is to be resumed. Gives READY, or the ERROR.
    ///
    /// # Errors
    /// There is no connection, or it broke.
    pub fn open(
        address: SocketAddr,
        resume: Option<SessionId>,
        patience: Duration,
    ) -> Result<std::result::Result<(Wire, AuthReady), (u16, String)>> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut wire = Wire { stream, tail: Vec::new(), waiting: Vec::new(), seq: 0, out: Vec::new(), moving: false };
        let resume = resume.map(|id| (extension_type::RESUME, id));
        wire.ask(Command::AUTH, resume, &[]);
        wire.send()?;
        match wire.reply()?.what {
            Ok(payload) => {
                let ready = AuthReady::parse(&payload).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
                Ok(Ok((wire, ready)))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Queues a request, with an extension of 16 bytes; gives its `seq`.
    pub fn ask(&mut self, cmd: Command, extension: Option<(u8, [u8; 16])>, payload: &[u8]) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        let fitted = match extension {
            None => encode(&mut self.out, self.seq, cmd, payload),
            Some((kind, value)) => {
                let mut block = Vec::new();
                Extensions::push(&mut block, kind, &value)
                    && encode_extended(&mut self.out, self.seq, cmd, &block, payload)
            }
        };
        debug_assert!(fitted, "clients send what fits");
        self.seq
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The connection broke: what became of it is not known.
    pub fn send(&mut self) -> Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out)
    }

    /// The next reply, in the order in which they come.
    ///
    /// # Errors
    /// The connection broke, or nothing came in time.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut scratch = [0; 64 * 1024];
        loop {
            if let Some(reply) = self.waiting.pop() {
                return Ok(reply);
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(n) => self.take(&scratch[..n])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let mut decoder = FrameDecoder::resume(std::mem::take(&mut self.tail), MAX_BODY);
        let mut input = bytes;
        let mut pongs = Vec::new();
        loop {
            let frame = match decoder.next(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Err(Error::new(ErrorKind::InvalidData, format!("no frame: {error:?}"))),
            };
            match frame.cmd {
                Command::PING => {
                    let fitted = encode(&mut pongs, frame.seq, Command::PONG, frame.payload);
                    debug_assert!(fitted, "as long as the PING");
                }
                Command::GOAWAY => self.moving = true,
                Command::ERROR => {
                    let error = ErrorReply::parse(frame.payload)
                        .map_err(|error| Error::new(ErrorKind::InvalidData, error.to_string()))?;
                    self.waiting.push(Reply { seq: frame.seq, what: Err((error.code, error.text.to_owned())) });
                }
                _ => self.waiting.push(Reply { seq: frame.seq, what: Ok(frame.payload.to_vec()) }),
            }
        }
        decoder.keep(&mut input);
        self.tail = decoder.into_tail();
        self.waiting.reverse();
        if pongs.is_empty() { Ok(()) } else { self.stream.write_all(&pongs) }
    }
}
