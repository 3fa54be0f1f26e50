//! The manager under a clock that the test moves, without sockets.

use super::*;
use crate::client::call::{Call, CallSlot, Slot};
use crate::client::manager::{Action, End, LinkId, Manager};
use crate::client::stats::Status;
use crate::proto::{ErrorReply, FrameDecoder, GoAway, GoAwayStage, MAX_BODY, encode, seq_follows};

const MS: Duration = Duration::from_millis(1);

/// A manager, its clock, and a server's view of what it writes.
struct World {
    manager: Manager,
    status: Arc<Status>,
    now: Instant,
    next_id: LinkId,
}

impl World {
    fn new() -> World {
        World::with(ClientOptions {
            backoff_base: 100 * MS,
            backoff_max: 1600 * MS,
            connect_timeout: 60_000 * MS,
            ..ClientOptions::new(["a:1"])
        })
    }

    fn with(options: ClientOptions) -> World {
        let (status, now) = (Arc::new(Status::default()), Instant::now());
        let manager = Manager::new(options, Arc::clone(&status), fastrand::Rng::with_seed(1), now);
        World { manager, status, now, next_id: 1 }
    }

    fn actions(&mut self) -> Vec<Action> {
        self.manager.handle_timers(self.now);
        std::iter::from_fn(|| self.manager.poll_action()).collect()
    }

    /// Moves the clock to the next timer; returns how far that was.
    fn skip(&mut self) -> Duration {
        let next = self.manager.next_timer().expect("a timer").max(self.now);
        let passed = next - self.now;
        self.now = next;
        passed
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Goes on until an attempt to connect begins; returns how long that took.
    fn until_connect(&mut self) -> Duration {
        let begun = self.now;
        loop {
            if self.actions().iter().any(|action| matches!(action, Action::Connect(_))) {
                return self.now - begun;
            }
            self.skip();
        }
    }

    fn refuse(&mut self) {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        self.manager.handle_connect_failed(ClientError::io("a:1", &error), self.now);
    }

    /// The transport is there; AUTH is taken and returned as its seq.
    fn connected(&mut self) -> (LinkId, u32) {
        let id = self.next_id;
        self.next_id += 1;
        self.manager.handle_connected(id, self.now);
        let frames = self.written(id);
        assert_eq!(frames[0].1, Command::AUTH);
        (id, frames[0].0)
    }

    fn ready(&mut self, heartbeat: Duration) -> LinkId {
        self.until_connect();
        let (id, seq) = self.connected();
        let heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap();
        self.says(id, |out| AuthReady { heartbeat_ms, ..Peer::READY }.encode(out, seq));
        id
    }

    fn says(&mut self, id: LinkId, append: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = Vec::new();
        append(&mut bytes);
        self.manager.handle_input(id, &bytes, self.now)
    }

    fn goaway(&mut self, id: LinkId, stage: GoAwayStage, reason: GoAwayReason, last_seq: u32, after_ms: u32) {
        let (deadline_ms, reconnect_after_ms) = (20_000, after_ms);
        let goaway = GoAway { stage, reason, last_seq, deadline_ms, reconnect_after_ms, addresses: Vec::new() };
        self.says(id, |out| goaway.encode(out));
    }

    /// The frames that the socket of `id` would take now.
    fn written(&mut self, id: LinkId) -> Vec<(u32, Command)> {
        let bytes = self.manager.output(id).to_vec();
        self.manager.handle_written(id, bytes.len());
        let (mut decoder, mut input, mut frames) = (FrameDecoder::new(MAX_BODY), &bytes[..], Vec::new());
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            frames.push((frame.seq, frame.cmd));
        }
        frames
    }

    fn call(&mut self, cmd: Command, idempotent: bool) -> CallSlot {
        let options = CallOptions { idempotent: Some(idempotent), ..CallOptions::default() };
        let call = Call::new(cmd, b"payload".to_vec(), options, false, (PATIENCE, self.now));
        let slot = call.slot();
        self.manager.handle_call(call);
        self.manager.update(self.now);
        slot
    }

    fn trouble(&self) -> Option<ClientError> {
        self.status.known().trouble.clone()
    }
}

fn result(slot: &CallSlot) -> Option<Result<Vec<u8>, ClientError>> {
    slot.is_left().then(|| slot.wait(Instant::now()).unwrap().map(|reply| reply.payload))
}

