//! Whether a reply keeps what was promised, and what it promises itself. PURE; a part of [`Link`].

use super::acks::Acked;
use super::link::{Cx, Link, command};
use super::payload::Place;
use super::promise::{Value, lane};
use super::work::Request;
use crate::proto::message::parse_submitted;
use crate::proto::{Command, Frame};

impl Link {
    /// Whether a reply is right; takes down what it promises.
    #[inline]
    pub(super) fn judge(&mut self, cx: &mut Cx<'_>, request: &Request, frame: &Frame<'_>) -> Result<(), String> {
        let cmd = command(cx, request.kind);
        let place = Place { owner: cx.owner, seq: frame.seq, number: request.number };
        let right = cx.pattern.is_reply(place, cmd, request.len, (frame.cmd, frame.payload));
        let promised = self.leave(cx, cmd, request);
        match (right, promised) {
            (true, false) => Ok(()),
            (true, true) => self.judge_promise(cx, cmd, request, frame),
            (false, _) => {
                self.forget_value(cx, cmd, request);
                Err(format!("a wrong reply to {cmd}"))
            }
        }
    }

    fn judge_promise(
        &mut self,
        cx: &mut Cx<'_>,
        cmd: Command,
        sent: &Request,
        frame: &Frame<'_>,
    ) -> Result<(), String> {
        let acked = Acked { owner: cx.owner, number: sent.number, len: sent.len, now: cx.now };
        let Some(promises) = &mut self.promises else { return Ok(()) };
        match cmd {
            Command::SUBMIT => {
                let (id, duplicate) = parse_submitted(frame.payload).unwrap_or_default();
                cx.acks.submit(cx.pattern, acked, id, duplicate);
                cx.books.tally.account.duplicates += u64::from(duplicate);
                let (in_order, fresh) = (promises.is_in_order(frame.seq, id), cx.ids.take(id));
                let wrong = match () {
                    () if duplicate && !sent.unknown => "SUBMIT: a duplicate of a message that was never sent before",
                    () if !in_order => "SUBMIT: an id that is not above those of the messages before it",
                    () if !fresh => "SUBMIT: an id that another message has",
                    () => return Ok(()),
                };
                return Err(wrong.to_owned());
            }
            Command::SESSION_PUT => {
                cx.acks.state(cx.pattern, acked, &self.session, cmd);
                promises.set(sent.number, Value::Put(sent.number, sent.len));
            }
            Command::SESSION_DELETE => {
                cx.acks.state(cx.pattern, acked, &self.session, cmd);
                promises.set(sent.number, Value::Absent);
            }
            _ if cx.retry => {
                let (_, number) = cx.pattern.is_value(cx.owner, sent.number, frame.payload);
                let right = match promises.value(sent.number) {
                    Value::Unknown => true,
                    Value::Never | Value::Absent => false,
                    Value::Put(put, len) => {
                        frame.payload.len() == usize::from(len) && number.is_none_or(|number| number == put)
                    }
                };
                return right.then_some(()).ok_or("SESSION_GET: not the value that was acknowledged last".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// There is no such key: what that says to SESSION_GET or SESSION_DELETE.
    pub(super) fn judge_absent(&mut self, cx: &mut Cx<'_>, cmd: Command, request: &Request) -> Result<(), String> {
        let Some(promises) = &mut self.promises else { return Ok(()) };
        let known = promises.value(request.number);
        if cmd == Command::SESSION_DELETE {
            let acked = Acked { owner: cx.owner, number: request.number, len: 0, now: cx.now };
            cx.acks.state(cx.pattern, acked, &self.session, cmd);
            promises.set(request.number, Value::Absent);
        }
        // A SESSION_DELETE that was processed before finds nothing.
        if cx.retry && matches!(known, Value::Put(..)) && !request.unknown {
            return Err(format!("{cmd}: the value that was acknowledged last is gone"));
        }
        Ok(())
    }

    /// Lets go of the request's lane. Returns whether it has one.
    #[inline]
    pub(super) fn leave(&mut self, cx: &Cx<'_>, cmd: Command, request: &Request) -> bool {
        let lane = lane(cmd, request.number);
        if let (true, Some(lane), Some(promises)) = (cx.retry, lane, &mut self.promises) {
            promises.free(lane);
        }
        lane.is_some()
    }

    /// Nobody can say what the value is now.
    pub(super) fn forget_value(&mut self, cx: &Cx<'_>, cmd: Command, request: &Request) {
        if let Some(promises) = self.promises.as_mut().filter(|_| cx.retry)
            && matches!(cmd, Command::SESSION_PUT | Command::SESSION_DELETE)
        {
            promises.set(request.number, Value::Unknown);
        }
    }

    /// The session of before is there again, or a new one in its place.
    pub(super) fn come_back(&mut self, cx: &mut Cx<'_>, resumed: bool) {
        if resumed {
            return self.check_values(cx);
        }
        let gone = self.promises.as_mut().map_or(0, |promises| promises.forget_values());
        if gone > 0 {
            cx.books.tally.account.forgotten += gone;
            cx.books.note_errors("a value was acknowledged, and its session was not resumed", gone);
        }
    }
}
