//! PROTOCOL §2 to §7, over real sockets.

use std::time::{Duration, Instant};

use tidegate::config::Config;
use tidegate::proto::{
    AuthReady, Command, ErrorCode, GoAwayReason, GoAwayStage, MAX_BODY, Version, extension_type as ty,
};

use crate::support::{Client, Got, Latch, config, extension, frame, frame_v2, start, sum, until};

const SLOW: Command = Command(0x20);

#[test]
fn ready_tells_session_heartbeat_payload_and_ttl() {
    let config = Config { max_payload: 4_096, session_ttl: Duration::from_secs(77), ..config() };
    let (_server, address) = start(config, |b| b);
    let mut client = Client::connect(address);
    client.send(&frame(0xFFFF_FFFE, Command::AUTH, b"any token"));
    let ready = client.expect_ready(0xFFFF_FFFE);
    let AuthReady { session, resumed, heartbeat_ms, max_payload, session_ttl_s } = ready;
    assert_ne!(session, [0; 16]);
    assert_eq!((resumed, heartbeat_ms, max_payload, session_ttl_s), (false, 30_000, 4_096, 77));
}

#[test]
fn a_client_gets_the_heartbeat_that_it_wishes_within_bounds() {
    let (_server, address) = start(config(), |b| b);
    for (wish, granted) in [(5_000u32, 5_000), (1, 1_000), (u32::MAX, 3_600_000), (0, 30_000)] {
        let mut client = Client::connect(address);
        let seq = client.request_v2(Command::AUTH, &extension(ty::HEARTBEAT, &wish.to_be_bytes()), b"");
        assert_eq!(client.expect_ready(seq).heartbeat_ms, granted, "wished for {wish}");
    }
}

#[test]
fn anything_but_auth_first_is_auth_required_then_the_end() {
    let (_server, address) = start(config(), |b| b);
    for (cmd, seq_told) in [(Command::ECHO, 5), (Command::PING, 5), (Command::BYE, 5), (Command::GOAWAY, 0)] {
        let mut client = Client::connect(address);
        client.send(&frame(5, cmd, b""));
        client.expect_end(seq_told, ErrorCode::AuthRequired);
    }
}

#[test]
fn requests_pipelined_behind_auth_are_answered_after_ready() {
    let (_server, address) = start(config(), |b| b);
    let mut client = Client::connect(address);
    let bytes = [frame(1, Command::AUTH, b""), frame(2, Command::ECHO, b"a"), frame(9, Command::PING, b"b")].concat();
    client.send(&bytes);
    client.expect_ready(1);
    assert_eq!(client.expect_reply(2, Command::ECHO), b"a");
    assert_eq!(client.expect_reply(9, Command::PONG), b"b");
}

#[test]
fn frames_are_served_however_the_stream_is_cut() {
    let (_server, address) = start(config(), |b| b);
    let large = vec![7; MAX_BODY];
    let requests = [
        frame(1, Command::AUTH, b""),
        frame(2, Command::ECHO, b""),
        frame_v2(3, Command::ECHO, &extension(0x7F, b"skipped"), b"extended"),
        frame(4, Command::ECHO, b"four"),
    ]
    .concat();
    for piece in [1, 2, 8, 9, 10, requests.len()] {
        let mut client = Client::connect(address);
        requests.chunks(piece).for_each(|piece| client.send(piece));
        client.expect_ready(1);
        assert_eq!(client.expect_reply(2, Command::ECHO), b"", "cut every {piece} bytes");
        assert_eq!(client.expect_reply(3, Command::ECHO), b"extended");
        assert_eq!(client.expect_reply(4, Command::ECHO), b"four");
        // Coalesced, and more than one read of the server's holds.
        let many: Vec<u8> = (10..16).flat_map(|seq| frame(seq, Command::ECHO, &large)).collect();
        client.send(&many);
        for seq in 10..16 {
            assert_eq!(client.expect_reply(seq, Command::ECHO), large);
        }
    }
}

#[test]
fn a_version_1_request_never_gets_a_version_2_reply() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    let seq = client.request(Command::ECHO, b"plain");
    let Got::Frame(reply) = client.next() else { panic!("no reply") };
    assert_eq!((reply.seq, reply.version, reply.payload.as_slice()), (seq, Version::Plain, &b"plain"[..]));
}

