//! Requests and their answers on one connection.

use super::*;

#[test]
fn a_call_gets_its_reply_and_fallback() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let reply = call(&client, Command::ECHO, b"hello");
    let request = peer.request(Command::ECHO);
    assert_eq!((request.version, &request.payload[..]), (Version::Plain, &b"hello"[..]));
    peer.reply(&request, b"hello");
    assert_eq!(wait(&reply), Ok(b"hello".to_vec()));

    let other = client.clone();
    let reply = spawn(move || other.call(APP, b"x").unwrap());
    let request = peer.request(APP);
    peer.send_extended(request.seq, APP, extension_type::FALLBACK, &[1], b"old");
    assert_eq!(wait(&reply).fallback, Some(Fallback::Cached));
    let stats = client.stats();
    assert_eq!((stats.sent, stats.answered, stats.in_flight()), (2, 2, 0));
}

#[test]
fn many_threads_share_one_connection_and_replies_may_come_in_any_order() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let calls: Vec<_> = [&b"a"[..], b"b", b"c", b"d"].map(|text| (text, call(&client, Command::ECHO, text))).into();
    let mut requests: Vec<_> = calls.iter().map(|_| peer.request(Command::ECHO)).collect();
    assert!(requests.windows(2).all(|pair| crate::proto::seq_follows(pair[0].seq, pair[1].seq)));
    requests.reverse();
    for request in &requests {
        peer.reply(request, &request.payload);
    }
    for (text, reply) in calls {
        assert_eq!(wait(&reply), Ok(text.to_vec()));
    }
}

#[test]
fn auth_carries_the_token_the_wished_heartbeat_and_the_session_to_resume() {
    let server = Server::start();
    let options = ClientOptions {
        token: Some(Token::new("secret")),
        heartbeat: Some(Duration::from_millis(1500)),
        session: Some([3; 16]),
        ..server.options()
    };
    let client = spawn(move || Client::connect(options));
    let mut peer = server.accept();
    let auth = peer.ready(&AuthReady { session: [3; 16], resumed: true, ..Peer::READY });
    assert_eq!(auth.payload, b"secret");
    assert_eq!((auth.heartbeat_ms, auth.resume), (Some(1500), Some([3; 16])));
    let client = wait(&client).unwrap();
    assert_eq!((client.session_id(), client.resumed()), ([3; 16], true));
}

#[test]
fn a_deadline_of_the_calls_own_is_told_to_the_server() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let options = CallOptions { deadline: Some(PATIENCE), idempotency: Some([9; 16]), ..CallOptions::default() };
    let reply = spawn(move || client.call_with(APP, b"x", &options));
    let request = peer.request(APP);
    let patience = u32::try_from(PATIENCE.as_millis()).unwrap();
    assert!(request.deadline_ms.is_some_and(|ms| ms > 0 && ms <= patience));
    assert_eq!(
        (request.version, request.idempotency, &request.payload[..]),
        (Version::Extended, Some([9; 16]), &b"x"[..])
    );
    peer.reply(&request, b"");
    assert!(wait(&reply).is_ok());
}

#[test]
fn an_error_reaches_its_caller_and_the_connection_stays() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let reply = call(&client, APP, b"");
    let request = peer.request(APP);
    peer.error(request.seq, ErrorCode::RateLimited, 70);
    let error = wait(&reply).unwrap_err();
    let error = error.server().unwrap();
    assert_eq!((error.known_code(), error.retry_after_ms), (Some(ErrorCode::RateLimited), 70));
    let reply = call(&client, Command::ECHO, b"on");
    let request = peer.request(Command::ECHO);
    peer.reply(&request, b"on");
    assert_eq!(wait(&reply), Ok(b"on".to_vec()));
    assert_eq!((client.stats().errors, client.stats().reconnects), (1, 0));
}

#[test]
fn the_session_commands_have_the_protocols_payloads_and_absence_is_none() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let done = spawn(move || {
        client.session_put(b"k", b"v").unwrap();
        let found = client.session_get(b"k").unwrap();
        client.session_delete(b"k").unwrap();
        (found, client.session_get(b"k").unwrap(), client.session_put(b"", b"v"))
    });
    let put = peer.request(Command::SESSION_PUT);
    assert_eq!(put.payload, [1, b'k', b'v']);
    peer.reply(&put, b"");
    let get = peer.request(Command::SESSION_GET);
    assert_eq!(get.payload, b"k");
    peer.reply(&get, b"v");
    let delete = peer.request(Command::SESSION_DELETE);
    assert_eq!(delete.payload, b"k");
    peer.reply(&delete, b"");
    let get = peer.request(Command::SESSION_GET);
    peer.error(get.seq, ErrorCode::NotFound, 0);
    let (found, gone, refused) = wait(&done);
    assert_eq!((found, gone), (Some(b"v".to_vec()), None));
    assert!(matches!(refused, Err(ClientError::Invalid(_))));
}

