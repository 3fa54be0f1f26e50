//! What comes from handlers and from other workers.

use std::borrow::Cow;

use super::about::{About, about};
use super::access::{self, Chosen};
use super::hub::SessionPlace;
use super::mailbox::{Answer, Letter};
use super::pending::{Pending, Wait};
use super::serve::{run_state_op, session_is_gone};
use super::stored::Asker;
use super::tick::Reactor;
use super::token::ConnToken;
use super::turn::find;
use crate::conn::{Refusal, Welcome};
use crate::proto::ErrorCode;
use crate::proto::message::submitted_payload;
use crate::service::{AnswerSink, Failure, Outcome};

impl Reactor {
    /// Takes mail, at most `budget` pieces. Returns whether some is left.
    pub(super) fn read_mail(&mut self, budget: usize) -> bool {
        for taken in 0..budget {
            // Answers first: they let requests go.
            if let Ok(settled) = self.inbox.settled.try_recv() {
                self.take_settled(settled);
            } else if let Ok(Answer { pending, outcome }) = self.inbox.answers.try_recv() {
                self.handle_answer(pending, outcome);
            } else if let Ok(letter) = self.inbox.letters.try_recv() {
                self.handle_letter(letter);
            } else {
                return false;
            }
            if taken % 64 == 63 {
                self.flush_dirty();
            }
        }
        true
    }

    /// Requests whose deadline has passed are answered so; their handlers' answers will meet nobody.
    pub(super) fn expire_pending(&mut self) {
        for pending in self.hub.pending.take_expired(self.now()) {
            let failure = match pending.wait {
                Wait::Claim => {
                    self.give_up_claim(pending);
                    continue;
                }
                Wait::State => Failure::new(ErrorCode::Unavailable, "the session's worker did not answer in time"),
                Wait::Stored => Failure::new(ErrorCode::Unavailable, "the session store did not answer in time"),
                Wait::Handler | Wait::StateByDeadline | Wait::Journal | Wait::Kept => {
                    Failure::of(ErrorCode::DeadlineExceeded)
                }
            };
            self.land(pending, Outcome::Error(failure));
        }
    }

    pub(super) fn handle_answer(&mut self, key: super::pending::PendingKey, outcome: Outcome) {
        if matches!(outcome, Outcome::Kept) {
            return self.hub.pending.keep(key);
        }
        let Some(pending) = self.hub.pending.take(key) else { return };
        match outcome {
            Outcome::Claimed(granted) => self.settle_claim(pending, granted),
            Outcome::Unclaimed => self.give_up_claim(pending),
            outcome => self.land(pending, outcome),
        }
    }

    /// Gives an answer to its connection, if that is still there.
    fn land(&mut self, mut pending: Pending, outcome: Outcome) {
        let (to, chosen) = (pending.to, pending.chosen.take());
        let stats = &self.wire.stats;
        let stored;
        if let Some(began) = pending.since
            && let Some(route) = self.services.router.find(to.cmd)
            && let Some(latency) = stats.handlers.get(route.index)
        {
            latency.observe(began.elapsed());
        }
        match outcome {
            Outcome::Dropped => stats.responders_dropped.add(1),
            Outcome::Panicked => stats.handler_panics.add(1),
            _ => {}
        }
        if matches!(outcome, Outcome::Dropped | Outcome::Panicked) {
            self.tell_failure(&pending, &outcome);
        }
        let answer = match outcome {
            Outcome::Reply { payload, fallback } => {
                to.check(&payload, fallback).map(|()| (Cow::Owned::<[u8]>(payload), fallback))
            }
            Outcome::Stored { id, duplicate } => {
                stored = submitted_payload(id, duplicate);
                Ok((Cow::Borrowed(&stored[..]), None))
            }
            Outcome::Error(failure) => Err(failure),
            _ => Err(Failure::of(ErrorCode::Internal)),
        };
        let told = match &answer {
            Ok(_) => access::Outcome::Answered,
            Err(failure) => access::Outcome::Failed(Some(failure.told())),
        };
        let mut sent = None;
        let now = self.hub.now;
        let token = pending.token;
        if let Some(slot) = find(&mut self.conns, token) {
            let mut cx = self.wire.cx(now);
            match answer {
                Ok((payload, fallback)) => slot.conn.answered(&mut cx, to.cmd, |out| {
                    let before = out.len();
                    to.encode_reply(out, &payload, fallback);
                    sent = Some(out.len() - before);
                }),
                Err(failure) => slot.conn.failed(&mut cx, to.cmd, failure.told(), |out| {
                    let before = out.len();
                    to.encode_failure(out, &failure);
                    sent = Some(out.len() - before);
                }),
            }
            slot.conn.hold(&mut cx);
            self.dirty.push(token);
        } else {
            let stats = &self.wire.stats;
            stats.in_flight.sub(1);
            stats.undelivered.add(1);
            match answer {
                Ok(_) => stats.count_answered(to.cmd, 1),
                Err(failure) => stats.count_failed(to.cmd, failure.told()),
            }
        }
        if let Some(chosen) = chosen {
            let told = if sent.is_some() { told } else { access::Outcome::Undelivered };
            self.tell_access(token, chosen, told, sent.unwrap_or(0));
        }
    }

