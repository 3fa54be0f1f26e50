//! SUBMIT: into the journal, and its answer when the message is on the disk.

use super::hub::caller;
use super::mailbox::Settled;
use super::pending::Wait;
use super::serve::{RETRY_AFTER, Turn, reply_to, session_is_gone};
use super::tick::Reactor;
use crate::conn::Dispatched;
use crate::journal::{Draft, is_topic};
use crate::limits::MAX_TIMER_MS;
use crate::proto::message::parse_topic;
use crate::proto::{ErrorCode, Frame};
use crate::service::Failure;

impl Turn<'_> {
    /// Hands a message to the journal.
    pub(super) fn submit(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        let to = reply_to(request);
        let hub = &mut *self.hub;
        let Some(inlet) = &mut hub.journal else {
            let text = "this server keeps no journal: its operator has to set TIDEGATE_DATA_DIR";
            return to.encode_failure(out, &Failure::new(ErrorCode::UnknownCommand, text));
        };
        let parsed = parse_topic(request.payload).and_then(|(topic, body)| Some((is_topic(topic)?, body)));
        let Some((topic, body)) = parsed else {
            let text =
                "wanted: the topic's length, a topic of 1 to 255 bytes of UTF-8 without control characters, the body";
            return to.encode_failure(out, &Failure::new(ErrorCode::BadRequest, text));
        };
        let Some(caller) = caller(&hub.sessions, &hub.remotes, *self.session) else {
            return to.encode_failure(out, &session_is_gone());
        };
        if let Err(failure) = inlet.admits(request.payload.len()) {
            if failure.code == ErrorCode::Overloaded {
                hub.stats.overloaded.add(1);
            }
            return to.encode_failure(out, &failure);
        }
        let (key, trace) = (request.extensions.idempotency(), request.extensions.trace());
        let deadline = request.extensions.deadline_ms().map(|ms| hub.now.plus(ms.min(MAX_TIMER_MS)));
        let Some(pending) = hub.pending.insert(self.token, to, Wait::Journal, deadline, None, trace) else {
            hub.stats.overloaded.add(1);
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        };
        let session = Some(inlet.name_of(caller.session()));
        inlet.push(pending, &Draft { topic, principal: caller.principal(), key, trace, session, body });
        Dispatched::InFlight
    }
}

impl Reactor {
    /// What this tick has accepted goes to the journal, in one piece.
    pub(super) fn hand_over(&mut self) {
        if let Some(inlet) = &mut self.hub.journal {
            inlet.hand_over();
        }
    }

    /// Messages are on the disk, or are not: their requests are answered.
    pub(super) fn take_settled(&mut self, settled: Settled) {
        for (at, (pending, outcome)) in settled.answers.into_iter().enumerate() {
            self.handle_answer(pending, outcome);
            // While they are in the caches.
            if at % 64 == 63 {
                self.flush_dirty();
            }
        }
        if let (Some(inlet), Some(spare)) = (&mut self.hub.journal, settled.spare) {
            inlet.take_back(spare);
        }
    }
}
