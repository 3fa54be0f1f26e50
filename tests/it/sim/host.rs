//! The world behind the connection: it answers at once, later, in any order, well or badly.

use tidegate::conn::{AuthRequest, AuthVerdict, Dispatched, Host, Refusal, Rules, Welcome};
use tidegate::proto::{Command, ErrorCode, ErrorReply, Frame, Version, encode, encode_extended};

use super::dice::Dice;
use super::expect::Kind;
use super::model::{Answer, Ending, Model};

/// A request that a handler has in hand.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub seq: u32,
    pub cmd: u8,
    pub version: Version,
}

/// The host of one turn.
pub struct ModelHost<'w, 'd> {
    pub dice: &'w mut Dice<'d>,
    pub model: &'w mut Model,
    pub pending: &'w mut Vec<Pending>,
    /// Bytes that were queued before this turn.
    pub queued: usize,
    pub rules: &'w Rules,
    /// Largest reply.
    pub max_reply: usize,
    pub ended_session: &'w mut bool,
}

pub const WELCOME: Welcome = Welcome { session: [7; 16], resumed: false };

impl ModelHost<'_, '_> {
    /// Brings the shadow up to the request that the connection hands out now.
    fn reach(&mut self, dispatch: bool) {
        loop {
            let event = self.model.next_event().expect("the host is asked for something that was never sent");
            let for_host = matches!(event.kind, Kind::Dispatch | Kind::Auth { .. });
            assert!(!event.is_last(), "the host is asked for something beyond the end");
            if for_host {
                assert_eq!(event.kind == Kind::Dispatch, dispatch, "requests come in order");
                return;
            }
            self.model.take_event();
        }
    }
}

impl Host for ModelHost<'_, '_> {
    fn authenticate(&mut self, auth: AuthRequest<'_>) -> AuthVerdict {
        self.reach(false);
        let event = self.model.take_event();
        if let Kind::Auth { wish } = event.kind {
            let own = self.rules.heartbeat_ms;
            let granted = |wish: u32| wish.clamp(own.min(1_000), own.max(3_600_000));
            self.model.heartbeat = wish.filter(|wish| *wish > 0).map_or(own, granted);
        }
        assert_eq!(auth.token, &self.model.incoming.bytes[event.payload..event.end], "the token as it was sent");
        match self.dice.weighted(&[60, 30, 10]) {
            0 => {
                self.model.request_mut(event.seq).answer = Answer::Ready;
                AuthVerdict::Welcome(WELCOME)
            }
            1 => AuthVerdict::Later,
            _ => AuthVerdict::Refused(refusal(self.model, event.seq)),
        }
    }

    fn dispatch(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        self.reach(true);
        assert!(self.queued + out.len() <= self.rules.outbound_high, "a frame was parsed above the high mark");
        assert!(self.pending.len() < usize::from(self.rules.max_in_flight), "more in flight than allowed");
        let event = self.model.take_event();
        assert_eq!((request.seq, request.cmd.0), (event.seq, event.cmd), "requests come in order");
        assert_eq!(request.payload, &self.model.incoming.bytes[event.payload..event.end], "payloads come whole");
        let pending = Pending { seq: request.seq, cmd: request.cmd.0, version: request.version };
        match self.dice.weighted(&[40, 15, 45]) {
            0 => {
                let reply = decide_reply(self.dice, self.model, &pending, self.max_reply);
                write_reply(out, &pending, &reply);
                Dispatched::Answered
            }
            1 => {
                let code = decide_error(self.dice, self.model, &pending);
                ErrorReply::new(code, request.cmd, "no").encode(out, request.seq);
                Dispatched::Failed(code)
            }
            _ => {
                self.pending.push(pending);
                Dispatched::InFlight
            }
        }
    }

    fn end_session(&mut self) {
        assert!(!*self.ended_session, "a session ends once");
        *self.ended_session = true;
        // BYE is next, behind whatever the connection answers by itself.
        while self.model.next_event().is_some_and(|e| e.kind != Kind::Bye) {
            assert!(!matches!(self.model.next_event(), Some(e) if e.is_last()));
            self.model.take_event();
        }
        assert_eq!(self.model.next_event().map(|e| e.kind), Some(Kind::Bye), "a session ends by BYE");
    }
}

/// AUTH is refused: the shadow's side of it.
pub fn refusal(model: &mut Model, seq: u32) -> Refusal {
    model.request_mut(seq).answer = Answer::Error(4);
    model.ending = Ending::Silent;
    Refusal { code: ErrorCode::AuthFailed, retry_after_ms: 0 }
}

/// Chooses a reply's content and tells the shadow.
pub fn decide_reply(dice: &mut Dice<'_>, model: &mut Model, pending: &Pending, max: usize) -> Vec<u8> {
    let len = match dice.weighted(&[70, 25, 5]) {
        0 => dice.below(40),
        1 => dice.below(600),
        _ => dice.below(max),
    };
    let payload = vec![pending.seq as u8; len];
    model.request_mut(pending.seq).answer = Answer::Reply { cmd: pending.cmd, payload: payload.clone() };
    payload
}

/// Chooses an ERROR's code and tells the shadow.
pub fn decide_error(dice: &mut Dice<'_>, model: &mut Model, pending: &Pending) -> ErrorCode {
    let code = dice.pick(&[
        ErrorCode::Internal,
        ErrorCode::UnknownCommand,
        ErrorCode::Overloaded,
        ErrorCode::NotFound,
        ErrorCode::DeadlineExceeded,
    ]);
    model.request_mut(pending.seq).answer = Answer::Error(code.to_wire());
    code
}

pub fn write_reply(out: &mut Vec<u8>, pending: &Pending, payload: &[u8]) {
    let cmd = Command(pending.cmd);
    let fitted = match pending.version {
        Version::Plain => encode(out, pending.seq, cmd, payload),
        Version::Extended => encode_extended(out, pending.seq, cmd, &[6, 1, 2], payload),
    };
    assert!(fitted);
}