#[test]
fn a_silent_server_is_asked_after_two_intervals_and_left_after_three() {
    let mut world = World::new();
    let id = world.ready(1000 * MS);
    for _ in 0..5 {
        assert_eq!(world.skip(), 2000 * MS);
        assert_eq!(world.actions(), []);
        let [(seq, Command::PING)] = world.written(id)[..] else { panic!("no PING") };
        world.pass(999 * MS);
        assert!(world.says(id, |out| assert!(encode(out, seq, Command::PONG, b""))), "a late PONG keeps it");
    }
    assert_eq!(world.skip(), 2000 * MS);
    assert_eq!(world.actions(), []);
    assert_eq!(world.skip(), 1000 * MS);
    assert_eq!(world.actions(), [Action::Close(id)]);
    assert!(
        world
            .trouble()
            .is_some_and(|trouble| trouble.to_string().contains("nothing heard from the server for 3000 ms"))
    );
}

#[test]
fn a_process_that_was_stopped_asks_before_it_gives_up() {
    let mut world = World::new();
    let id = world.ready(1000 * MS);
    world.pass(600_000 * MS);
    assert_eq!(world.actions(), []);
    assert_eq!(world.written(id).len(), 1);
}

#[test]
fn failed_attempts_come_with_full_jitter_below_a_ceiling_that_doubles() {
    let mut world = World::new();
    assert_eq!(world.until_connect(), Duration::ZERO, "the first is at once");
    for ceiling in [100, 200, 400, 800, 1600, 1600, 1600] {
        world.refuse();
        let delay = world.until_connect();
        assert!(delay <= ceiling * MS, "{delay:?} over {ceiling} ms");
    }
    let (id, _) = world.connected();
    world.manager.handle_end(id, End::Eof, world.now);
    assert!(matches!(world.trouble(), Some(ClientError::Io { .. })));
}

#[test]
fn an_attempt_that_gets_no_ready_is_given_up_after_the_connect_timeout() {
    let mut world = World::new();
    world.until_connect();
    let (id, _) = world.connected();
    assert_eq!(world.skip(), 60_000 * MS);
    assert_eq!(world.actions(), [Action::Close(id)]);
    world.until_connect();
    assert_eq!(world.skip(), 60_000 * MS);
    assert_eq!(world.actions(), [Action::Abort]);
}

#[test]
fn overloaded_at_auth_waits_for_what_the_server_asks_at_least() {
    let mut world = World::new();
    world.until_connect();
    let (id, seq) = world.connected();
    let error = ErrorReply { retry_after_ms: 5000, ..ErrorReply::new(ErrorCode::Overloaded, Command::AUTH, "full") };
    world.says(id, |out| error.encode(out, seq));
    let delay = world.until_connect();
    assert!((5000 * MS..=6250 * MS).contains(&delay), "{delay:?}");
}

#[test]
fn a_server_of_another_protocol_is_a_protocol_error() {
    let mut world = World::new();
    world.until_connect();
    let (id, _) = world.connected();
    assert!(!world.says(id, |out| out.extend_from_slice(b"SSH-2.0-OpenSSH")));
    assert!(matches!(world.trouble(), Some(ClientError::Protocol { .. })));
}

#[test]
fn a_notice_is_followed_in_the_servers_slot_and_not_before() {
    let mut world = World::new();
    let id = world.ready(3_600_000 * MS);
    world.goaway(id, GoAwayStage::Notice, GoAwayReason::Drain, GoAway::NO_LAST_SEQ, 700);
    world.call(APP, false);
    assert_eq!(world.written(id).len(), 1, "the old connection serves");
    assert_eq!(world.until_connect(), 700 * MS);
}

#[test]
fn a_final_goaway_brings_its_own_slot_if_that_is_sooner() {
    let mut world = World::new();
    let id = world.ready(3_600_000 * MS);
    world.goaway(id, GoAwayStage::Notice, GoAwayReason::Drain, GoAway::NO_LAST_SEQ, 700);
    world.goaway(id, GoAwayStage::Final, GoAwayReason::Drain, 1, 20);
    assert_eq!(world.until_connect(), 20 * MS);
}

#[test]
fn two_clients_that_take_a_session_from_each_other_slow_down() {
    let mut world = World::new();
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        let id = world.ready(3_600_000 * MS);
        world.goaway(id, GoAwayStage::Final, GoAwayReason::Replaced, 1, 0);
        waited += world.until_connect();
        world.refuse();
    }
    assert!(waited > 1600 * MS, "{waited:?}");
}

