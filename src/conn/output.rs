//! What goes out: the send scratch, and the queue for what the socket does not take.

use super::buffers::Buffer;
use super::{Connection, Cx, Flags, State};
use crate::proto::{Command, ErrorCode, ErrorReply, HEADER_LEN, Header, Version};
use crate::stats::Cause;

/// Where a connection's output goes.
pub trait Sink {
    /// Takes as many of the bytes as it can without waiting.
    fn write(&mut self, bytes: &[u8]) -> Written;

    /// The same, for the last bytes of a connection: once all of them are taken, a half-close or a
    /// close follows at once. A stream may keep them back until then, and send both together.
    fn write_last(&mut self, bytes: &[u8]) -> Written {
        self.write(bytes)
    }
}

/// What a [`Sink`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It took this many bytes; fewer than offered: it takes no more for now.
    Took(usize),
    /// The stream is broken.
    Gone,
}

/// What the caller has to do to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing.
    None,
    /// Everything is sent: shut down the sending side, read on until EOF.
    HalfClose,
    /// It is over: close the stream.
    Close,
    /// It is over: close the stream with a reset.
    Reset,
}

/// Answers among the frames that were never handed to the stream whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unsent {
    pub answered: u64,
    pub failed: u64,
}

impl Connection {
    /// Gives the output to the stream, in one write, and says what comes next.
    pub fn flush(&mut self, cx: &mut Cx<'_>, sink: &mut impl Sink) -> Action {
        if self.state == State::Closed {
            cx.out.clear();
            return self.closing();
        }
        if self.queue.is_some() {
            self.hold_behind_queue(cx);
            self.write_queue(cx, sink);
        } else if !cx.out.is_empty() {
            self.write_scratch(cx, sink);
        }
        if self.state == State::Flushing && self.queue.is_none() {
            if self.flags.has(Flags::PEER_EOF) {
                self.state = State::Closed;
            } else {
                self.state = State::Lingering;
                self.mark = cx.now;
                return Action::HalfClose;
            }
        }
        if matches!(self.state, State::Auth | State::Ready) && !self.wants_frames(cx) {
            self.flags.set(Flags::PAUSED, true); // so that no timer blames the client for not being heard
        }
        self.closing()
    }

    /// Whether it was, or is to be, ended because its peer does not take what it is sent.
    pub fn is_too_slow(&self) -> bool {
        self.flags.has(Flags::SLOW)
    }

    /// Keeps the output for a later [`Connection::flush`].
    pub fn hold(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::Closed {
            cx.out.clear();
        }
        if cx.out.is_empty() {
            return;
        }
        if self.queue.is_some() {
            return self.hold_behind_queue(cx);
        }
        let mut bytes = cx.buffers.vec();
        bytes.append(cx.out);
        self.queue = cx.buffers.lend(Buffer::output(bytes, 0, cx.now));
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self, cx: &Cx<'_>) -> usize {
        let queued = self.queue.map_or(0, |id| {
            let buffer = cx.buffers.get(id);
            buffer.bytes.len() - buffer.done
        });
        queued + cx.out.len()
    }

    /// Whether output waits for the stream.
    pub fn has_queue(&self) -> bool {
        self.queue.is_some()
    }

    /// The client does not read, or there is no memory left to wait until it does: tells it so, if
    /// there is a way, and ends the connection without waiting for what is in flight.
    pub fn give_up_sending(&mut self, cx: &mut Cx<'_>, cause: Cause) {
        if !self.flags.has(Flags::SLOW) {
            cx.stats.connections_cut.add(1);
            self.cause = Some(cause);
        }
        if self.is_leaving() {
            self.lose_owed(cx);
            self.flags.set(Flags::SLOW, true);
            return self.reset();
        }
        let unsent = self.discard_unsent(cx, false);
        cx.stats.undelivered.add(unsent.answered + unsent.failed);
        cx.stats.notices_out.add(1);
        let mut error = Vec::new();
        ErrorReply::new(ErrorCode::SlowConsumer, Command(0), ErrorCode::SlowConsumer.text()).encode(&mut error, 0);
        if let Some(id) = self.queue {
            cx.buffers.edit(id, |buffer| {
                buffer.bytes.extend_from_slice(&error);
                buffer.since = cx.now;
            });
        }
        cx.buffers.give_back(self.tail.take());
        self.flags.set(Flags::PAUSED, false);
        self.flags.set(Flags::SLOW, true);
        self.state = State::Flushing;
        self.mark = cx.now;
    }

    /// Drops queued frames that have not begun to go out, and with `all` also the one that has.
    pub(super) fn discard_unsent(&mut self, cx: &mut Cx<'_>, all: bool) -> Unsent {
        let Some(id) = self.queue else { return Unsent::default() };
        let unsent = cx.buffers.edit(id, |buffer| {
            let (unsent, keep) = count_unsent(buffer, all);
            buffer.bytes.truncate(keep);
            unsent
        });
        if all {
            cx.buffers.give_back(self.queue.take());
        }
        unsent
    }