#[test]
fn a_message_is_submitted_with_a_key_of_its_own_or_the_callers() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let keyed = CallOptions { idempotency: Some([9; 16]), ..CallOptions::default() };
    let done = spawn(move || {
        let ids = [client.submit("t/1", b"a"), client.submit("t/1", b"b"), client.submit_with("t/1", b"", &keyed)];
        (ids, client.submit("", b"c"), client.submit("a\nb", b"c"), client.submit("t", b"wrong"))
    });
    let mut keys = Vec::new();
    for (id, body) in [(7, &b"a"[..]), (8, b"b"), (9, b"")] {
        let request = peer.request(Command::SUBMIT);
        assert_eq!(request.payload, [b"\x03t/1", body].concat());
        keys.push(request.idempotency.unwrap());
        peer.reply(&request, &submitted_payload(id, id == 9));
    }
    let request = peer.request(Command::SUBMIT);
    peer.reply(&request, b"\0");
    let (ids, empty, control, wrong) = wait(&done);
    let of = |id| Ok(Submitted { id, duplicate: id == 9 });
    assert_eq!(ids, [of(7), of(8), of(9)]);
    assert!(keys[0] != keys[1] && keys[2] == [9; 16], "{keys:?}");
    assert!(matches!((empty, control), (Err(ClientError::Invalid(_)), Err(ClientError::Invalid(_)))));
    assert!(matches!(wrong, Err(ClientError::Protocol { .. })), "{wrong:?}");
}

#[test]
fn what_is_over_the_servers_max_payload_is_refused_here() {
    let server = Server::start();
    let options = server.options();
    let client = spawn(move || Client::connect(options));
    let mut peer = server.accept();
    peer.ready(&AuthReady { max_payload: 600, ..Peer::READY });
    let client = wait(&client).unwrap();
    assert_eq!(client.echo(&[0; 601]), Err(ClientError::TooLarge { size: 601, max: 600 }));
    let options = CallOptions { deadline: Some(PATIENCE), ..CallOptions::default() };
    let refused = client.call_with(Command::ECHO, vec![0; 600], &options);
    assert_eq!(refused, Err(ClientError::TooLarge { size: 607, max: 600 }), "the extensions count");
    assert_eq!(client.call(Command::PING, [0; 126]), Err(ClientError::TooLarge { size: 126, max: 125 }));
    assert!(matches!(client.call(Command::AUTH, []), Err(ClientError::Invalid(_))));
    let reply = spawn(move || client.echo(&[0; 600]));
    let request = peer.request(Command::ECHO);
    peer.reply(&request, b"fits");
    assert_eq!(wait(&reply), Ok(b"fits".to_vec()));
}

#[test]
fn a_heartbeat_is_answered_with_its_seq_and_payload() {
    let server = Server::start();
    let (_client, mut peer) = server.connect();
    peer.send(77, Command::PING, b"beat");
    let pong = peer.expect(Command::PONG);
    assert_eq!((pong.seq, &pong.payload[..]), (77, &b"beat"[..]));
}

#[test]
fn pushes_and_control_commands_of_later_versions_do_no_harm() {
    let server = Server::start();
    let (client, mut peer) = server.connect();
    let reply = call(&client, APP, b"x");
    let request = peer.request(APP);
    peer.send(request.seq, Command::MESSAGE, b"\x01tbody");
    peer.send(0, Command(0x0A), b"from the future");
    peer.send(5555, Command::PONG, b"");
    peer.reply(&request, b"x");
    assert_eq!(wait(&reply), Ok(b"x".to_vec()));
    assert_eq!((client.stats().pushes, client.stats().reconnects), (1, 0));
}

#[test]
fn a_ping_of_the_callers_is_timed_and_names_are_resolved() {
    let server = Server::start();
    let port = server.address().port();
    let options = ClientOptions { addresses: vec![format!("localhost:{port}")], ..server.options() };
    let (client, mut peer) = server.connect_with(options);
    let begun = Instant::now();
    let ping = spawn(move || client.ping());
    let request = peer.request(Command::PING);
    peer.reply(&request, b"");
    assert!(wait(&ping).unwrap() <= begun.elapsed());
}