#[test]
fn last_seq_is_compared_across_the_wrap() {
    let mut world = World::new();
    world.manager.begin_at_seq(u32::MAX - 1);
    let id = world.ready(3_600_000 * MS);
    let slots: Vec<CallSlot> = (0..4).map(|_| world.call(APP, false)).collect();
    let seqs: Vec<u32> = world.written(id).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [u32::MAX, 1, 2, 3], "0 would be the connection itself");
    assert!(seqs.windows(2).all(|pair| seq_follows(pair[0], pair[1])));
    world.goaway(id, GoAwayStage::Final, GoAwayReason::Drain, 1, 0);
    let next = world.ready(3_600_000 * MS);
    assert_eq!(world.written(next).len(), 2, "2 and 3 are sent again");
    world.manager.handle_end(id, End::Eof, world.now);
    let unknown = |slot| matches!(result(slot), Some(Err(ClientError::UnknownOutcome { .. })));
    assert_eq!(slots.iter().map(unknown).collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn a_request_that_did_not_leave_whole_is_sent_again_and_counted_once() {
    let mut world = World::new();
    let id = world.ready(3_600_000 * MS);
    let slot = world.call(APP, false);
    world.manager.handle_written(id, 10);
    world.manager.handle_end(id, End::Lost("reset".to_owned()), world.now);
    assert_eq!((world.status.counters.snapshot().sent, slot.was_on_wire()), (0, false));
    let id = world.ready(3_600_000 * MS);
    assert_eq!(world.written(id).len(), 1);
    assert_eq!(result(&slot), None);
    let stats = world.status.counters.snapshot();
    assert_eq!((stats.sent, stats.resent, stats.repeated, stats.in_flight()), (1, 0, 0, 1));
}

#[test]
fn calls_that_are_sent_again_keep_their_order_and_go_before_new_ones() {
    let mut world = World::new();
    let id = world.ready(3_600_000 * MS);
    let before: Vec<CallSlot> = [Command(0x21), Command(0x22), Command(0x23)].map(|cmd| world.call(cmd, true)).into();
    world.written(id);
    world.manager.handle_end(id, End::Lost("reset".to_owned()), world.now);
    let after = world.call(Command(0x24), true);
    let id = world.ready(3_600_000 * MS);
    let cmds: Vec<u8> = world.written(id).into_iter().map(|(_, cmd)| cmd.0).collect();
    assert_eq!(cmds, [0x21, 0x22, 0x23, 0x24]);
    drop((before, after));
}

#[test]
fn a_call_that_nobody_waits_for_is_not_sent() {
    let mut world = World::new();
    let slot = world.call(APP, true);
    assert_eq!(slot.wait(world.now), None);
    let id = world.ready(3_600_000 * MS);
    assert_eq!(world.written(id), []);
}

#[test]
fn the_old_connection_is_given_up_when_no_half_close_follows_its_final_goaway() {
    let mut world = World::new();
    let old = world.ready(3_600_000 * MS);
    world.goaway(old, GoAwayStage::Final, GoAwayReason::Drain, 1, 0);
    let begun = world.now;
    world.ready(3_600_000 * MS);
    while !world.actions().contains(&Action::Close(old)) {
        world.skip();
    }
    assert_eq!(world.now - begun, 25_000 * MS);
}

#[test]
fn a_close_without_connection_or_calls_is_over_at_once() {
    let mut world = World::new();
    world.until_connect();
    let slot = Slot::new();
    world.manager.handle_close(None, Arc::clone(&slot), world.now + PATIENCE);
    assert_eq!(world.actions(), [Action::Abort]);
    assert!(world.manager.is_closed());
    assert_eq!(slot.wait(world.now), Some(Ok(())));
}

#[test]
fn a_refusal_followed_by_ready_does_not_make_a_connection() {
    let mut world = World::new();
    world.until_connect();
    let (id, seq) = world.connected();
    world.says(id, |out| {
        ErrorReply::new(ErrorCode::Draining, Command::AUTH, "later").encode(out, seq);
        Peer::READY.encode(out, seq);
    });
    let slot = world.call(APP, false);
    let id = world.ready(3_600_000 * MS);
    assert_eq!(world.written(id).len(), 1);
    assert_eq!(result(&slot), None);
}

#[test]
fn a_connection_that_is_going_away_is_sent_no_ping_and_is_left_when_it_falls_silent() {
    let mut world = World::new();
    let old = world.ready(1000 * MS);
    world.goaway(old, GoAwayStage::Final, GoAwayReason::Drain, 1, 0);
    let begun = world.now;
    world.ready(3_600_000 * MS);
    while !world.actions().contains(&Action::Close(old)) {
        assert_eq!(world.written(old), []);
        world.skip();
    }
    assert_eq!(world.now - begun, 3000 * MS);
}
