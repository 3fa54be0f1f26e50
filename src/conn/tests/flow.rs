//! Backpressure, slow consumers, and bounds on what is kept.

use super::*;

/// A ready connection whose client does not read, with small watermarks.
fn full() -> Bench {
    let mut bench = Bench::ready();
    bench.wire.room = 0;
    bench.host.reply = 1_000;
    (bench.rules.outbound_high, bench.rules.outbound_low, bench.rules.outbound_max) = (2_500, 500, 10_000);
    bench
}

fn requests(seqs: std::ops::RangeInclusive<u32>) -> Vec<u8> {
    seqs.flat_map(|seq| frame(seq, BIG, b"")).collect()
}

#[test]
fn above_the_high_mark_no_frame_is_parsed_until_below_the_low_one() {
    let mut bench = full();
    bench.receive(&requests(2..=9));
    assert_eq!(bench.host.asked, [2, 3, 4], "the third goes over the mark");
    assert!(bench.conn.is_paused() && !bench.with(|conn, cx, _| conn.wants_input(cx)));
    bench.wire.room = 1_500;
    bench.flush();
    assert_eq!(bench.host.asked.len(), 3, "between the marks");
    bench.wire.room = 1_100;
    bench.flush();
    assert_eq!(bench.host.asked, [2, 3, 4, 5, 6, 7], "below the low mark it goes on");
    bench.wire.room = usize::MAX;
    bench.flush();
    assert_eq!((bench.told().len(), bench.conn.is_bare()), (8, true));
}

#[test]
fn no_more_than_the_bound_is_in_flight() {
    let mut bench = Bench::ready();
    bench.rules.max_in_flight = 2;
    bench.receive(&[2, 3, 4].map(|seq| frame(seq, LATER, b"")).concat());
    assert_eq!(bench.host.asked, [2, 3]);
    bench.answer(2);
    assert_eq!(bench.host.asked, [2, 3, 4]);
}

#[test]
fn a_paused_connection_is_not_blamed_for_silence_or_for_half_a_frame() {
    let mut bench = Bench::ready();
    bench.rules.max_in_flight = 1;
    bench.receive(&[frame(2, LATER, b""), frame(3, Command::ECHO, b"")[..5].to_vec()].concat());
    for _ in 0..10 {
        assert_eq!(bench.wait(30_000), Action::None);
    }
    assert!(bench.told().is_empty());
    bench.answer(2);
    assert_eq!(bench.wait(9_999), Action::None);
    bench.receive(&frame(3, Command::ECHO, b"")[5..]);
    assert_eq!(bench.told(), [(Said::Frame(LATER), 2), (Said::Frame(Command::ECHO), 3)]);
}

#[test]
fn output_over_the_high_mark_that_no_input_caused_pauses_too() {
    let mut bench = full();
    (bench.rules.heartbeat_ms, bench.rules.slow_consumer_ms) = (1_000, 1 << 20);
    bench.receive(&frame(2, LATER, b""));
    bench.act(|conn, cx| conn.answered(cx, LATER, |out| assert!(encode(out, 2, LATER, &[0; 3_000]))));
    assert!(bench.conn.is_paused());
    for _ in 0..100 {
        assert_eq!(bench.wait(1_000), Action::None, "what is not read can't be silence");
    }
}

#[test]
fn output_that_stands_still_too_long_is_slow_consumer_and_then_the_cut() {
    let mut bench = full();
    bench.wire.room = 10; // the first reply has begun to go out
    bench.receive(&requests(2..=4));
    assert_eq!(bench.wait(9_999), Action::None);
    assert_eq!(bench.wait(1), Action::None);
    assert!(bench.conn.is_leaving());
    assert_eq!(bench.stats.undelivered.get(), 2, "the two that had not begun");
    assert_eq!(bench.wait(1_999), Action::None);
    assert_eq!(bench.wait(1), Action::Reset);
    let stats = bench.close();
    assert_eq!((stats.undelivered.get(), stats.connections_cut.get()), (3, 1));
}

#[test]
fn a_slow_consumer_that_reads_at_last_is_told_what_it_was() {
    let mut bench = full();
    bench.wire.room = 10;
    bench.receive(&requests(2..=4));
    bench.wait(10_000);
    bench.wire.room = usize::MAX;
    assert_eq!(bench.flush(), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Frame(BIG), 2), (Said::Error(ErrorCode::SlowConsumer), 0)]);
}

#[test]
fn a_slow_consumer_has_only_the_linger_time_however_little_it_takes_at_a_time() {
    let mut bench = full();
    bench.wire.room = 10;
    bench.receive(&requests(2..=4));
    bench.wait(10_000);
    for _ in 0..3 {
        bench.wire.room = 1;
        assert_eq!(bench.wait(500), Action::None);
    }
    bench.wire.room = 1;
    assert_eq!(bench.wait(500), Action::Reset);
}

