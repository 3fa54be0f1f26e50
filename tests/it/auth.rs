//! Who gets in, and that no secret gets out.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use tidegate::auth::generate_token;
use tidegate::config::{AuthMode, Config};
use tidegate::proto::ErrorCode;
use tidegate::server::{Server, StartError};

use crate::support::{Client, Process, config, start, sum};
use tidegate::proto::Command;

#[test]
fn none_listens_on_loopback_only_unless_told_that_this_is_insecure() {
    let everywhere = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
    let open = Config { listen: everywhere, ..config() };
    let refused = Server::builder().config(open.clone()).start().unwrap_err();
    assert!(matches!(&refused, StartError::Config(text) if text.contains("TIDEGATE_INSECURE")), "{refused}");
    let (_server, address) = start(Config { insecure: true, ..open }, |b| b);
    Client::ready(address).0.assert_alive();
}

#[test]
fn each_token_of_the_file_is_its_principals_and_no_other_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (first, first_line) = generate_token("alice").unwrap();
    let (second, second_line) = generate_token("alice").unwrap();
    let (bob, bobs_line) = generate_token("bob").unwrap();
    fs::write(&file, format!("# who gets in\n\n{first_line}\n{second_line} # her phone\n{bobs_line}\n")).unwrap();
    let config = Config { auth: AuthMode::Tokens(file), ..config() };
    let (server, address) =
        start(config, |b| b.route(0x20, |request, responder| responder.reply(request.principal().as_bytes())));
    for (token, principal) in [(&first, "alice"), (&second, "alice"), (&bob, "bob")] {
        let mut client = Client::connect(address);
        client.auth(token.as_bytes());
        assert_eq!(client.call(Command(0x20), b""), principal.as_bytes());
    }
    let digest = bobs_line.split(':').nth(1).unwrap();
    for wrong in ["", "tg_", &bob[..bob.len() - 1], &format!("{bob} "), digest, "bob"] {
        let mut client = Client::connect(address);
        let seq = client.request(Command::AUTH, wrong.as_bytes());
        client.request(Command(0x20), b"behind a wrong token");
        client.expect_end(seq, ErrorCode::AuthFailed);
    }
    assert_eq!((sum(&server, |s| &s.auth_failures), sum(&server, |s| &s.sessions)), (6, 3));
}

#[test]
fn a_tokens_file_that_is_missing_or_wrong_is_a_wrong_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let refused = || {
        let config = Config { auth: AuthMode::Tokens(file.clone()), ..config() };
        match Server::builder().config(config).start().unwrap_err() {
            StartError::Config(text) => text,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused().contains("TIDEGATE_TOKENS_FILE"));
    let (token, line) = generate_token("alice").unwrap();
    fs::write(&file, format!("{line}\nalice {token}\n")).unwrap();
    let text = refused();
    assert!(text.contains("line 2") && !text.contains(&token), "{text}");
}

#[test]
fn a_token_from_the_command_line_gets_in_and_is_told_to_nobody() {
    let made = Process::command().args(["token", "sensor-7"]).output().unwrap();
    assert!(made.status.success());
    let out = String::from_utf8(made.stdout).unwrap();
    let [token, line] = out.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {out}") };
    assert!(!String::from_utf8_lossy(&made.stderr).contains(token));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    fs::write(&file, format!("{line}\n")).unwrap();
    let data = dir.path().join("data");
    let settings = [
        ("AUTH", "tokens"),
        ("TOKENS_FILE", file.to_str().unwrap()),
        ("LOG", "trace"),
        ("DATA_DIR", data.to_str().unwrap()),
        ("DRAIN_NOTICE_MS", "20"),
    ];
    let process = Process::serve(&settings);
    let mut client = Client::connect(process.address);
    let session = client.auth(token.as_bytes()).session;
    client.assert_alive();
    let wrong = format!("{token}0");
    let mut other = Client::connect(process.address);
    let seq = other.request(Command::AUTH, wrong.as_bytes());
    other.expect_end(seq, ErrorCode::AuthFailed);
    let metrics = crate::support::get(process.admin, "/metrics").1;
    process.signal(rustix::process::Signal::TERM);
    client.rest();
    drop(client);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let audit = fs::read_to_string(data.join("audit.jsonl")).unwrap();
    let session: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(metrics.contains("tidegate"), "{metrics}");
    for told in [&exit.stdout, &exit.stderr, &audit, &metrics] {
        assert!(!told.contains(&token[3..]) && !told.contains(&session), "{told}");
    }
}

#[test]
fn no_debug_form_shows_a_token_or_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (token, line) = generate_token("alice").unwrap();
    fs::write(&file, &line).unwrap();
    let config = Config { auth: AuthMode::Tokens(file), ..config() };
    let authenticator = tidegate::auth::Authenticator::new(&config).unwrap();
    let builder = Server::builder().config(config.clone());
    let shown = format!("{authenticator:?} {builder:?} {config:?} {:?}", builder_started(config.clone()));
    assert!(!shown.contains(&token) && !shown.contains(line.split(':').nth(1).unwrap()), "{shown}");
}

fn builder_started(config: Config) -> Server {
    start(config, |b| b).0
}