    /// A handler did not answer by itself.
    #[cold]
    fn tell_failure(&self, pending: &Pending, outcome: &Outcome) {
        let token = pending.token;
        let about = match self.conns.get(token.slot as usize).filter(|slot| slot.generation == token.generation) {
            Some(slot) => self.about(token, slot),
            None => About::new(self.hub.worker, token, None),
        };
        let (cmd, seq) = (pending.to.cmd.to_string(), pending.to.seq);
        let how = if matches!(outcome, Outcome::Panicked) { "panicked" } else { "let go of its request unanswered" };
        about!(Error, about, pending.trace, cmd = cmd.as_str(), seq = seq;
            "the handler of {cmd} {how}: the request gets INTERNAL");
    }

    /// A request that gets an access line has come to its end.
    #[cold]
    pub(super) fn tell_access(&mut self, token: ConnToken, chosen: Box<Chosen>, end: access::Outcome, bytes: usize) {
        let slot = self.conns.get(token.slot as usize).filter(|slot| slot.generation == token.generation);
        let about = slot.map(|slot| self.about(token, slot));
        self.hub.log_access(chosen.ends(end, bytes), about);
    }

    /// The home of a session has said whether an AUTH that wants to resume it gets it.
    fn settle_claim(&mut self, mut pending: Pending, granted: bool) {
        let token = pending.token;
        let chosen = pending.chosen.take();
        let Some(slot) = find(&mut self.conns, token) else {
            // Gone; its release follows the claim to the session's home.
            return self.tell_auth(token, chosen, access::Outcome::Undelivered, 0);
        };
        // It may have been told DRAINING or AUTH_TIMEOUT in between.
        let (true, SessionPlace::Elsewhere(key)) = (slot.conn.is_claiming(), slot.session.place()) else {
            return self.tell_auth(token, chosen, access::Outcome::Failed(None), 0);
        };
        let remote = &self.hub.remotes[key];
        let verdict = if granted {
            let session = remote.id;
            self.hub.bring_home(&mut slot.session);
            Ok(Welcome { session, resumed: true })
        } else {
            let principal = remote.principal.clone();
            self.hub.forget(&mut slot.session);
            self.hub.open_session(&principal, token).map(|(session, welcome)| {
                slot.session = session;
                welcome
            })
        };
        let end = match &verdict {
            Ok(_) => access::Outcome::Answered,
            Err(refusal) => access::Outcome::Failed(Some(refusal.code)),
        };
        let mut bytes = 0;
        self.step(token, |conn, cx| {
            match verdict {
                Ok(welcome) => conn.welcome(cx, welcome),
                Err(refusal) => conn.refuse(cx, refusal),
            };
            bytes = cx.out.len();
        });
        self.tell_auth(token, chosen, end, bytes);
        self.serve(token); // what was sent behind AUTH
    }

    /// The home of a session has not said in time whether an AUTH that wants to resume it gets it. If
    /// it says so later, the connection's release is behind its claim, and leaves the session free.
    fn give_up_claim(&mut self, mut pending: Pending) {
        let mut bytes = 0;
        self.step(pending.token, |conn, cx| {
            conn.refuse(cx, Refusal { code: ErrorCode::Unavailable, retry_after_ms: 1_000 });
            bytes = cx.out.len();
        });
        let end = access::Outcome::Failed(Some(ErrorCode::Unavailable));
        self.tell_auth(pending.token, pending.chosen.take(), end, bytes);
    }

    /// The access line of an AUTH that had to wait, if it gets one.
    fn tell_auth(&mut self, token: ConnToken, chosen: Option<Box<Chosen>>, end: access::Outcome, bytes: usize) {
        if let Some(chosen) = chosen {
            self.tell_access(token, chosen, end, bytes);
        }
    }

    fn handle_letter(&mut self, letter: Letter) {
        match letter {
            Letter::Claim { id, principal, from, pending } => {
                if let Some(granted) = self.hub.claim_for(&id, &principal, from, pending) {
                    self.hub.mailboxes[usize::from(from.worker)].deliver(pending, Outcome::Claimed(granted));
                }
            }
            Letter::Evict { token } => self.hub.evicted.push(ConnToken::from_u64(token)),
            Letter::Release { id, owner } => {
                if let Some(stored) = &mut self.hub.stored {
                    stored.give_up(&self.hub.sessions, &id, owner);
                }
                if let Some(key) = self.hub.sessions.find(&id) {
                    self.hub.sessions.release(key, owner, self.hub.now_s);
                }
            }
            Letter::End { id, owner } => {
                if let Some(key) = self.hub.sessions.find(&id) {
                    self.hub.end(key, owner);
                }
            }
            Letter::State { id, from, pending, op } => {
                let outcome = match self.hub.sessions.find(&id) {
                    None => Outcome::Error(session_is_gone()),
                    Some(key) if self.hub.stored.is_some() => {
                        return self.hub.state_for(key, op, Asker { worker: from, pending });
                    }
                    Some(key) => match run_state_op(&mut self.hub.sessions, key, &op.as_slices()) {
                        Ok(value) => Outcome::Reply { payload: value.to_vec(), fallback: None },
                        Err(failure) => Outcome::Error(failure),
                    },
                };
                self.hub.mailboxes[usize::from(from)].deliver(pending, outcome);
            }
            Letter::WorkerLost { worker } => self.hub.sessions.release_all_of(worker, self.hub.now_s),
            Letter::List { query, back } => self.begin_list(query, back),
            Letter::Disconnect { id, back } => self.disconnect(id, back),
            Letter::Dismiss { token, back } => self.dismiss(token, back),
            Letter::Panic => panic!("a test asked this worker to panic"),
        }
    }
}