#[test]
fn output_that_moves_by_drops_is_slow_consumer_once_its_bytes_are_too_old() {
    let mut bench = full();
    (bench.rules.slow_consumer_ms, bench.rules.outbound_age_ms) = (10_000, 60_000);
    bench.receive(&requests(2..=4)); // 3,027 bytes
    for _ in 0..11 {
        bench.wire.room = 1;
        assert_eq!(bench.wait(5_000), Action::None);
        assert!(bench.conn.is_ready(), "{:?}", bench.now);
    }
    bench.wire.room = 1;
    assert_eq!(bench.deadline(), Some(60_000));
    bench.wait(4_999);
    assert!(bench.conn.is_ready());
    bench.wait(1);
    assert!(bench.conn.is_leaving() && bench.conn.is_too_slow());
}

#[test]
fn a_client_that_is_always_behind_but_never_by_long_is_not_too_slow() {
    let mut bench = full();
    (bench.rules.slow_consumer_ms, bench.rules.outbound_age_ms) = (10_000, 60_000);
    bench.receive(&requests(2..=3));
    for seq in 4..100 {
        // Each second as much goes out as comes in; the queue is never empty.
        bench.wire.room = 1_009;
        bench.receive(&requests(seq..=seq));
        assert!(bench.conn.has_queue() && bench.conn.is_ready(), "seq {seq}");
        assert_eq!(bench.wait(5_000), Action::None);
    }
    assert!(bench.conn.is_ready());
}

#[test]
fn output_over_the_bound_is_slow_consumer_at_once() {
    let mut bench = full();
    bench.rules.outbound_max = 2_500;
    bench.receive(&requests(2..=4));
    assert!(bench.conn.is_leaving());
    assert_eq!(bench.stats.undelivered.get(), 3);
    bench.wire.room = usize::MAX;
    bench.flush();
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::SlowConsumer), 0)]);
}

#[test]
fn a_bye_behind_a_slow_consumer_is_accounted_for() {
    let mut bench = full();
    bench.receive(&[frame(2, LATER, b""), requests(3..=3), frame(4, Command::BYE, b"")].concat());
    assert_eq!(bench.wait(10_000), Action::Reset);
    bench.with(|conn, cx, _| conn.answered(cx, LATER, |_| unreachable!("nowhere to write it")));
    assert_eq!(bench.close().undelivered.get(), 3);
}

#[test]
fn held_output_goes_out_with_the_next_flush() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(3, LATER, b"")].concat());
    for seq in [2, 3] {
        bench.with(|conn, cx, _| {
            conn.answered(cx, LATER, |out| assert!(encode(out, seq, LATER, b"")));
            conn.hold(cx);
        });
    }
    assert!(bench.told().is_empty() && bench.conn.has_queue());
    bench.flush();
    assert_eq!((bench.told().len(), bench.conn.is_bare()), (2, true));
}

#[test]
fn a_broken_stream_counts_the_answers_that_did_not_go_out() {
    let mut bench = Bench::ready();
    bench.wire.gone = true;
    assert_eq!(bench.receive(&[frame(2, Command::ECHO, b""), frame(3, FAILS, b"")].concat()), Action::Close);
    let stats = bench.close();
    assert_eq!((stats.undelivered.get(), stats.connections_lost.get()), (2, 1));
}

#[test]
fn a_worker_whose_buffers_are_full_keeps_no_more_of_anybodys_frames() {
    let mut bench = Bench::ready();
    bench.rules.buffer_bytes = 1_000;
    let long = frame(2, Command::ECHO, &[0; 4_000]);
    bench.receive(&long[..500]);
    assert!(bench.conn.is_ready(), "there is room for these");
    assert_eq!(bench.buffers.lent(), 1);
    bench.receive(&long[500..2_500]);
    assert_eq!((bench.buffers.lent(), bench.buffers.lent_bytes()), (0, 0));
    assert_eq!(bench.told().last(), Some(&(Said::Error(ErrorCode::Overloaded), 0)));
}

#[test]
fn a_worker_whose_buffers_are_full_keeps_no_more_output_either() {
    let mut bench = full();
    bench.rules.buffer_bytes = 1_500;
    bench.receive(&requests(2..=4));
    assert!(bench.conn.is_leaving());
    bench.wire.room = usize::MAX;
    bench.flush();
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::SlowConsumer), 0)]);
    assert_eq!(bench.close().undelivered.get(), 3);
}
