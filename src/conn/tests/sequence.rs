//! Section 4: sequence numbers.

use super::*;

#[test]
fn requests_may_start_anywhere_and_wrap_around() {
    let mut bench = Bench::new();
    let stream = [
        frame(u32::MAX - 1, Command::AUTH, b""),
        frame(u32::MAX, Command::ECHO, b""),
        frame(0, Command::PING, b""),
        frame(5, Command::ECHO, b""),
    ];
    assert_eq!(bench.receive(&stream.concat()), Action::None);
    let told = bench.told();
    let [ready, echo, pong] = [Command::READY, Command::ECHO, Command::PONG].map(Said::Frame);
    assert_eq!(told, [(ready, u32::MAX - 1), (echo.clone(), u32::MAX), (pong, 0), (echo, 5)]);
}

#[test]
fn a_seq_that_does_not_increase_is_bad_sequence_and_ends_the_connection() {
    for seq in [1, 0, u32::MAX, 1 + (1 << 31)] {
        let mut bench = Bench::ready();
        assert_eq!(bench.receive(&frame(seq, Command::ECHO, b"")), Action::HalfClose);
        assert_eq!(bench.told(), [(Said::Error(ErrorCode::BadSequence), seq)]);
        assert!(bench.host.asked.is_empty());
    }
}

#[test]
fn pong_and_goaway_are_outside_the_rule() {
    let mut bench = Bench::ready();
    bench.receive(&frame(10, Command::ECHO, b""));
    bench.receive(&[frame(3, Command::PONG, b""), frame(11, Command::ECHO, b"")].concat());
    assert_eq!(bench.told().len(), 2);
    assert_eq!(bench.receive(&frame(2, Command::GOAWAY, b"")), Action::HalfClose);
    assert!(matches!(bench.told()[..], [(Said::GoAway(_, GoAwayReason::Asked, 11), 0)]));
}

#[test]
fn replies_come_in_any_order_with_their_requests_seq() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, LATER, b""), frame(4, Command::ECHO, b"")].concat());
    bench.answer(3);
    bench.answer(2);
    assert_eq!(bench.told().iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [4, 3, 2]);
}

#[test]
fn an_error_about_a_frame_that_is_no_request_carries_0_and_never_a_requests_seq() {
    let mut bench = Bench::ready();
    bench.receive(&frame(5, LATER, b""));
    bench.receive(&frame(5, Command::READY, b""));
    bench.answer(5);
    assert_eq!(bench.told(), [(Said::Frame(LATER), 5), (Said::Error(ErrorCode::Malformed), 0)]);
}

#[test]
fn an_unsent_error_for_a_request_with_seq_0_is_counted_as_one() {
    let mut bench = Bench::new();
    bench.receive(&frame(u32::MAX, Command::AUTH, b""));
    bench.wire.room = 0;
    bench.receive(&[frame(0, FAILS, b""), frame(1, FAILS, b"")].concat());
    assert_eq!(bench.with(|conn, cx, _| conn.cut(cx, Cause::DrainDeadline)), 2);
    assert_eq!((bench.stats.failed.get(), bench.stats.cut.get()), (0, 2));
}
