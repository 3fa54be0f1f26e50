//! What becomes of messages and claims, once the store's threads have told it.

use std::time::Duration;

use super::flight::{Out, Queued, Shape};
use super::{Now, Stored, got, reply};
use crate::limits::MAX_TIMER_MS;
use crate::proto::{ErrorCode, SessionId};
use crate::reactor::mailbox::StateOp;
use crate::reactor::serve::{session_is_gone, state_is_full};
use crate::service::{Failure, Outcome};
use crate::session::store::runner::{Failed, Told};
use crate::session::store::{self, StoreKey, Written, store_key};
use crate::session::{Ended, Sessions};

impl Stored {
    /// Takes in what the threads have told.
    pub fn settle(&mut self, sessions: &mut Sessions, told: Told, now: &Now) {
        match told {
            Told::Claimed { id, result } => self.settle_claim(sessions, id, result, now),
            Told::Written { flight, result } => {
                let index = flight as usize;
                let Some(out) = self.flights.get_mut(index).and_then(|flight| flight.out.take()) else { return };
                self.saving -= usize::from(out.saving);
                match result {
                    _ if out.shape == Shape::End => self.settle_end(index, result, now),
                    Err(failed) => self.settle_failed(sessions, index, out, failed, now),
                    Ok(written) if written.contains(&Written::Lost) => self.settle_lost(sessions, index),
                    Ok(written) if written.contains(&Written::Gone) => self.settle_gone(sessions, index, out, now),
                    Ok(_) => self.settle_done(sessions, index, out, now),
                }
            }
        }
    }

    fn settle_done(&mut self, sessions: &mut Sessions, index: usize, out: Out, now: &Now) {
        let flight = &mut self.flights[index];
        if let Some(key) = flight.session {
            sessions.set_saved(key, true);
        }
        self.verified(sessions, index, out);
        let flight = &mut self.flights[index];
        if out.shape == Shape::Open || out.repairs > 0 {
            // A failure during this message would have been this message's.
            flight.unsure.clear();
        }
        for _ in 0..out.covers {
            let Some(queued) = flight.queue.pop_front() else { break };
            let outcome = match (queued.op, flight.session) {
                (StateOp::Put(name, value), Some(key)) => {
                    sessions.put_surely(key, &name, &value);
                    reply(Vec::new())
                }
                (StateOp::Delete(name), Some(key)) => {
                    sessions.delete(key, &name);
                    reply(Vec::new())
                }
                (StateOp::Get(name), Some(key)) => got(sessions, key, &name),
                (StateOp::Get(_), None) => Outcome::Error(session_is_gone()),
                (_, None) => reply(Vec::new()),
            };
            self.courier.leave(1);
            self.effects.answers.push((queued.asker, outcome));
        }
        self.plan_again(sessions, index);
        self.land(sessions, index, now);
    }

    fn settle_failed(&mut self, sessions: &mut Sessions, index: usize, out: Out, failed: Failed, now: &Now) {
        self.rest(now);
        let flight = &mut self.flights[index];
        for _ in 0..out.covers {
            let Some(queued) = flight.queue.pop_front() else { break };
            let outcome = match (queued.op, flight.session) {
                (StateOp::Get(name), Some(key)) => got(sessions, key, &name),
                (StateOp::Put(name, _) | StateOp::Delete(name), _) => {
                    if failed.tried && out.shape == Shape::Each {
                        flight.unsure.insert(name);
                    }
                    Outcome::Error(super::is_down())
                }
                (StateOp::Get(_), None) => Outcome::Error(session_is_gone()),
            };
            self.courier.leave(1);
            self.effects.answers.push((queued.asker, outcome));
        }
        self.verified(sessions, index, out);
        let flight = &mut self.flights[index];
        if let Some(key) = flight.session {
            if out.shape == Shape::Open {
                if failed.tried {
                    sessions.set_tried(key);
                }
                sessions.note_change(key);
            }
            if out.touch {
                sessions.note_touch(key);
            }
        }
        self.plan_again(sessions, index);
        self.land(sessions, index, now);
    }

    /// Those who have waited for a word of the store about it go on, whatever that was.
    fn verified(&mut self, sessions: &Sessions, index: usize, out: Out) {
        let flight = &mut self.flights[index];
        let Some(id) = flight.session.map(|key| sessions.id(key)) else { return };
        let waited = out.verifies.min(flight.verifying.len());
        self.effects.claimed.extend(flight.verifying.drain(..waited).map(|waiter| (waiter, Some(id))));
    }

    /// The store has lost it: it gets the whole session.
    fn settle_gone(&mut self, sessions: &mut Sessions, index: usize, out: Out, now: &Now) {
        match self.flights[index].session {
            Some(key) => {
                sessions.set_saved(key, false);
                self.depart(sessions, index, out.saving, now);
            }
            None => {
                self.answer_all(index, session_is_gone());
                self.land(sessions, index, now);
            }
        }
    }

