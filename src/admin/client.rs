//! One HTTP client of the admin port: requests in, answers out, one at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::later::Later;
use super::routes::{self, Answer, Ask, Desk, Reply};

/// The longest request line and headers together. Bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Headers of one request.
const MAX_HEADERS: usize = 64;

/// Steps that a client takes before the others have their turn.
const BUDGET: usize = 32;

/// Content-Security-Policy: what a browser may do with an answer.
pub(super) const POLICY: &str = "Content-Security-Policy";

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From a request's first byte until its answer is sent and the client has closed, if it is to.
    pub(super) begun: Duration,
    /// Until the first or next request. Longer than the interval at which metrics are read.
    pub(super) idle: Duration,
    /// Until it is answered with what the workers have said so far.
    pub(super) inquiry: Duration,
}

impl Patience {
    pub(super) const DEFAULT: Patience = Patience {
        begun: Duration::from_secs(10),
        idle: Duration::from_secs(90),
        inquiry: Duration::from_millis(crate::limits::ADMIN_INQUIRY_MS),
    };
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
    from: SocketAddr,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The answer that is being waited for, and whether its body is wanted.
    later: Option<(Later, bool)>,
    /// No further request is read; what comes is thrown away, until the client closes. Closing with
    /// unread input would be a reset, and take the answer with it.
    last: bool,
    deadline: Instant,
    patience: Patience,
}

impl Client {
    pub(super) fn new(stream: TcpStream, from: SocketAddr, patience: Patience, now: Instant) -> Client {
        let deadline = now + patience.idle;
        Client { stream, from, input: Vec::new(), output: Vec::new(), later: None, last: false, deadline, patience }
    }

    /// When to give it up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Until when it waits for workers' answers, if it does.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.later.as_ref().map(|(later, _)| later.until)
    }

    /// Reads, answers and writes as far as the socket and the budget allow.
    pub(super) fn advance(&mut self, desk: &mut Desk<'_>) -> Progress {
        for _ in 0..BUDGET {
            match self.step(desk) {
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
    fn step(&mut self, desk: &mut Desk<'_>) -> io::Result<bool> {
        let now = desk.now;
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
        if let Some((mut later, head_only)) = self.later.take() {
            if !later.is_due(now) {
                self.later = Some((later, head_only));
                // Not the socket is waited for; the port looks again when a worker wakes it.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.output = encode(&routes::answer_later(later, desk.control), head_only, self.last);
            return Ok(true);
        }
        if !self.last && self.answer_next(desk) {
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
    fn answer_next(&mut self, desk: &mut Desk<'_>) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let refused = match request.parse(&self.input) {
            Ok(httparse::Status::Complete(head)) => {
                let ask = Ask {
                    method: request.method.unwrap_or_default(),
                    target: request.path.unwrap_or_default(),
                    host: header(&request, "Host"),
                    origin: header(&request, "Origin").is_some(),
                    fetch_site: header(&request, "Sec-Fetch-Site"),
                    authorization: header(&request, "Authorization"),
                    from: self.from,
                };
                self.last = is_last(&request);
                let head_only = ask.method == "HEAD";
                match routes::answer(&ask, desk) {
                    Reply::Now(answer) => self.output = encode(&answer, head_only, self.last),
                    Reply::Later(later) => self.later = Some((later, head_only)),
                }
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

/// What every answer says to browsers: keep nothing, show it in no frame, load nothing for it.
const ALWAYS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// The policy of answers that have none of their own.
const NOTHING_MORE: &str = "default-src 'none'; frame-ancestors 'none'";

fn encode(answer: &Answer, head_only: bool, last: bool) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    };
    let mut head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{ALWAYS}",
        answer.status,
        answer.content_type,
        answer.body.len(),
    );
    let policy = answer.headers.iter().all(|(name, _)| *name != POLICY).then_some((POLICY, NOTHING_MORE));
    let own = answer.headers.iter().map(|(name, value)| (*name, &**value));
    let connection = ("Connection", if last { "close" } else { "keep-alive" });
    for (name, value) in own.chain(policy).chain([connection]) {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    if !head_only {
        head += &answer.body;
    }
    head.into_bytes()
}
