//! Section 5: a connection's life.

use super::*;

#[test]
fn no_auth_in_time_is_auth_timeout_then_the_close() {
    let mut bench = Bench::new();
    assert_eq!(bench.deadline(), Some(5_000));
    assert_eq!(bench.wait(4_999), Action::None);
    assert_eq!(bench.wait(1), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::AuthTimeout), 0)]);
}

#[test]
fn the_first_frame_must_be_auth() {
    for cmd in [Command::ECHO, Command::PING, Command::PONG, Command::GOAWAY, Command::BYE, Command::READY] {
        let mut bench = Bench::new();
        assert_eq!(bench.receive(&frame(1, cmd, b"")), Action::HalfClose);
        let seq = u32::from(cmd.is_request());
        assert_eq!(bench.told(), [(Said::Error(ErrorCode::AuthRequired), seq)]);
    }
}

#[test]
fn requests_behind_auth_are_handled_after_ready() {
    let mut bench = Bench::new();
    bench.receive(&[frame(1, Command::AUTH, b"t"), frame(2, Command::ECHO, b"x")].concat());
    assert_eq!(bench.told(), [(Said::Frame(Command::READY), 1), (Said::Frame(Command::ECHO), 2)]);
}

#[test]
fn requests_behind_an_auth_that_waits_are_handled_once_it_is_welcome() {
    let mut bench = Bench::new();
    bench.host.verdict = Some(AuthVerdict::Later);
    bench.receive(&[frame(1, Command::AUTH, b"t"), frame(2, Command::ECHO, b"x")].concat());
    assert!(bench.told().is_empty() && bench.host.asked.is_empty());
    assert!(!bench.with(|conn, cx, _| conn.wants_input(cx)), "nothing is read meanwhile");
    bench.act(|conn, cx| assert!(conn.welcome(cx, WELCOME)));
    assert_eq!(bench.told(), [(Said::Frame(Command::READY), 1), (Said::Frame(Command::ECHO), 2)]);
    assert!(bench.conn.is_bare());
}

#[test]
fn requests_behind_an_auth_that_fails_are_not_handled_at_all() {
    let mut bench = Bench::new();
    bench.host.verdict = Some(AuthVerdict::Later);
    bench.receive(&[frame(1, Command::AUTH, b"t"), frame(2, Command::ECHO, b"x")].concat());
    let refusal = Refusal { code: ErrorCode::AuthFailed, retry_after_ms: 0 };
    assert_eq!(bench.act(|conn, cx| assert!(conn.refuse(cx, refusal))), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::AuthFailed), 1)]);
    assert!(bench.host.asked.is_empty() && bench.stats.accepted.get() == 1);
}

#[test]
fn an_auth_whose_verdict_does_not_come_in_time_is_answered_with_unavailable() {
    let mut bench = Bench::claiming();
    assert_eq!(bench.wait(5_000), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::Unavailable), 7)]);
    assert!(!bench.with(|conn, cx, _| conn.welcome(cx, WELCOME)), "too late");
    assert_eq!(bench.close().failed.get(), 1);
}

#[test]
fn an_auth_that_waits_is_accounted_for_when_the_stream_breaks() {
    let mut bench = Bench::claiming();
    assert_eq!(bench.act(|conn, cx| conn.handle_lost(cx)), Action::Close);
    assert_eq!(bench.close().undelivered.get(), 1);
}

#[test]
fn ready_tells_the_session_and_the_heartbeat_that_is_granted() {
    for (wish, granted) in [(1, 1_000), (10_000, 10_000), (u32::MAX, 3_600_000), (0, 30_000)] {
        let mut bench = Bench::new();
        let block = [&[5, 4], &u32::to_be_bytes(wish)[..], &[4, 16], &[9; 16]].concat();
        bench.receive(&extended(1, Command::AUTH, &block, b""));
        let ready = AuthReady::parse(&bench.sent()[0].payload).unwrap();
        assert_eq!((ready.heartbeat_ms, ready.session, ready.max_payload), (granted, [1; 16], 65_535));
        assert_eq!(bench.host.resume, Some([9; 16]));
        assert!(bench.conn.speaks_extended());
    }
}

#[test]
fn silence_gets_a_ping_and_then_idle() {
    let mut bench = Bench::ready();
    assert_eq!(bench.wait(29_999), Action::None);
    bench.wait(1);
    assert_eq!(bench.told(), [(Said::Frame(Command::PING), 0)]);
    assert_eq!(bench.deadline(), Some(90_000), "two silent intervals more");
    assert_eq!(bench.wait(59_999), Action::None);
    assert_eq!(bench.wait(1), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::Idle), 0)]);
}