    /// Another gateway has it.
    fn settle_lost(&mut self, sessions: &mut Sessions, index: usize) {
        self.answer_all(index, Failure::new(ErrorCode::Unavailable, "another gateway has taken over this session"));
        let flight = self.flights.remove(index);
        self.ends.all.remove(&flight.key);
        if let Some(key) = flight.session {
            self.by_session.remove(&key);
            let id = sessions.id(key);
            self.effects.evicted.extend(sessions.lose(key));
            for waiter in flight.verifying {
                if !self.ask(&id, waiter.clone()) {
                    self.effects.claimed.push((waiter, None));
                }
            }
        }
        if let Some(counters) = self.courier.counters() {
            counters.lost.add(1);
        }
    }

    fn settle_end(&mut self, index: usize, result: Result<Vec<Written>, Failed>, now: &Now) {
        let flight = self.flights.remove(index);
        if result.is_ok() {
            self.ends.all.remove(&flight.key);
        } else {
            self.rest(now);
            self.ends.waiting.push_back((flight.key, flight.fence));
        }
    }

    fn settle_claim(
        &mut self,
        sessions: &mut Sessions,
        id: SessionId,
        result: Result<Option<store::Stored>, Failed>,
        now: &Now,
    ) {
        self.courier.leave(1);
        let Some((principal, waiters)) = self.claims.take(&id) else { return };
        match result {
            Ok(Some(stored)) => {
                // Also for nobody, if nobody waits any more: it is ours now, and ends by its time.
                let here = sessions.adopt(&id, &principal, stored.fence, stored.state, now.s).ok().map(|_| id);
                self.note_ends(sessions);
                self.effects.claimed.extend(waiters.into_iter().map(|waiter| (waiter, here)));
            }
            Ok(None) => {
                for waiter in waiters {
                    // It was asked for somebody else.
                    if waiter.principal == principal || !self.ask(&id, waiter.clone()) {
                        self.effects.claimed.push((waiter, None));
                    }
                }
            }
            Err(_) => self.effects.unknown.extend(waiters),
        }
    }

    pub(super) fn session_ended(&mut self, ended: Ended) {
        let Some(index) = self.by_session.remove(&ended.key) else {
            if ended.stored {
                self.ended(store_key(&ended.id), ended.fence);
            }
            return;
        };
        let flight = &mut self.flights[index];
        (flight.session, flight.fence) = (None, ended.fence);
        let verifying = std::mem::take(&mut flight.verifying);
        self.effects.claimed.extend(verifying.into_iter().map(|waiter| (waiter, None)));
        let covers = flight.out.map_or(0, |out| out.covers);
        let unsent = flight.queue.split_off(covers.min(flight.queue.len()));
        let (key, under_way) = (flight.key, flight.out.is_some());
        self.courier.leave(unsent.len());
        let answers = unsent.into_iter().map(|queued| (queued.asker, Outcome::Error(session_is_gone())));
        self.effects.answers.extend(answers);
        if under_way {
            self.ends.all.insert(key); // the rest when it lands
        } else {
            self.flights.remove(index);
            if ended.stored {
                self.ended(key, ended.fence);
            }
        }
    }

    /// A session's end is to be told the store. When too many wait, the oldest is left to the time that the
    /// store gives it.
    fn ended(&mut self, key: StoreKey, fence: u64) {
        if self.ends.waiting.len() >= self.courier.options().queue
            && let Some((oldest, _)) = self.ends.waiting.pop_front()
        {
            self.ends.all.remove(&oldest);
        }
        self.ends.all.insert(key);
        self.ends.waiting.push_back((key, fence));
    }

    fn answer_all(&mut self, index: usize, failure: Failure) {
        let queue = std::mem::take(&mut self.flights[index].queue);
        self.courier.leave(queue.len());
        let answers = queue.into_iter().map(|queued| (queued.asker, Outcome::Error(failure.clone())));
        self.effects.answers.extend(answers);
    }

    fn plan_again(&mut self, sessions: &Sessions, index: usize) {
        let flight = &mut self.flights[index];
        let copy = flight.session.and_then(|key| sessions.state(key));
        let refused = flight.plan_again(copy, sessions.limits().state);
        self.courier.leave(refused.len());
        let answers = refused.into_iter().map(|(asker, full)| (asker, Outcome::Error(state_is_full(full, sessions))));
        self.effects.answers.extend(answers);
        // What they waited for is done, or will not be.
        while let (Some(Queued { op: StateOp::Get(name), asker }), Some(key)) = (flight.queue.front(), flight.session) {
            self.effects.answers.push((*asker, got(sessions, key, name)));
            self.courier.leave(1);
            flight.queue.pop_front();
        }
    }

    fn rest(&mut self, now: &Now) {
        let retry = self.courier.options().retry.max(Duration::from_millis(1));
        let retry_ms = retry.as_millis().min(u128::from(MAX_TIMER_MS)) as u32;
        self.rests_until = Some(now.tick.plus(retry_ms));
    }
}
