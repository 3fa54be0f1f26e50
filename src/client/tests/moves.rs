//! Connections that end, move and come back.

use super::*;

#[test]
fn a_server_that_falls_silent_is_asked_and_then_left() {
    let server = Server::start();
    let options = server.options();
    let client = spawn(move || Client::connect(options));
    let mut silent = server.accept();
    silent.ready(&AuthReady { heartbeat_ms: 30, ..Peer::READY });
    let client = wait(&client).unwrap();
    silent.request(Command::PING);
    let mut peer = server.accept_ready();
    silent.expect_eof();
    let reply = call(&client, Command::ECHO, b"x");
    let request = peer.request(Command::ECHO);
    peer.reply(&request, b"x");
    assert_eq!(wait(&reply), Ok(b"x".to_vec()));
    assert_eq!(client.stats().reconnects, 1);
}

#[test]
fn half_a_frame_is_no_sign_of_life() {
    let server = Server::start();
    let options = server.options();
    let client = spawn(move || Client::connect(options));
    let mut peer = server.accept();
    peer.ready(&AuthReady { heartbeat_ms: 30, ..Peer::READY });
    let _client = wait(&client).unwrap();
    peer.write(|out| out.extend_from_slice(&[0x4D, 1, 0, 9, 0]));
    server.accept_ready();
}

#[test]
fn a_notice_moves_the_client_to_the_listed_address_and_what_was_sent_is_awaited_on_the_old_connection() {
    let (server, next) = (Server::start(), Server::start());
    let (client, mut old) = server.connect();
    let first = call(&client, APP, b"first");
    let asked_before = old.request(APP);
    old.notice(&[next.address()]);
    let mut new = next.accept();
    // Not READY yet: the old connection still serves.
    let meanwhile = call(&client, APP, b"meanwhile");
    let asked_meanwhile = old.request(APP);
    old.reply(&asked_meanwhile, b"served");
    assert_eq!(wait(&meanwhile), Ok(b"served".to_vec()));
    let auth = new.ready(&AuthReady { resumed: true, ..Peer::READY });
    assert_eq!(auth.resume, Some(Peer::READY.session));
    old.expect(Command::GOAWAY);
    let second = call(&client, APP, b"second");
    let asked_after = new.request(APP);
    new.reply(&asked_after, b"second");
    assert_eq!(wait(&second), Ok(b"second".to_vec()));
    old.last_goaway(GoAwayReason::Replaced, old.last_seq);
    old.reply(&asked_before, b"first");
    old.half_close();
    assert_eq!(wait(&first), Ok(b"first".to_vec()));
    old.expect_eof();
    assert!(client.resumed());
    let stats = client.stats();
    assert_eq!((stats.sent, stats.answered, stats.reconnects), (3, 3, 1));
    assert_eq!((stats.resent, stats.repeated, stats.unknown), (0, 0, 0));
}

#[test]
fn replaced_before_ready_is_seen_as_part_of_the_move_and_nothing_is_lost() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    old.notice(&[]);
    let mut new = server.accept();
    let auth = new.request(Command::AUTH);
    old.last_goaway(GoAwayReason::Replaced, old.last_seq);
    old.half_close();
    old.expect_eof();
    let reply = call(&client, APP, b"between");
    new.write(|out| Peer::READY.encode(out, auth.seq));
    let request = new.request(APP);
    new.reply(&request, b"ok");
    assert_eq!(wait(&reply), Ok(b"ok".to_vec()));
    assert_eq!(client.stats().reconnects, 1);
}

#[test]
fn while_a_restarting_server_refuses_connections_the_old_connection_serves() {
    let server = Server::start();
    let address = server.address();
    let (client, mut old) = server.connect();
    drop(server);
    old.notice(&[]);
    for text in [&b"1"[..], b"2", b"3"] {
        let reply = call(&client, APP, text);
        let request = old.request(APP);
        old.reply(&request, text);
        assert_eq!(wait(&reply), Ok(text.to_vec()));
    }
    let waiting = call(&client, APP, b"late");
    let late = old.request(APP);
    old.last_goaway(GoAwayReason::Drain, late.seq - 1);
    old.half_close();
    old.expect_eof();
    let server = Server::start_at(address);
    let mut new = server.accept_ready();
    let request = new.request(APP);
    new.reply(&request, b"done");
    assert_eq!(wait(&waiting), Ok(b"done".to_vec()));
}

#[test]
fn after_a_final_goaway_what_is_beyond_last_seq_is_sent_again_and_the_rest_is_awaited() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    let below = call(&client, APP, b"below");
    let accepted = old.request(APP);
    let beyond = call(&client, APP, b"beyond");
    old.request(APP);
    old.last_goaway(GoAwayReason::Drain, accepted.seq);
    let mut new = server.accept_ready();
    let again = new.request(APP);
    assert_eq!(again.payload, b"beyond");
    new.reply(&again, b"new");
    assert_eq!(wait(&beyond), Ok(b"new".to_vec()));
    old.reply(&accepted, b"old");
    old.half_close();
    assert_eq!(wait(&below), Ok(b"old".to_vec()));
    let stats = client.stats();
    assert_eq!((stats.sent, stats.resent, stats.unprocessed, stats.answered), (2, 1, 1, 2));
    assert_eq!(stats.in_flight(), 0);
}

