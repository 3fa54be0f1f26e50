//! Section 7: errors, and which of them end the connection.

use super::*;

/// The ERROR that these bytes bring about, and what is to be done then.
fn fate(bytes: &[u8]) -> (Vec<(Said, u32)>, Action) {
    let mut bench = Bench::ready();
    let action = bench.receive(bytes);
    (bench.told(), action)
}

#[test]
fn what_breaks_the_page_is_malformed_and_ends_the_connection() {
    let requests = [
        frame(2, Command::AUTH, b"again"),
        frame(2, Command::PING, &[0; 126]),
        frame(2, Command::BYE, b"not empty"),
        extended(2, Command::ECHO, &[0x20, 9, 1], b""),
        [&frame(2, Command::ECHO, &[])[..1], &[2, 0, 0, 0, 0, 0, 2, 0x10]].concat(),
    ];
    for bytes in requests {
        assert_eq!(fate(&bytes), (vec![(Said::Error(ErrorCode::Malformed), 2)], Action::HalfClose));
    }
    let others = [Command(0), Command::READY, Command(7), Command::ERROR].map(|cmd| frame(2, cmd, b""));
    for bytes in others.iter().chain([&frame(2, Command::GOAWAY, b"not empty")]) {
        assert_eq!(fate(bytes), (vec![(Said::Error(ErrorCode::Malformed), 0)], Action::HalfClose));
    }
}

#[test]
fn a_wrong_magic_is_answered_by_a_reset_with_no_frame() {
    assert_eq!(fate(b"GET / HTTP/1.1\r\n"), (vec![], Action::Reset));
    assert_eq!(fate(&[frame(2, Command::ECHO, b""), b"x".to_vec()].concat()), (vec![], Action::Reset));
    let mut bench = Bench::new();
    assert_eq!(bench.receive(b"\x16"), Action::Reset, "at the first byte");
}

#[test]
fn answers_that_a_reset_takes_with_it_are_counted_as_undelivered() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, Command::ECHO, b""), b"x".to_vec()].concat());
    assert_eq!(bench.close().undelivered.get(), 1);
}

#[test]
fn a_version_that_is_not_spoken_is_unsupported_version() {
    let mut bytes = frame(2, Command::ECHO, b"");
    bytes[1] = 3;
    assert_eq!(fate(&bytes), (vec![(Said::Error(ErrorCode::UnsupportedVersion), 2)], Action::HalfClose));
}

#[test]
fn a_body_over_the_max_payload_is_too_large_at_its_header() {
    let mut bench = Bench::ready();
    bench.rules.max_payload = 512;
    assert_eq!(bench.receive(&frame(2, Command::ECHO, &[0; 513])[..9]), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::TooLarge), 2)]);
}

#[test]
fn a_failed_auth_ends_the_connection() {
    let mut bench = Bench::new();
    bench.host.verdict = Some(AuthVerdict::Refused(Refusal { code: ErrorCode::AuthFailed, retry_after_ms: 9 }));
    assert_eq!(bench.receive(&frame(3, Command::AUTH, b"bad")), Action::HalfClose);
    let sent = bench.sent();
    let error = ErrorReply::parse(&sent[0].payload).unwrap();
    assert_eq!((sent[0].seq, error.known_code(), error.retry_after_ms), (3, Some(ErrorCode::AuthFailed), 9));
}

#[test]
fn errors_that_are_not_fatal_leave_the_connection_open() {
    let bad = [
        (frame(2, FAILS, b""), ErrorCode::NotFound),
        (extended(2, Command::ECHO, &[0x80, 0], b""), ErrorCode::UnsupportedExtension),
        (extended(2, Command::BYE, &[0xFF, 0], b""), ErrorCode::UnsupportedExtension),
        (extended(2, Command::ECHO, &[7, 1, b'x'], b""), ErrorCode::BadRequest),
        (extended(2, Command::ECHO, &[2, 4, 0, 0, 0, 0], b""), ErrorCode::DeadlineExceeded),
    ];
    for (bytes, code) in bad {
        let (told, action) = fate(&[bytes, frame(3, Command::PING, b"")].concat());
        assert_eq!(told, [(Said::Error(code), 2), (Said::Frame(Command::PONG), 3)]);
        assert_eq!(action, Action::None);
    }
}

#[test]
fn an_unknown_extension_below_0x80_is_skipped_and_an_unsolicited_pong_ignored() {
    let bytes = [extended(2, Command::ECHO, &[0x7F, 1, 0], b""), frame(2, Command::PONG, b"")].concat();
    assert_eq!(fate(&bytes), (vec![(Said::Frame(Command::ECHO), 2)], Action::None));
}

#[test]
fn a_fatal_error_is_the_last_word_behind_what_is_in_flight() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(2, Command::ECHO, b""), frame(9, Command::ECHO, b"")].concat());
    assert!(bench.told().is_empty());
    assert_eq!(bench.answer(2), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Frame(LATER), 2), (Said::Error(ErrorCode::BadSequence), 2)]);
}

#[test]
fn a_fatal_error_waits_no_longer_than_the_linger_time() {
    let mut bench = Bench::ready();
    bench.receive(&[frame(2, LATER, b""), frame(2, Command::ECHO, b"")].concat());
    assert_eq!(bench.wait(1_999), Action::None);
    assert_eq!(bench.wait(1), Action::HalfClose);
    assert_eq!(bench.told(), [(Said::Error(ErrorCode::BadSequence), 2)]);
    bench.answer(2);
    assert_eq!(bench.close().undelivered.get(), 1);
}

#[test]
fn overloaded_is_told_to_whom_there_is_no_room_for() {
    let mut bench = Bench::new();
    assert_eq!(bench.act(|conn, cx| conn.turn_away(cx, 250)), Action::HalfClose);
    let sent = bench.sent();
    let error = ErrorReply::parse(&sent[0].payload).unwrap();
    assert_eq!((sent[0].seq, error.known_code(), error.retry_after_ms), (0, Some(ErrorCode::Overloaded), 250));
}
