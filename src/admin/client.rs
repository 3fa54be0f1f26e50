//! One HTTP client of the admin port: requests in, answers out, one at a time.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::Control;
use super::routes::{self, Answer, Ask, BROWSER_HEADERS};

/// The longest request line and headers together. Bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Headers of one request.
const MAX_HEADERS: usize = 64;

/// Steps that a client takes before the others have their turn.
const BUDGET: usize = 32;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From a request's first byte until its answer is sent and the client has closed, if it is to.
    pub(super) begun: Duration,
    /// Until the first or next request. Longer than the interval at which metrics are read.
    pub(super) idle: Duration,
}

impl Patience {
    pub(super) const DEFAULT: Patience = Patience { begun: Duration::from_secs(10), idle: Duration::from_secs(90) };
}

/// Where a client stands after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for the socket: an event will come.
    Waiting,
    /// Its budget is used up: no event will come.
    Unfinished,
    /// It is to be dropped.
    Over,
}

/// A client and what is under way with it.
pub(super) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// No further request is read; what comes is thrown away, until the client closes. Closing with
    /// unread input would be a reset, and take the answer with it.
    last: bool,
    deadline: Instant,
    patience: Patience,
}

impl Client {
    pub(super) fn new(stream: TcpStream, patience: Patience, now: Instant) -> Client {
        let deadline = now + patience.idle;
        Client { stream, input: Vec::new(), output: Vec::new(), last: false, deadline, patience }
    }

    /// When to give it up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads, answers and writes as far as the socket and the budget allow.
    pub(super) fn advance(&mut self, control: &dyn Control, now: Instant) -> Progress {
        for _ in 0..BUDGET {
            match self.step(control, now) {
                Ok(true) => {}
                Ok(false) => return Progress::Over,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Over,
            }
        }
        Progress::Unfinished
    }

    /// One step; false when there is no further one.
    fn step(&mut self, control: &dyn Control, now: Instant) -> io::Result<bool> {
        if !self.output.is_empty() {
            let sent = self.stream.write(&self.output)?;
            self.output.drain(..sent);
            if self.output.is_empty() && self.last {
                self.stream.shutdown(Shutdown::Write)?;
            } else if self.output.is_empty() {
                self.deadline = now + if self.input.is_empty() { self.patience.idle } else { self.patience.begun };
            }
            return Ok(sent > 0);
        }
        if !self.last && self.answer_next(control) {
            return Ok(true);
        }
        let mut block = [0; 4096];
        let read = self.stream.read(&mut block)?;
        if !self.last {
            if self.input.is_empty() {
                self.deadline = now + self.patience.begun;
            }
            self.input.extend_from_slice(&block[..read]);
        }
        Ok(read > 0)
    }

    /// Answers the request that the input begins with, if it is whole or wrong.
    fn answer_next(&mut self, control: &dyn Control) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let refused = match request.parse(&self.input) {
            Ok(httparse::Status::Complete(head)) => {
                let ask = Ask {
                    method: request.method.unwrap_or_default(),
                    target: request.path.unwrap_or_default(),
                    from_page: BROWSER_HEADERS.iter().any(|name| header(&request, name).is_some()),
                };
                self.last = is_last(&request);
                let answer = routes::answer(&ask, control);
                self.output = encode(&answer, ask.method == "HEAD", self.last);
                self.input.drain(..head);
                return true;
            }
            Ok(httparse::Status::Partial) if self.input.len() < MAX_HEAD => return false,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => (431, "the headers are too long"),
            Err(httparse::Error::Version) => (505, "expected HTTP/1.0 or HTTP/1.1"),
            Err(_) => (400, "expected an HTTP request"),
        };
        self.last = true;
        self.output = encode(&routes::text(refused.0, refused.1), false, true);
        self.input = Vec::new();
        true
    }
}

/// The client sends no further request, or one that could not be told from a body, which nothing here wants.
fn is_last(request: &httparse::Request<'_, '_>) -> bool {
    let body = header(request, "Content-Length").is_some_and(|length| length.trim_ascii() != b"0")
        || header(request, "Transfer-Encoding").is_some();
    let close =
        header(request, "Connection").is_some_and(|value| !value.trim_ascii().eq_ignore_ascii_case(b"keep-alive"));
    request.version != Some(1) || body || close
}

fn header<'a>(request: &'a httparse::Request<'_, '_>, name: &str) -> Option<&'a [u8]> {
    request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn encode(answer: &Answer, head_only: bool, last: bool) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    };
    let allow = answer.allow.map(|methods| format!("Allow: {methods}\r\n")).unwrap_or_default();
    let connection = if last { "close" } else { "keep-alive" };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
         Connection: {connection}\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(answer.body.as_bytes());
    }
    bytes
}
