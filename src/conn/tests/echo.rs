//! ECHO, served as whole runs of frames.

use super::*;

fn echoes(seqs: std::ops::RangeInclusive<u32>) -> Vec<u8> {
    seqs.flat_map(|seq| frame(seq, Command::ECHO, &vec![seq as u8; seq as usize * 7])).collect()
}

#[test]
fn a_run_of_echoes_comes_back_as_the_bytes_that_it_came_as() {
    let mut bench = Bench::ready();
    let run = echoes(2..=70);
    assert_eq!(bench.receive(&run), Action::None);
    assert_eq!(bench.wire.sent, run);
    assert_eq!((bench.conn.last_seq(), bench.stats.frames_in.get()), (70, 70));
    assert_eq!((bench.stats.accepted.get(), bench.stats.answered.get()), (70, 70));
}

#[test]
fn a_run_ends_where_something_else_begins_and_says_what_single_frames_say() {
    let mut too_large = frame(5, Command::ECHO, &[0; 600]);
    too_large.truncate(9);
    let others = [
        frame(5, Command::PING, b"?"),
        frame(5, FAILS, b""),
        frame(5, LATER, b""),
        frame(0, Command::PONG, b""),
        frame(0, Command::GOAWAY, b""),
        frame(5, Command::BYE, b""),
        frame(4, Command::ECHO, b"not greater"),
        frame(5, Command::READY, b""),
        extended(5, Command::ECHO, &[], b"version 2"),
        extended(5, Command::ECHO, &[2, 4, 0, 0, 0, 0], b"no time"),
        extended(5, Command::ECHO, &[0x80, 0], b"critical"),
        frame(5, Command::ECHO, b"half a frame")[..15].to_vec(),
        too_large,
        b"\x4D\x03\0\0\0\0\0\x05\x10".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for other in others {
        let stream = [echoes(2..=4), other.clone(), echoes(6..=8)].concat();
        let said = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut bench = Bench::ready();
            bench.rules.max_payload = 512;
            let last = pieces.map(|piece| bench.receive(piece)).find(|action| *action != Action::None);
            let stats = &bench.stats;
            let counts = [&stats.accepted, &stats.answered, &stats.failed, &stats.frames_in].map(|c| c.get());
            // A reset takes with it what was not sent before.
            let sent = if last == Some(Action::Reset) { Vec::new() } else { std::mem::take(&mut bench.wire.sent) };
            (sent, counts, bench.conn.last_seq(), last)
        };
        let whole = said(&mut std::iter::once(&stream[..]));
        assert_eq!(whole, said(&mut stream.chunks(1)), "{other:?}");
    }
}

#[test]
fn a_run_ends_above_the_high_mark_like_any_other_frames() {
    let mut bench = Bench::ready();
    (bench.rules.outbound_high, bench.rules.outbound_low, bench.rules.outbound_max) = (250, 50, 10_000);
    bench.wire.room = 0;
    let stream: Vec<u8> = (2..=9).flat_map(|seq| frame(seq, Command::ECHO, &[0; 91])).collect();
    bench.receive(&stream);
    assert_eq!(bench.conn.last_seq(), 4, "the third goes over the mark");
    assert!(bench.conn.is_paused());
    bench.wire.room = 280;
    bench.flush();
    assert_eq!(bench.conn.last_seq(), 7, "below the low mark it goes on");
    bench.wire.room = usize::MAX;
    bench.flush();
    assert_eq!(bench.wire.sent, stream);
}

#[test]
fn before_auth_an_echo_is_auth_required() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(&echoes(1..=3)), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::AuthRequired), 1)]);
}