#[test]
fn any_frame_counts_as_life() {
    let mut bench = Bench::ready();
    bench.wait(30_000);
    bench.receive(&frame(0, Command::PONG, b""));
    bench.told();
    assert_eq!(bench.deadline(), Some(60_000));
    bench.wait(30_000);
    assert_eq!(bench.told(), [(Said::Frame(Command::PING), 0)]);
}

#[test]
fn a_ping_that_went_out_late_leaves_the_client_its_whole_time_to_answer() {
    let mut bench = Bench::ready();
    bench.wait(600_000); // the process was stopped for ten minutes
    assert_eq!(bench.told(), [(Said::Frame(Command::PING), 0)]);
    assert_eq!(bench.deadline(), Some(660_000));
}

#[test]
fn a_frame_fed_in_drops_is_malformed_at_its_time_whatever_else_happens() {
    let mut bench = Bench::ready();
    let whole = frame(2, Command::ECHO, &[0; 100]);
    for byte in &whole[..10] {
        bench.receive(&[*byte]);
        bench.act(|conn, cx| conn.handle_timeout(cx));
        assert_eq!(bench.deadline(), Some(10_000));
        bench.now = bench.now.plus(999);
    }
    assert_eq!(bench.wait(9), Action::None, "one moment early");
    assert_eq!(bench.wait(1), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::Malformed), 0)]);
    assert!(bench.conn.is_bare());
}

#[test]
fn the_frame_clock_starts_anew_with_the_next_frame() {
    let mut bench = Bench::ready();
    let (one, two) = (frame(2, Command::ECHO, b""), frame(3, Command::ECHO, b""));
    bench.receive(&one[..4]);
    bench.now = Millis(9_000);
    bench.receive(&[&one[4..], &two[..4]].concat());
    assert_eq!(bench.deadline(), Some(19_000));
}

#[test]
fn goaway_from_the_client_gets_everything_answered_then_the_half_close() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(0, Command::GOAWAY, b""), frame(3, Command::ECHO, b"")].concat());
    assert!(matches!(bench.told()[..], [(Said::GoAway(_, GoAwayReason::Asked, 2), 0)]));
    assert_eq!(bench.answer(2), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Frame(LATER), 2)]);
    assert_eq!((bench.host.ended, bench.host.asked.len()), (false, 1), "the session stays; seq 3 is beyond");
}

#[test]
fn bye_ends_the_session_and_is_answered_last() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, Command::BYE, b""), frame(4, Command::ECHO, b"")].concat());
    assert!(bench.host.ended && bench.told().is_empty());
    assert_eq!(bench.answer(2), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Frame(LATER), 2), (Said::Frame(Command::BYE), 3)]);
    assert_eq!(bench.eof(), Action::Close);
    assert_eq!(bench.close().answered.get(), 3);
}

#[test]
fn a_bye_that_waits_is_accounted_for_when_the_stream_breaks() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, Command::BYE, b"")].concat());
    bench.wire.gone = true;
    bench.act(|conn, cx| conn.handle_lost(cx));
    bench.with(|conn, cx, _| conn.answered(cx, LATER, |_| unreachable!("nowhere to write it")));
    let stats = bench.close();
    assert_eq!((stats.answered.get(), stats.undelivered.get()), (3, 2));
}

#[test]
fn eof_without_goaway_still_answers() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, Command::ECHO, b"")].concat());
    assert_eq!(bench.eof(), Action::None);
    assert_eq!(bench.answer(2), Action::Close, "both sides are done");
    assert_eq!(bench.told(), [(Said::Frame(Command::ECHO), 3), (Said::Frame(LATER), 2)]);
    assert!(!bench.host.ended);
}

#[test]
fn eof_does_not_swallow_what_came_before_it() {
    let mut bench = Bench::claiming();
    bench.receive(&frame(8, Command::ECHO, b"kept while AUTH waits"));
    assert_eq!(bench.eof(), Action::None);
    assert_eq!(bench.act(|conn, cx| assert!(conn.welcome(cx, WELCOME))), Action::Close);
    assert_eq!(bench.told(), [(Said::Frame(Command::READY), 7), (Said::Frame(Command::ECHO), 8)]);
}

#[test]
fn the_older_connection_of_a_session_gets_goaway_replaced() {
    let mut bench = Bench::ready();
    bench.receive(&frame(2, LATER, b""));
    assert_eq!(bench.finish(GoAwayReason::Replaced), Action::None);
    assert!(matches!(bench.told()[..], [(Said::GoAway(_, GoAwayReason::Replaced, 2), 0)]));
    assert_eq!(bench.answer(2), Action::HalfClose);
}

#[test]
fn an_idle_ready_connection_holds_no_buffer() {
    let mut bench = Bench::ready();
    bench.receive(&frame(2, Command::ECHO, b"x"));
    assert!(bench.conn.is_bare() && bench.buffers.lent() == 0);
}
