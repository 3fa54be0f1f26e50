//! What the server said, and what follows from it.

use std::time::{Duration, Instant};

use super::{DEFAULT_FINAL, HALF_CLOSE_GRACE, LinkId, Manager};
use crate::client::call::{Call, SendKind};
use crate::client::dial::Dial;
use crate::client::link::Event;
use crate::client::{ClientError, ServerError, Token};
use crate::proto::{AuthReady, ErrorCode, GoAway, GoAwayReason, GoAwayStage};

impl Manager {
    pub(super) fn handle_event(&mut self, id: LinkId, event: Event, now: Instant) {
        match event {
            Event::Ready(ready) => self.handle_ready(id, &ready, now),
            Event::Refused(error) => self.handle_refused(id, error, now),
            Event::GoAway(goaway) if goaway.stage == GoAwayStage::Notice => self.handle_notice(id, goaway, now),
            Event::GoAway(goaway) => self.handle_final(id, goaway, now),
            Event::Replied(call, reply) => {
                self.counters().answered.add(1);
                call.complete(Ok(reply));
            }
            Event::Failed(call, error) => {
                self.counters().errors.add(1);
                self.handle_failed(id, call, error, now);
            }
        }
    }

    fn handle_ready(&mut self, id: LinkId, ready: &AuthReady, now: Instant) {
        if !self.links.contains_key(&id) {
            return;
        }
        log::debug!(
            peer:% = self.targets.current();
            "connected to {}, session {}",
            self.targets.current(),
            if ready.resumed { "resumed" } else { "new" }
        );
        self.dial = Dial::Idle;
        self.stale = None;
        self.targets.handle_success();
        {
            let mut known = self.status.known();
            (known.session, known.resumed, known.trouble) = (Some(ready.session), ready.resumed, None);
        }
        self.counters().readies.add(1);
        // The one before is told that no request follows; what it owes is awaited.
        self.leave_all_but(Some(id));
        self.current = Some(id);
        if let Some(first) = self.first.take() {
            first.complete(Ok(()));
        }
        self.update(now);
    }

    fn handle_refused(&mut self, id: LinkId, error: ServerError, now: Instant) {
        if self.drop_link(id).is_none() {
            return;
        }
        match error.known_code() {
            Some(ErrorCode::AuthFailed | ErrorCode::Forbidden) => {
                let error = ClientError::AuthFailed { text: error.text };
                // One that was good before has expired, perhaps: the next one may be.
                if self.first.is_none() && self.options.token.as_ref().is_some_and(Token::may_change) {
                    self.stale = Some((self.token.clone(), error));
                    return self.begin_dial(now);
                }
                self.dial = Dial::Idle;
                self.status.known().trouble = Some(error.clone());
                if let Some(first) = self.first.take() {
                    first.complete(Err(error.clone()));
                }
                self.refused = Some(error);
            }
            _ => {
                let after = Duration::from_millis(error.retry_after_ms.into());
                self.dial_failed(ClientError::Server(error), after, now);
            }
        }
    }

    fn handle_notice(&mut self, id: LinkId, goaway: GoAway, now: Instant) {
        if self.current != Some(id) {
            return;
        }
        log::debug!(peer:% = self.targets.current(); "the server is going away ({:?}); moving in {} ms", goaway.reason, goaway.reconnect_after_ms);
        self.judge_backoff(id, now);
        self.targets.prefer(goaway.addresses, &mut self.backoff);
        if self.dial == Dial::Idle {
            self.dial = Dial::At(now + Duration::from_millis(goaway.reconnect_after_ms.into()));
        }
    }

    fn handle_final(&mut self, id: LinkId, goaway: GoAway, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let grace = match goaway.deadline_ms {
            0 => DEFAULT_FINAL,
            ms => Duration::from_millis(ms.into()) + HALF_CLOSE_GRACE,
        };
        link.give_up_at = Some(now + grace);
        link.close_to_requests();
        let was_leaving = link.leaving;
        let beyond = link.take_beyond(goaway.last_seq);
        let counters = &self.status.counters;
        self.queue.push_front(beyond.into_iter().map(|orphan| orphan.into_unprocessed(counters)).collect());
        if self.current != Some(id) {
            return;
        }
        self.current = None;
        if was_leaving {
            return;
        }
        self.judge_backoff(id, now);
        self.set_trouble(format!("the server is going away ({:?})", goaway.reason));
        self.targets.prefer(goaway.addresses, &mut self.backoff);
        let mut after = Duration::from_millis(goaway.reconnect_after_ms.into());
        if goaway.reason == GoAwayReason::Replaced && self.dial == Dial::Idle {
            // Somebody else has this session: two that take it from each other must not do so at full speed.
            after = after.max(self.backoff.next_delay());
        }
        match self.dial {
            Dial::Idle => self.dial = Dial::At(now + after),
            Dial::At(at) => self.dial = Dial::At(at.min(now + after)),
            Dial::Connecting { .. } | Dial::Authenticating { .. } => {}
        }
    }

    /// An ERROR that answers a request.
    fn handle_failed(&mut self, id: LinkId, mut call: Call, error: ServerError, now: Instant) {
        let after = Duration::from_millis(error.retry_after_ms.into());
        let delay = match error.known_code() {
            Some(ErrorCode::Draining) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.close_to_requests();
                }
                if self.current == Some(id) {
                    self.current = None;
                    self.set_trouble(ClientError::Server(error.clone()).to_string());
                    if self.dial == Dial::Idle {
                        self.dial = Dial::At(now + after.max(self.backoff.next_delay()));
                    }
                }
                Duration::ZERO
            }
            Some(ErrorCode::Overloaded) => {
                let ceiling = self.backoff.ceiling(call.overloads).max(after / 2);
                call.overloads += 1;
                after + self.backoff.jitter(ceiling)
            }
            _ => return call.complete(Err(ClientError::Server(error))),
        };
        if now + delay >= call.deadline {
            return call.complete(Err(ClientError::Server(error)));
        }
        call.kind = SendKind::Unprocessed;
        call.mark_unprocessed();
        self.queue.delay(now + delay, call);
    }
}
