//! Section 6: going away without loss.

use super::*;
use crate::proto::GoAwayStage;

fn notice(bench: &mut Bench, reason: GoAwayReason) -> Action {
    let addresses = ["b.example:7400".to_owned()];
    let departure = Departure { reason, deadline_ms: 25_000, reconnect_after_ms: 40, addresses: &addresses };
    bench.act(|conn, cx| conn.notice(cx, departure))
}

#[test]
fn a_notice_has_no_last_seq_and_requests_are_still_served() {
    let mut bench = Bench::ready();
    assert_eq!(notice(&mut bench, GoAwayReason::Drain), Action::None);
    let goaway = GoAway::parse(&bench.sent()[0].payload).unwrap();
    assert_eq!((goaway.stage, goaway.last_seq, goaway.reconnect_after_ms), (GoAwayStage::Notice, u32::MAX, 40));
    assert_eq!(goaway.addresses, ["b.example:7400"]);
    bench.receive(&frame(2, Command::ECHO, b""));
    assert_eq!(bench.told(), [(Said::Frame(Command::ECHO), 2)]);
    assert!(bench.conn.is_noticed() && bench.conn.is_ready());
}

#[test]
fn the_clients_goaway_after_a_notice_gets_the_final_one_for_the_notices_reason() {
    for reason in [GoAwayReason::Drain, GoAwayReason::Rebalance, GoAwayReason::Upgrade] {
        let mut bench = Bench::ready();
        notice(&mut bench, reason);
        bench.told();
        assert_eq!(bench.receive(&frame(0, Command::GOAWAY, b"")), Action::HalfClose);
        assert_eq!(bench.told(), [(Said::GoAway(GoAwayStage::Final, reason, 1), 0)]);
    }
}

#[test]
fn final_names_the_last_request_and_all_up_to_it_are_answered_and_none_beyond() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, LATER, b"")].concat());
    bench.finish(GoAwayReason::Drain);
    assert_eq!(bench.told(), [(Said::GoAway(GoAwayStage::Final, GoAwayReason::Drain, 3), 0)]);
    bench.receive(&frame(4, Command::ECHO, b""));
    assert_eq!((bench.answer(3), bench.answer(2)), (Action::None, Action::HalfClose));
    assert_eq!(bench.told(), [(Said::Frame(LATER), 3), (Said::Frame(LATER), 2)]);
    bench.receive(&frame(5, Command::ECHO, b""));
    assert!(bench.told().is_empty() && bench.host.asked == [2, 3]);
}

#[test]
fn there_is_one_final_goaway() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(0, Command::GOAWAY, b"")].concat());
    bench.finish(GoAwayReason::Drain);
    notice(&mut bench, GoAwayReason::Drain);
    assert_eq!(bench.told().len(), 1);
}

#[test]
fn the_half_close_waits_until_everything_is_flushed() {
    let mut bench = Bench::ready();
    bench.wire.room = 3;
    assert_eq!(bench.finish(GoAwayReason::Drain), Action::None);
    bench.wire.room = 1_000;
    assert_eq!(bench.flush(), Action::HalfClose);
    assert_eq!(bench.told().len(), 1);
}

#[test]
fn after_the_half_close_it_reads_to_eof_before_it_closes() {
    let mut bench = Bench::ready();
    assert_eq!(bench.finish(GoAwayReason::Drain), Action::HalfClose);
    assert!(bench.conn.is_lingering() && bench.with(|conn, cx, _| conn.wants_input(cx)));
    assert_eq!(bench.receive(&frame(2, Command::ECHO, b"")), Action::None);
    assert_eq!(bench.eof(), Action::Close);
}

#[test]
fn lingering_ends_by_itself_if_eof_does_not_come() {
    let mut bench = Bench::ready();
    bench.finish(GoAwayReason::Drain);
    assert_eq!(bench.wait(1_999), Action::None);
    assert_eq!(bench.wait(1), Action::Close);
}

#[test]
fn a_connection_that_is_not_ready_gets_draining() {
    for finish in [false, true] {
        let mut bench = Bench::new();
        let action = if finish { bench.finish(GoAwayReason::Drain) } else { notice(&mut bench, GoAwayReason::Drain) };
        assert_eq!(action, Action::HalfClose);
        assert_eq!(bench.told(), [(Said::Error(ErrorCode::Draining), 0)]);
        assert_eq!(bench.stats.connections_refused.get(), 1);
    }
}

#[test]
fn an_auth_that_waits_when_the_notice_goes_out_is_answered_with_draining() {
    let mut bench = Bench::claiming();
    assert_eq!(notice(&mut bench, GoAwayReason::Drain), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::Draining), 7)]);
    assert_eq!(bench.close().failed.get(), 1);
}

#[test]
fn a_cut_is_a_reset_and_counts_what_was_not_sent() {
    let mut bench = Bench::ready();
    bench.wire.room = 0;
    bench.receive(&[frame(2, Command::ECHO, b""), frame(3, FAILS, b""), frame(4, LATER, b"")].concat());
    bench.receive(&frame(5, Command::BYE, b""));
    let mut requests = 0;
    assert_eq!(bench.act(|conn, cx| requests = conn.cut(cx, Cause::DrainDeadline)), Action::Reset);
    assert_eq!((requests, bench.stats.cut.get()), (3, 3), "ECHO, the failure and BYE; 4 is its handler's");
    assert_eq!((bench.stats.answered.get(), bench.stats.failed.get()), (1, 0), "AUTH");
}

#[test]
fn an_auth_that_waits_is_cut_with_its_connection() {
    let mut bench = Bench::claiming();
    let mut requests = 0;
    assert_eq!(bench.act(|conn, cx| requests = conn.cut(cx, Cause::DrainDeadline)), Action::Reset);
    assert_eq!((requests, bench.close().cut.get()), (1, 1));
}
