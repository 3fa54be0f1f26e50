//! Requests and replies of the servers that do the same durable work, as bytes.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::time::Instant;

use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{AuthReady, Command, ErrorReply, FrameDecoder, MAX_BODY, encode};

use crate::resp;

/// What is asked for, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tongue {
    /// tidegate: SUBMIT.
    Submit,
    /// tidegate: ECHO, which nothing stores.
    Echo,
    /// Redis: XADD to one stream.
    Xadd,
    /// Redis: SET of a key for each connection.
    Set,
    /// NATS: a message to a JetStream stream, with its acknowledgement.
    Jetstream,
}

/// One connection's requests without an answer, and the bytes on their way.
#[derive(Debug)]
pub struct Dialogue {
    tongue: Tongue,
    nth: usize,
    /// To be sent, and how much of it is.
    pub out: Vec<u8>,
    /// How much of `out` is sent.
    pub sent: usize,
    tail: Vec<u8>,
    let_in: bool,
    /// Of each request since the first without an answer: when it was due; none: it has its answer.
    open: VecDeque<Option<Instant>>,
    /// The number of the first of them.
    first: u64,
    waiting: usize,
}

impl Dialogue {
    /// Begins a connection, the nth.
    pub fn new(tongue: Tongue, nth: usize) -> Dialogue {
        let mut out = Vec::new();
        let mut let_in = false;
        match tongue {
            Tongue::Submit | Tongue::Echo => {
                let fitted = encode(&mut out, 1, Command::AUTH, b"");
                debug_assert!(fitted, "nothing fits");
            }
            Tongue::Xadd | Tongue::Set => let_in = true,
            Tongue::Jetstream => {
                let hello = r#"CONNECT {"verbose":false,"pedantic":false}"#;
                out = format!("{hello}\r\nSUB {}.* 1\r\n", inbox(nth)).into_bytes();
                if nth == 0 {
                    // Whoever comes first makes the stream; its answer is that it is there.
                    let stream = r#"{"name":"D","subjects":["d"],"retention":"limits","storage":"file","max_msgs":-1,"max_bytes":-1,"max_age":0,"num_replicas":1,"discard":"old"}"#;
                    out.extend_from_slice(
                        format!("PUB $JS.API.STREAM.CREATE.D {}.made {}\r\n{stream}\r\n", inbox(0), stream.len())
                            .as_bytes(),
                    );
                }
                out.extend_from_slice(b"PING\r\n");
            }
        }
        Dialogue { tongue, nth, out, sent: 0, tail: Vec::new(), let_in, open: VecDeque::new(), first: 0, waiting: 0 }
    }

    /// Whether requests may be sent.
    pub fn is_let_in(&self) -> bool {
        self.let_in
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.waiting
    }

    /// Queues as many requests as are missing to so many in flight.
    pub fn fill_up(&mut self, in_flight: usize, body: &[u8], due: Instant) {
        while self.waiting < in_flight {
            self.ask(body, due);
        }
    }

