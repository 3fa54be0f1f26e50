//! Tokens that are asked for, because they expire.

use std::sync::Mutex;

use super::*;
use crate::client::testing::Got;

/// A place to get tokens from, and to put them.
fn source(first: &str) -> (Token, Arc<Mutex<Result<String, String>>>) {
    let place = Arc::new(Mutex::new(Ok(first.to_owned())));
    let shown = Arc::clone(&place);
    (Token::from_fn(move || shown.lock().unwrap().clone().map(String::into_bytes)), place)
}

fn options(server: &Server, token: Token) -> ClientOptions {
    ClientOptions { token: Some(token), ..server.options() }
}

/// Takes AUTH and refuses its token.
fn refuse(peer: &mut Peer) -> Got {
    let auth = peer.request(Command::AUTH);
    peer.error(auth.seq, ErrorCode::AuthFailed, 0);
    auth
}

#[test]
fn the_token_is_asked_for_anew_before_each_connection() {
    let server = Server::start();
    let (token, place) = source("first");
    let client = spawn({
        let options = options(&server, token);
        move || Client::connect(options)
    });
    let mut old = server.accept();
    assert_eq!(old.ready(&Peer::READY).payload, b"first");
    let client = wait(&client).unwrap();
    *place.lock().unwrap() = Ok("second".to_owned());
    old.notice(&[]);
    let mut new = server.accept();
    assert_eq!(new.ready(&Peer::READY).payload, b"second");
    drop(client);
}

#[test]
fn a_token_that_has_become_bad_is_not_shown_again_and_the_next_one_is() {
    let server = Server::start();
    let (token, place) = source("first");
    let (client, mut old) = server.connect_with(options(&server, token));
    old.notice(&[]);
    assert_eq!(refuse(&mut server.accept()).payload, b"first");
    let reply = call(&client, Command::ECHO, b"on the old connection");
    let request = old.request(Command::ECHO);
    old.reply(&request, &request.payload);
    assert_eq!(wait(&reply).unwrap(), b"on the old connection");
    *place.lock().unwrap() = Ok("second".to_owned());
    assert_eq!(server.accept().ready(&Peer::READY).payload, b"second", "nobody came with the first again");
}

#[test]
fn a_first_token_that_is_refused_is_final_wherever_it_is_from() {
    let server = Server::start();
    let (token, _) = source("first");
    let options = options(&server, token);
    let client = spawn(move || Client::connect(options));
    refuse(&mut server.accept());
    assert!(matches!(wait(&client), Err(ClientError::AuthFailed { .. })));
}

#[test]
fn where_there_is_no_token_nothing_is_connected_and_the_error_says_why() {
    let server = Server::start();
    let (token, place) = source("");
    *place.lock().unwrap() = Err("the cupboard is bare".to_owned());
    let hasty = ClientOptions { connect_timeout: Duration::from_millis(50), ..options(&server, token) };
    let error = Client::connect(hasty).unwrap_err();
    assert!(error.to_string().contains("the cupboard is bare"), "{error}");
    let long = Token::from_fn(|| Ok(vec![0; 70_000]));
    let hasty = ClientOptions { connect_timeout: Duration::from_millis(50), ..options(&server, long) };
    let error = Client::connect(hasty).unwrap_err();
    assert!(error.to_string().contains("does not fit a frame"), "{error}");
    // The first connection that comes is of a client that has a token to show.
    let (mut peer, other) = {
        let options = options(&server, Token::new("good"));
        let client = spawn(move || Client::connect(options));
        (server.accept(), client)
    };
    assert_eq!(peer.ready(&Peer::READY).payload, b"good");
    drop(wait(&other));
}