    fn closing(&self) -> Action {
        match self.state {
            State::Closed if self.flags.has(Flags::RESET) => Action::Reset,
            State::Closed => Action::Close,
            _ => Action::None,
        }
    }

    fn hold_behind_queue(&mut self, cx: &mut Cx<'_>) {
        let Some(id) = self.queue else { return };
        cx.buffers.edit(id, |buffer| buffer.bytes.extend_from_slice(cx.out));
        cx.out.clear();
    }

    fn write_scratch(&mut self, cx: &mut Cx<'_>, sink: &mut impl Sink) {
        let wrote = if self.state == State::Flushing { sink.write_last(cx.out) } else { sink.write(cx.out) };
        let took = match wrote {
            Written::Gone => return self.handle_lost(cx),
            Written::Took(took) => took,
        };
        cx.stats.bytes_out.add(took as u64);
        if took < cx.out.len() {
            let front = last_boundary(cx.out, took);
            let mut bytes = cx.buffers.vec();
            bytes.extend_from_slice(&cx.out[front..]);
            self.queue = cx.buffers.lend(Buffer::output(bytes, took - front, cx.now));
            self.check_bound(cx);
        }
        cx.out.clear();
    }

    fn write_queue(&mut self, cx: &mut Cx<'_>, sink: &mut impl Sink) {
        let Some(id) = self.queue else { return };
        let buffer = cx.buffers.get(id);
        let unsent = &buffer.bytes[buffer.done..];
        let wrote = if self.state == State::Flushing { sink.write_last(unsent) } else { sink.write(unsent) };
        let took = match wrote {
            Written::Gone => return self.handle_lost(cx),
            Written::Took(took) => took,
        };
        cx.stats.bytes_out.add(took as u64);
        if buffer.done + took == buffer.bytes.len() {
            return cx.buffers.give_back(self.queue.take());
        }
        cx.buffers.edit(id, |buffer| {
            buffer.advance(took, cx.now);
            if buffer.done > buffer.bytes.len() / 2 {
                buffer.drop_front(last_boundary(&buffer.bytes, buffer.done));
            }
        });
        self.check_bound(cx);
    }

    fn check_bound(&mut self, cx: &mut Cx<'_>) {
        let queued = self.queue.map_or(0, |id| {
            let buffer = cx.buffers.get(id);
            buffer.bytes.len() - buffer.done
        });
        if self.is_leaving() {
            return;
        }
        if queued > cx.rules.outbound_max {
            self.give_up_sending(cx, Cause::SlowConsumer);
        } else if cx.buffers.lent_bytes() > cx.rules.buffer_bytes {
            self.give_up_sending(cx, Cause::BufferMemory);
        }
    }
}

/// The frames of our own output, as start and header.
struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Frames<'_> {
    fn of(bytes: &[u8]) -> Frames<'_> {
        Frames { bytes, at: 0 }
    }
}

impl Iterator for Frames<'_> {
    type Item = (usize, Header);

    fn next(&mut self) -> Option<(usize, Header)> {
        let header = Header::from_bytes(self.bytes.get(self.at..)?.first_chunk::<HEADER_LEN>()?);
        let start = self.at;
        self.at += header.frame_len();
        Some((start, header))
    }
}

/// The answers in a queue whose frames have not begun to go out, or with `all` have not gone out
/// whole, and how many bytes are in front of the first of these frames.
fn count_unsent(buffer: &Buffer, all: bool) -> (Unsent, usize) {
    let mut unsent = Unsent::default();
    let mut keep = buffer.bytes.len();
    for (start, header) in Frames::of(&buffer.bytes) {
        let begun = start < buffer.done;
        if start + header.frame_len() <= buffer.done || (begun && !all) {
            continue;
        }
        keep = keep.min(start);
        match header.cmd {
            Command::ERROR if answers_request(&header, &buffer.bytes[start..]) => unsent.failed += 1,
            Command::ERROR | Command::PING | Command::GOAWAY | Command::MESSAGE => {}
            _ => unsent.answered += 1,
        }
    }
    (unsent, keep)
}

/// Whether this ERROR of our own answers a request. One about the connection has `seq` 0; but so may
/// a request, which is told from it by the command in the payload.
fn answers_request(header: &Header, frame: &[u8]) -> bool {
    let extensions = match Version::from_wire(header.version) {
        Some(Version::Extended) => 1 + usize::from(frame.get(HEADER_LEN).copied().unwrap_or(0)),
        _ => 0,
    };
    let cmd = frame.get(HEADER_LEN + extensions + size_of::<u16>());
    header.seq != 0 || cmd.is_some_and(|cmd| Command(*cmd).is_request())
}

/// The start of the last frame that begins at or before `position`.
fn last_boundary(bytes: &[u8], position: usize) -> usize {
    Frames::of(bytes).map(|(start, _)| start).take_while(|start| *start <= position).last().unwrap_or(0)
}