#[test]
fn what_is_wrong_with_extensions_is_told_as_the_protocol_has_it() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    for (block, code) in [
        (extension(0x80, b""), ErrorCode::UnsupportedExtension),
        (extension(0xFF, b"x"), ErrorCode::UnsupportedExtension),
        (extension(ty::PRINCIPAL, b"root"), ErrorCode::BadRequest),
        (extension(ty::SESSION, &[1; 16]), ErrorCode::BadRequest),
        (extension(ty::DEADLINE, &[0; 4]), ErrorCode::DeadlineExceeded),
    ] {
        for cmd in [Command::ECHO, Command::PING] {
            let seq = client.request_v2(cmd, &block, b"");
            assert_eq!(client.expect_error(seq), (code, 0, cmd.0), "{block:?}");
        }
    }
    client.assert_alive();
    for overrun in [vec![3, 0x7F, 9, 0], vec![200], vec![], vec![2, ty::DEADLINE, 0]] {
        let (mut client, _) = Client::ready(address);
        let mut bytes = frame(2, Command::ECHO, &overrun);
        bytes[1] = 2;
        client.send(&bytes);
        client.expect_end(2, ErrorCode::Malformed);
    }
}

#[test]
fn auth_with_a_gateways_or_a_critical_extension_is_refused() {
    let (_server, address) = start(config(), |b| b);
    for (kind, code) in [(0x90, ErrorCode::UnsupportedExtension), (ty::PRINCIPAL, ErrorCode::BadRequest)] {
        let mut client = Client::connect(address);
        let seq = client.request_v2(Command::AUTH, &extension(kind, b"x"), b"");
        client.expect_end(seq, code);
    }
}

#[test]
fn a_seq_that_does_not_increase_ends_the_connection_after_what_came_before() {
    let (_server, address) = start(config(), |b| b);
    for (first, second) in [(5, 5), (5, 4), (0, u32::MAX), (7, 7 + (1 << 31))] {
        let mut client = Client::connect(address);
        let wrong = frame(second, Command::PING, b"");
        client.send(
            &[frame(first, Command::AUTH, b""), wrong, frame(first.wrapping_add(1), Command::ECHO, b"")].concat(),
        );
        client.expect_ready(first);
        client.expect_end(second, ErrorCode::BadSequence);
    }
}

#[test]
fn seq_wraps_around_and_pong_and_goaway_are_outside_of_it() {
    let (_server, address) = start(config(), |b| b);
    let mut client = Client::connect(address);
    client.send(&frame(u32::MAX, Command::AUTH, b""));
    client.expect_ready(u32::MAX);
    client.send(&[frame(0, Command::ECHO, b""), frame(0, Command::PONG, b""), frame(1, Command::ECHO, b"")].concat());
    client.expect_reply(0, Command::ECHO);
    client.expect_reply(1, Command::ECHO);
    client.send(&frame(0, Command::GOAWAY, b""));
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Asked).last_seq, 1);
    client.expect_eof();
}

#[test]
fn what_is_not_a_clients_to_send_is_malformed_and_the_end() {
    let (_server, address) = start(config(), |b| b);
    let requests = [(Command::AUTH, &b""[..]), (Command::PING, &[0; 126]), (Command::BYE, b"?")];
    let others = [
        (Command::READY, &b""[..]),
        (Command::ERROR, b""),
        (Command(0), b""),
        (Command(0x0E), b""),
        (Command::GOAWAY, b"?"),
    ];
    for ((cmd, payload), seq_told) in requests.map(|r| (r, 2)).into_iter().chain(others.map(|o| (o, 0))) {
        let (mut client, _) = Client::ready(address);
        client.send(&frame(2, cmd, payload));
        client.expect_end(seq_told, ErrorCode::Malformed);
    }
}

#[test]
fn a_ping_of_125_bytes_is_answered_and_an_unsolicited_pong_ignored() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    client.send(&frame(99, Command::PONG, &[1; 4_000]));
    let seq = client.request(Command::PING, &[9; 125]);
    assert_eq!(client.expect_reply(seq, Command::PONG), [9; 125]);
}

#[test]
fn a_command_that_nothing_serves_is_unknown_and_the_connection_lives() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    for cmd in [0x15, 0x16, 0x17, 0x1B, 0x1F, 0x20, 0xFF] {
        let seq = client.request(Command(cmd), b"");
        assert_eq!(client.expect_error(seq), (ErrorCode::UnknownCommand, 0, cmd));
    }
    client.assert_alive();
}