    /// Queues a request.
    pub fn ask(&mut self, body: &[u8], due: Instant) {
        let number = self.first + self.open.len() as u64;
        self.open.push_back(Some(due));
        self.waiting += 1;
        match self.tongue {
            Tongue::Submit | Tongue::Echo => {
                let seq = number.wrapping_add(2) as u32;
                let fitted = match self.tongue {
                    Tongue::Submit => topic_payload(b"d", body)
                        .is_some_and(|payload| encode(&mut self.out, seq, Command::SUBMIT, &payload)),
                    _ => encode(&mut self.out, seq, Command::ECHO, body),
                };
                debug_assert!(fitted, "bodies fit");
            }
            // Nothing is to be kept in memory for long, and no more on the disk than the others keep.
            Tongue::Xadd => {
                resp::command(&mut self.out, &[b"XADD", b"d", b"MAXLEN", b"~", b"100000", b"*", b"b", body]);
            }
            Tongue::Set => resp::command(&mut self.out, &[b"SET", format!("d{}", self.nth).as_bytes(), body]),
            Tongue::Jetstream => {
                let head = format!("PUB d {}.{number} {}\r\n", inbox(self.nth), body.len());
                self.out.extend_from_slice(head.as_bytes());
                self.out.extend_from_slice(body);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Takes bytes that came; `answered` is told when each request was due that has its answer now.
    ///
    /// # Errors
    /// They are not what has to come.
    pub fn take(&mut self, bytes: &[u8], mut answered: impl FnMut(Instant)) -> Result<()> {
        let mut tail = std::mem::take(&mut self.tail);
        match self.tongue {
            Tongue::Submit | Tongue::Echo => self.take_frames(tail, bytes, &mut answered),
            _ => {
                tail.extend_from_slice(bytes);
                let mut used = 0;
                while let Some(more) = match self.tongue {
                    Tongue::Jetstream => self.take_nats(&tail[used..], &mut answered)?,
                    _ => self.take_resp(&tail[used..], &mut answered)?,
                } {
                    used += more;
                }
                tail.drain(..used);
                self.tail = tail;
                Ok(())
            }
        }
    }

    fn settle(&mut self, number: u64, answered: &mut impl FnMut(Instant)) -> Result<()> {
        let open = number.checked_sub(self.first).and_then(|at| self.open.get_mut(at as usize));
        let due = open.and_then(Option::take).ok_or_else(|| wrong(format!("{number} was not open")))?;
        self.waiting -= 1;
        answered(due);
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    fn take_frames(&mut self, tail: Vec<u8>, bytes: &[u8], answered: &mut impl FnMut(Instant)) -> Result<()> {
        let mut decoder = FrameDecoder::resume(tail, MAX_BODY);
        let mut input = bytes;
        while let Some(frame) = decoder.next(&mut input).map_err(|error| wrong(format!("no frame: {error:?}")))? {
            match frame.cmd {
                Command::PING => {
                    let fitted = encode(&mut self.out, frame.seq, Command::PONG, frame.payload);
                    debug_assert!(fitted, "as long as the PING");
                    continue;
                }
                Command::READY if AuthReady::parse(frame.payload).is_ok() => {
                    self.let_in = true;
                    continue;
                }
                Command::SUBMIT if parse_submitted(frame.payload).is_some_and(|(_, duplicate)| !duplicate) => {}
                Command::ECHO if self.tongue == Tongue::Echo => {}
                Command::ERROR => {
                    let error = ErrorReply::parse(frame.payload).map_err(|error| wrong(error.to_string()))?;
                    return Err(wrong(format!("ERROR {}: {}", error.code, error.text)));
                }
                _ => return Err(wrong(format!("{} is no answer", frame.cmd))),
            }
            // Numbers go on beyond 32 bits, sequence numbers do not.
            let after = (frame.seq.wrapping_sub(2)).wrapping_sub(self.first as u32);
            self.settle(self.first + u64::from(after), answered)?;
        }
        decoder.keep(&mut input);
        self.tail = decoder.into_tail();
        Ok(())
    }

    fn take_resp(&mut self, input: &[u8], answered: &mut impl FnMut(Instant)) -> Result<Option<usize>> {
        match resp::parse(input)? {
            None => Ok(None),
            Some((resp::Value::Error(text), _)) => Err(wrong(text)),
            // Answers come in order.
            Some((_, used)) => self.settle(self.first, answered).map(|()| Some(used)),
        }
    }

    fn take_nats(&mut self, input: &[u8], answered: &mut impl FnMut(Instant)) -> Result<Option<usize>> {
        let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&input[..end]);
        let mut words = line.split(' ');
        match words.next() {
            Some("MSG") => {
                let subject = words.next().unwrap_or_default();
                let len = words.next_back().and_then(|len| len.parse::<usize>().ok());
                let len = len.ok_or_else(|| wrong(format!("no length: {line}")))?;
                let Some(payload) = input.get(end + 2..end + 4 + len) else { return Ok(None) };
                let payload = String::from_utf8_lossy(payload);
                let number = subject.rsplit('.').next().unwrap_or_default();
                // A stream that is there already, as it is to be, is no error.
                if payload.contains("\"error\"") || (number != "made" && !payload.contains("\"seq\"")) {
                    return Err(wrong(payload.into_owned()));
                }
                if number != "made" {
                    self.settle(number.parse().map_err(|_| wrong(line.to_string()))?, answered)?;
                }
                return Ok(Some(end + 4 + len));
            }
            Some("PING") => self.out.extend_from_slice(b"PONG\r\n"),
            Some("PONG") => self.let_in = true,
            Some("INFO" | "+OK") => {}
            _ => return Err(wrong(line.into_owned())),
        }
        Ok(Some(end + 2))
    }
}

/// Where NATS answers to a connection: other clients listen to others.
fn inbox(nth: usize) -> String {
    format!("i{}.{nth}", std::process::id())
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::proto::message::submitted_payload;

    fn answers(dialogue: &mut Dialogue, bytes: &[u8]) -> Result<usize> {
        let mut count = 0;
        // Byte by byte: wherever a read ends, the outcome is the same.
        for byte in bytes {
            dialogue.take(std::slice::from_ref(byte), |_| count += 1)?;
        }
        Ok(count)
    }

    fn with_two_asked(tongue: Tongue) -> Dialogue {
        let mut dialogue = Dialogue::new(tongue, 3);
        dialogue.ask(b"x", Instant::now());
        dialogue.ask(b"y", Instant::now());
        dialogue
    }

    #[test]
    fn tidegates_replies_may_come_in_any_order() {
        let mut dialogue = with_two_asked(Tongue::Submit);
        let mut bytes = Vec::new();
        AuthReady { session: [1; 16], resumed: false, heartbeat_ms: 1, max_payload: 1, session_ttl_s: 1 }
            .encode(&mut bytes, 1);
        for seq in [3, 2] {
            assert!(encode(&mut bytes, seq, Command::SUBMIT, &submitted_payload(7, false)));
        }
        assert_eq!(answers(&mut dialogue, &bytes).unwrap(), 2);
        assert!(dialogue.is_let_in() && dialogue.in_flight() == 0);
        assert!(answers(&mut dialogue, &bytes[bytes.len() - 18..]).is_err(), "nothing is open");
    }

    #[test]
    fn a_reply_that_promises_nothing_is_none() {
        for (cmd, payload) in
            [(Command::SUBMIT, &submitted_payload(7, true)[..]), (Command::SUBMIT, b""), (Command::ECHO, b"x")]
        {
            let mut bytes = Vec::new();
            assert!(encode(&mut bytes, 2, cmd, payload));
            assert!(answers(&mut with_two_asked(Tongue::Submit), &bytes).is_err(), "{cmd}");
        }
    }

    #[test]
    fn redis_answers_in_order_and_its_errors_count_as_such() {
        let mut dialogue = with_two_asked(Tongue::Xadd);
        assert_eq!(answers(&mut dialogue, b"$3\r\n1-0\r\n$3\r\n1-1\r\n").unwrap(), 2);
        assert!(answers(&mut with_two_asked(Tongue::Set), b"-MISCONF no disk\r\n").is_err());
    }

    #[test]
    fn jetstream_acknowledges_by_the_inbox() {
        let mut dialogue = with_two_asked(Tongue::Jetstream);
        let ack = |n: u32, text: &str| format!("MSG i.3.{n} 1 {}\r\n{text}\r\n", text.len());
        let bytes = format!(
            "INFO {{}}\r\nPONG\r\n{}PING\r\n{}",
            ack(1, r#"{"stream":"D","seq":9}"#),
            ack(0, r#"{"stream":"D","seq":8}"#)
        );
        assert_eq!(answers(&mut dialogue, bytes.as_bytes()).unwrap(), 2);
        assert!(dialogue.is_let_in() && dialogue.out.ends_with(b"PONG\r\n"));
        let bytes = ack(0, r#"{"error":{"code":503},"stream":"D","seq":0}"#);
        assert!(answers(&mut with_two_asked(Tongue::Jetstream), bytes.as_bytes()).is_err());
    }
}
