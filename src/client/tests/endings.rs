//! Deadlines, connecting, and the end of a client.

use super::*;

#[test]
fn a_server_that_is_not_there_is_an_io_error_when_the_connect_timeout_is_over() {
    let server = Server::start();
    let options = ClientOptions { connect_timeout: Duration::from_millis(500), ..server.options() };
    drop(server);
    match Client::connect(options) {
        Err(ClientError::Io { kind, .. }) => assert_eq!(kind, std::io::ErrorKind::ConnectionRefused),
        other => panic!("{other:?}"),
    }
}

#[test]
fn auth_failed_is_final_and_overloaded_or_draining_at_auth_is_retried() {
    let server = Server::start();
    let options = server.options();
    let client = spawn(move || Client::connect(options));
    for code in [ErrorCode::Overloaded, ErrorCode::Draining] {
        let mut peer = server.accept();
        let auth = peer.request(Command::AUTH);
        let seq = if code == ErrorCode::Draining { 0 } else { auth.seq };
        peer.error(seq, code, 1);
    }
    let mut peer = server.accept();
    let auth = peer.request(Command::AUTH);
    peer.error(auth.seq, ErrorCode::AuthFailed, 0);
    assert!(matches!(wait(&client), Err(ClientError::AuthFailed { .. })));
}

#[test]
fn a_call_is_over_at_its_deadline_whatever_the_server_does() {
    type Misdeed = fn(&mut Peer);
    let misdeeds: [Misdeed; 6] = [
        |_| {},
        |peer| peer.write(|out| out.extend_from_slice(&[0x4D, 1, 0, 9, 0])),
        |peer| peer.write(|out| out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        |peer| peer.send(9999, Command::ECHO, b"for nobody"),
        |peer| peer.send(0, Command::GOAWAY, b"short"),
        Peer::half_close,
    ];
    let run = |misdeed: Misdeed| {
        let server = Server::start();
        let (client, mut peer) = server.connect();
        let options = CallOptions { deadline: Some(Duration::from_millis(500)), ..CallOptions::default() };
        let result = spawn(move || (client.call_with(Command::ECHO, b"x", &options), client));
        peer.request(Command::ECHO);
        misdeed(&mut peer);
        // The connections that follow are accepted by the system and never answered.
        let (result, client) = wait(&result);
        drop(client);
        result
    };
    for result in misdeeds.map(|misdeed| spawn(move || run(misdeed))) {
        let result = wait(&result);
        assert!(matches!(result, Err(ClientError::Deadline { sent: true, .. })), "{result:?}");
    }
}

#[test]
fn a_server_that_reads_nothing_keeps_no_caller_past_its_deadline() {
    let server = Server::start();
    let (client, peer) = server.connect();
    let options = CallOptions { deadline: Some(Duration::from_millis(60)), ..CallOptions::default() };
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (client, options) = (client.clone(), options.clone());
            spawn(move || client.call_with(Command::ECHO, vec![0; 65_000], &options))
        })
        .collect();
    for result in callers {
        assert!(matches!(wait(&result), Err(ClientError::Deadline { .. })));
    }
    drop(client);
    drop(peer);
}

#[test]
fn close_finishes_calls_under_way_and_awaits_the_half_close() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let under_way = call(&client, APP, b"x");
    let request = peer.request(APP);
    let closing = client.clone();
    let closed = spawn(move || closing.close());
    peer.expect(Command::GOAWAY);
    assert_eq!(client.echo(b"late"), Err(ClientError::Closed));
    peer.reply(&request, b"x");
    assert_eq!(wait(&under_way), Ok(b"x".to_vec()));
    peer.last_goaway(GoAwayReason::Asked, request.seq);
    assert!(closed.try_recv().is_err(), "the server has not half-closed");
    peer.half_close();
    assert_eq!(wait(&closed), Ok(()));
    peer.expect_eof();
    assert_eq!(client.close(), Err(ClientError::Closed));
}

#[test]
fn a_request_that_a_closing_client_lost_to_a_drain_is_still_answered() {
    let server = Server::start();
    let (client, mut old) = server.connect();
    let reply = call(&client, APP, b"x");
    let request = old.request(APP);
    let closed = spawn(move || client.close());
    old.expect(Command::GOAWAY);
    old.last_goaway(GoAwayReason::Drain, request.seq - 1);
    old.half_close();
    let mut new = server.accept_ready();
    let request = new.request(APP);
    new.reply(&request, b"x");
    assert_eq!(wait(&reply), Ok(b"x".to_vec()));
    new.part();
    assert_eq!(wait(&closed), Ok(()));
}

#[test]
fn bye_waits_for_its_reply() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let ended = spawn(move || client.bye());
    let request = peer.request(Command::BYE);
    assert!(request.payload.is_empty());
    assert!(ended.try_recv().is_err());
    peer.reply(&request, b"");
    peer.half_close();
    assert_eq!(wait(&ended), Ok(()));
    peer.expect_eof();
}

#[test]
fn bye_without_an_answer_is_an_error_at_the_deadline() {
    let server = Server::start();
    let (client, mut peer) =
        server.connect_with(ClientOptions { deadline: Duration::from_millis(500), ..server.options() });
    let ended = spawn(move || client.bye());
    peer.request(Command::BYE);
    assert!(matches!(wait(&ended), Err(ClientError::Deadline { .. })));
    peer.expect_eof();
}

#[test]
fn dropping_the_last_clone_ends_the_thread_and_the_connection() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let shared = Arc::downgrade(&client.0.shared);
    let clone = client.clone();
    drop(client);
    let reply = call(&clone, Command::ECHO, b"x");
    let request = peer.request(Command::ECHO);
    peer.reply(&request, b"x");
    assert_eq!(wait(&reply), Ok(b"x".to_vec()));
    let dropped = spawn(move || drop(clone));
    wait(&dropped);
    assert_eq!(shared.strong_count(), 0, "the thread holds what it shares as long as it lives");
    peer.expect_eof();
}

#[test]
fn a_client_that_is_dropped_while_it_reconnects_does_not_hang() {
    let server = Server::start();
    let (client, old) = server.connect();
    drop(old);
    let mut half_way = server.accept();
    half_way.request(Command::AUTH);
    wait(&spawn(move || drop(client)));
    half_way.expect_eof();
}