#[test]
fn a_lost_connection_repeats_what_is_idempotent_and_reports_the_rest_as_unknown() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    let echo = call(&client, Command::ECHO, b"again");
    old.request(Command::ECHO);
    let submit = call(&client, Command::SUBMIT, b"\x01tbody");
    old.request(Command::SUBMIT);
    let marked = client.clone();
    let options = CallOptions { idempotent: Some(true), ..CallOptions::default() };
    let marked = spawn(move || marked.call_with(APP, b"marked", &options));
    old.request(APP);
    drop(old);
    assert!(matches!(wait(&submit), Err(ClientError::UnknownOutcome { .. })));
    let mut new = server.accept_ready();
    for (cmd, payload) in [(Command::ECHO, &b"again"[..]), (APP, b"marked")] {
        let request = new.request(cmd);
        assert_eq!(request.payload, payload);
        new.reply(&request, payload);
    }
    assert_eq!(wait(&echo), Ok(b"again".to_vec()));
    assert!(wait(&marked).is_ok());
    let stats = client.stats();
    assert_eq!((stats.sent, stats.repeated, stats.resent, stats.unknown, stats.answered), (3, 2, 0, 3, 2));
}

#[test]
fn a_message_whose_answer_was_lost_is_submitted_again_with_its_key() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    let submitted = spawn(move || client.submit("t", b"body"));
    let first = old.request(Command::SUBMIT);
    drop(old);
    let mut new = server.accept_ready();
    let second = new.request(Command::SUBMIT);
    assert!(first.idempotency.is_some() && first.idempotency == second.idempotency);
    assert_eq!(first.payload, second.payload);
    new.reply(&second, &submitted_payload(3, true));
    assert_eq!(wait(&submitted), Ok(Submitted { id: 3, duplicate: true }));
}

#[test]
fn connection_refused_is_retried_until_the_server_is_up_again() {
    let server = Server::start();
    let address = server.address();
    let (client, mut old) = server.connect();
    drop(server);
    old.half_close();
    old.expect_eof();
    let reply = call(&client, Command::ECHO, b"patient");
    let short = CallOptions { deadline: Some(Duration::from_millis(50)), ..CallOptions::default() };
    match client.call_with(APP, [], &short) {
        Err(ClientError::Deadline { sent: false, trouble: Some(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    let server = Server::start_at(address);
    let mut peer = server.accept_ready();
    let request = peer.request(Command::ECHO);
    peer.reply(&request, b"patient");
    assert_eq!(wait(&reply), Ok(b"patient".to_vec()));
}

#[test]
fn auth_failed_at_a_reconnect_fails_waiting_and_later_calls_at_once() {
    let server = Server::start();
    let (client, old) = server.connect();
    drop(old);
    let mut peer = server.accept();
    let auth = peer.request(Command::AUTH);
    let waiting = call(&client, APP, b"");
    peer.error(auth.seq, ErrorCode::AuthFailed, 0);
    assert!(matches!(wait(&waiting), Err(ClientError::AuthFailed { .. })));
    assert!(matches!(client.echo(b""), Err(ClientError::AuthFailed { .. })));
}

#[test]
fn draining_is_retried_on_another_connection_and_overloaded_on_the_same() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    let reply = call(&client, APP, b"x");
    let request = old.request(APP);
    old.error(request.seq, ErrorCode::Overloaded, 1);
    let request = old.request(APP);
    old.error(request.seq, ErrorCode::Draining, 0);
    let mut new = server.accept_ready();
    let request = new.request(APP);
    new.reply(&request, b"x");
    assert_eq!(wait(&reply), Ok(b"x".to_vec()));
    old.expect(Command::GOAWAY);
    let stats = client.stats();
    assert_eq!((stats.sent, stats.resent, stats.errors, stats.answered), (1, 2, 2, 1));
}

#[test]
fn overloaded_for_longer_than_the_deadline_is_returned_at_once() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let reply = call(&client, APP, b"x");
    let request = peer.request(APP);
    peer.error(request.seq, ErrorCode::Overloaded, u32::MAX);
    let error = wait(&reply).unwrap_err();
    assert_eq!(error.server().and_then(|e| e.known_code()), Some(ErrorCode::Overloaded));
}

#[test]
fn garbage_ends_the_connection_and_the_next_one_serves() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let unknown = call(&client, APP, b"x");
    peer.request(APP);
    peer.write(|out| out.extend_from_slice(b"garbage"));
    match wait(&unknown) {
        Err(ClientError::UnknownOutcome { why }) => assert!(why.contains("WrongMagic"), "{why}"),
        other => panic!("{other:?}"),
    }
    peer.expect_eof();
    let mut peer = server.accept_ready();
    let reply = call(&client, APP, b"y");
    let request = peer.request(APP);
    peer.reply(&request, b"y");
    assert_eq!(wait(&reply), Ok(b"y".to_vec()));
}