#[test]
fn a_body_over_the_max_payload_is_too_large_before_it_has_come() {
    let (_server, address) = start(Config { max_payload: 1_000, ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    assert_eq!(client.call(Command::ECHO, &[1; 1_000]), [1; 1_000]);
    client.send(&frame(3, Command::ECHO, &[1; 1_001])[..9]);
    client.expect_end(3, ErrorCode::TooLarge);
}

#[test]
fn another_version_is_told_so_and_the_connection_ends() {
    let (_server, address) = start(config(), |b| b);
    for version in [0, 3, 255] {
        let (mut client, _) = Client::ready(address);
        let mut bytes = frame(2, Command::ECHO, b"");
        bytes[1] = version;
        client.send(&bytes);
        client.expect_end(2, ErrorCode::UnsupportedVersion);
    }
}

#[test]
fn a_wrong_magic_is_answered_by_a_reset_and_no_frame() {
    let (server, address) = start(config(), |b| b);
    for at_first in [&b"G"[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = Client::connect(address);
        client.send(at_first);
        client.expect_reset();
    }
    let (mut client, _) = Client::ready(address);
    client.assert_alive();
    client.send(b"m");
    client.expect_reset();
    until("the resets are counted", || sum(&server, |s| &s.connections_reset) == 4);
    server.drain();
    let ended = server.wait();
    assert!(ended.ledger.balanced() && ended.ledger.clean(), "{}", ended.ledger);
}

#[test]
fn who_does_not_authenticate_in_time_is_told_and_closed() {
    let (_server, address) = start(Config { auth_timeout: Duration::from_millis(50), ..config() }, |b| b);
    let mut silent = Client::connect(address);
    let mut halfway = Client::connect(address);
    halfway.send(&frame(1, Command::AUTH, b"token")[..10]);
    silent.expect_end(0, ErrorCode::AuthTimeout);
    halfway.expect_end(0, ErrorCode::AuthTimeout);
}

#[test]
fn a_frame_not_completed_in_time_is_malformed_whatever_drips_in() {
    let (_server, address) = start(Config { frame_timeout: Duration::from_millis(200), ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    let bytes = frame(2, Command::ECHO, &[1; 60_000]);
    client.stream.set_nonblocking(true).unwrap();
    // A byte at a time, never silent for long; with every byte a new grace there would be no end.
    let begun = Instant::now();
    for byte in &bytes {
        client.send(&[*byte]);
        let mut byte = [0];
        match client.stream.peek(&mut byte) {
            Ok(_) => break,
            Err(_) if begun.elapsed() < crate::support::PATIENCE => std::thread::park_timeout(Duration::from_millis(5)),
            Err(_) => panic!("nobody put an end to it"),
        }
    }
    client.stream.set_nonblocking(false).unwrap();
    client.expect_end(0, ErrorCode::Malformed);
}

#[test]
fn the_frame_clock_starts_anew_with_each_frame() {
    let (_server, address) = start(Config { frame_timeout: Duration::from_millis(300), ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    let begun = Instant::now();
    let mut seq = client.seq;
    let mut half = frame(seq + 1, Command::ECHO, b"12")[..5].to_vec();
    client.send(&half);
    // Always within a frame, each completed soon: three times the time-out in all.
    while begun.elapsed() < Duration::from_millis(900) {
        seq += 1;
        let (this, next) = (frame(seq, Command::ECHO, b"12"), frame(seq + 1, Command::ECHO, b"12"));
        client.send(&[&this[half.len()..], &next[..5]].concat());
        half = next[..5].to_vec();
        assert_eq!(client.expect_reply(seq, Command::ECHO), b"12");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_silent_client_is_pinged_then_idle() {
    let config = Config { heartbeat: Duration::from_millis(30), heartbeat_misses: 2, ..config() };
    let (server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    let ping = client.frame();
    assert_eq!((ping.cmd, ping.seq), (Command::PING, 0));
    client.expect_end(0, ErrorCode::Idle);
    assert_eq!(sum(&server, |s| &s.pings_out), 1, "one PING, then silence");
}

#[test]
fn every_answered_ping_is_followed_by_the_next_after_one_interval() {
    // A PING that came only when a silent connection would be IDLE would be 25 s late: too late here.
    let config = Config { heartbeat: Duration::from_millis(100), heartbeat_misses: 255, ..config() };
    let (_server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    for _ in 0..4 {
        let ping = client.frame();
        assert_eq!(ping.cmd, Command::PING);
        client.send(&frame(ping.seq, Command::PONG, &ping.payload));
    }
    client.assert_alive();
}

#[test]
fn any_frame_counts_as_life() {
    let config = Config { heartbeat: Duration::from_millis(400), heartbeat_misses: 1, ..config() };
    let (server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    let begun = Instant::now();
    // Twice the time after which a silent one is gone.
    while begun.elapsed() < Duration::from_millis(1_600) {
        client.send(&frame(0, Command::PONG, b""));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    client.send(&frame(2, Command::ECHO, b""));
    loop {
        match client.frame() {
            reply if reply.cmd == Command::PING => {} // this machine was busy for 400 ms
            reply => break assert_eq!(reply.cmd, Command::ECHO),
        }
    }
    assert!(sum(&server, |s| &s.pings_out) <= 1);
}

#[test]
fn requests_in_flight_are_answered_after_the_clients_eof() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, address) = start(config(), |b| {
        b.route_blocking(SLOW.0, move |request, responder| {
            held.pass();
            responder.reply(request.payload());
        })
    });
    let (mut client, _) = Client::ready(address);
    let seqs: Vec<u32> = (0..3).map(|i| client.request(SLOW, &[i])).collect();
    client.half_close();
    latch.wait_for(3);
    latch.open();
    let (mut replies, end) = client.rest();
    replies.sort_by_key(|reply| reply.seq);
    assert_eq!(
        replies.iter().map(|r| (r.seq, r.payload[0])).collect::<Vec<_>>(),
        [(seqs[0], 0), (seqs[1], 1), (seqs[2], 2)]
    );
    assert_eq!(end, Got::Eof);
    until("the connection is gone", || sum(&server, |s| &s.connections_open) == 0);
    assert_eq!(sum(&server, |s| &s.undelivered), 0);
}

#[test]
fn an_eof_within_a_frame_is_an_end_like_any_other() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    client.request(Command::ECHO, b"whole");
    client.send(&frame(3, Command::ECHO, b"torn")[..11]);
    client.half_close();
    assert_eq!(client.expect_reply(2, Command::ECHO), b"whole");
    client.expect_eof();
}

#[test]
fn a_clients_goaway_is_answered_by_the_last_seq_then_what_is_in_flight_then_the_end() {
    let latch = Latch::new();
    let held = latch.clone();
    let (_server, address) = start(config(), |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    let (mut client, ready) = Client::ready(address);
    let slow = client.request(SLOW, b"");
    latch.wait_for(1);
    client.send(&frame(0, Command::GOAWAY, b""));
    client.send(&frame(slow + 1, SLOW, b"beyond last seq"));
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Asked).last_seq, slow);
    latch.open();
    assert_eq!(client.expect_reply(slow, SLOW), b"late");
    client.expect_eof();
    assert_eq!(latch.arrived(), 1, "nothing beyond last seq is processed");
    let mut again = Client::connect(address);
    assert!(again.resume(b"", ready.session).resumed, "GOAWAY keeps the session");
}

#[test]
fn bye_is_answered_last_and_the_session_is_gone() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, address) = start(config(), |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    let (mut client, ready) = Client::ready(address);
    let slow = client.request(SLOW, b"");
    let bye = client.request(Command::BYE, b"");
    client.request(Command::ECHO, b"too late");
    latch.wait_for(1);
    latch.open();
    assert_eq!(client.expect_reply(slow, SLOW), b"late");
    assert_eq!(client.expect_reply(bye, Command::BYE), b"");
    client.expect_eof();
    until("the session is gone", || sum(&server, |s| &s.sessions) == 0);
    let mut again = Client::connect(address);
    let fresh = again.resume(b"", ready.session);
    assert!(!fresh.resumed && fresh.session != ready.session);
}

#[test]
fn the_server_reads_to_eof_after_its_half_close_so_that_nothing_is_reset() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    client.request(Command::ECHO, b"before");
    client.send(&frame(1, Command::ECHO, b"BAD_SEQUENCE"));
    // Input that nobody will serve; unread it would make the close a reset.
    for _ in 0..8 {
        client.send(&[0x4D; 32 * 1024]);
    }
    assert_eq!(client.expect_reply(2, Command::ECHO), b"before");
    client.expect_end(1, ErrorCode::BadSequence);
}

#[test]
fn a_half_closed_connection_is_closed_after_the_linger_time_though_no_eof_comes() {
    let (server, address) = start(Config { linger: Duration::from_millis(50), ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    client.request(Command::BYE, b"");
    client.expect_reply(2, Command::BYE);
    client.expect_eof();
    until("the server has closed it", || sum(&server, |s| &s.connections_open) == 0);
}
