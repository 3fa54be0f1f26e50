//! Where keys come from: files, directories, and what is wrong with them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tidegate::auth::{AuthConfigError, Authenticator, Refused};
use tidegate::config::{AuthMode, Config, JwtAlgorithm, JwtKeys, JwtSettings};
use tidegate::proto::{Command, ErrorCode};
use tidegate::server::{Server, StartError};

use super::mint::{Key, NOW, RSA, claims, pem};
use super::{ALL, authenticator_of, identity, present};
use crate::support::{Client, Process, audit, config, until};

fn directory(dir: &Path) -> Config {
    let settings = JwtSettings::new(JwtKeys::Directory(dir.to_owned()), ALL.to_vec());
    Config { auth: AuthMode::Jwt(settings), ..config() }
}

fn read(dir: &Path) -> Result<Authenticator, AuthConfigError> {
    Authenticator::new(&directory(dir))
}

#[test]
fn a_directory_has_a_key_for_each_kid_whatever_their_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Key::new(JwtAlgorithm::Es256), Key::new(JwtAlgorithm::Hs256));
    fs::write(dir.path().join("2026-11.pem"), first.file()).unwrap();
    fs::write(dir.path().join("2026-12.key"), second.file()).unwrap();
    let auth = read(dir.path()).unwrap();
    let good = identity("me", NOW + 3660);
    assert_eq!(present(&auth, &first.token_by("2026-11", &claims("me"))), good);
    assert_eq!(present(&auth, &second.token_by("2026-12", &claims("me"))), good);
    assert_eq!(present(&auth, &first.token_by("2026-12", &claims("me"))), Err(Refused::Algorithm), "another's kid");
    for kid in ["2026-10", "2026-11.pem", "", "../2026-11", "/2026-11"] {
        assert_eq!(present(&auth, &first.token_by(kid, &claims("me"))), Err(Refused::UnknownKey), "{kid}");
    }
    assert_eq!(present(&auth, &first.token(&claims("me"))), Err(Refused::UnknownKey), "no key is tried");
    assert_eq!(format!("{auth:?}"), "Authenticator(2 keys)");
}

#[test]
fn where_there_is_one_key_a_token_need_not_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new(JwtAlgorithm::EdDsa);
    fs::write(dir.path().join("only.pem"), key.file()).unwrap();
    let auth = read(dir.path()).unwrap();
    assert_eq!(present(&auth, &key.token(&claims("me"))), identity("me", NOW + 3660));
    assert_eq!(present(&auth, &key.token_by("only", &claims("me"))), identity("me", NOW + 3660));
    assert_eq!(present(&auth, &key.token_by("other", &claims("me"))), Err(Refused::UnknownKey));
    let by_file = authenticator_of(&key.file(), &ALL).unwrap();
    assert_eq!(present(&by_file, &key.token_by("any", &claims("me"))), identity("me", NOW + 3660), "it has no name");
}

#[test]
fn keys_are_rotated_by_building_anew_and_a_bad_file_leaves_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Key::new(JwtAlgorithm::Es256), Key::new(JwtAlgorithm::Es256));
    fs::write(dir.path().join("old.pem"), old.file()).unwrap();
    let before = read(dir.path()).unwrap();
    fs::write(dir.path().join("new.pem"), new.file()).unwrap();
    let both = read(dir.path()).unwrap();
    fs::remove_file(dir.path().join("old.pem")).unwrap();
    let after = read(dir.path()).unwrap();
    let tokens = [old.token_by("old", &claims("me")), new.token_by("new", &claims("me"))];
    let gets_in = |auth: &Authenticator| tokens.each_ref().map(|token| present(auth, token).is_ok());
    assert_eq!([gets_in(&before), gets_in(&both), gets_in(&after)], [[true, false], [true, true], [false, true]]);
    fs::write(dir.path().join("bad.pem"), "half a file").unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("bad.pem: expected") && !error.contains("half a file"), "{error}");
}

#[test]
fn a_directory_as_kubernetes_and_agents_fill_it_holds_each_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new(JwtAlgorithm::Es256);
    let data = dir.path().join("..2026_11_22_17_18_00.1234");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("only.pem"), key.file()).unwrap();
    symlink(&data, dir.path().join("..data")).unwrap();
    symlink("..data/only.pem", dir.path().join("only.pem")).unwrap();
    fs::write(dir.path().join(".only.pem.swp"), "an editor's").unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let auth = read(dir.path()).unwrap();
    assert_eq!(format!("{auth:?}"), "Authenticator(1 keys)");
    assert_eq!(present(&auth, &key.token_by("only", &claims("me"))), identity("me", NOW + 3660));
}

#[test]
fn a_directory_that_is_wrong_as_a_whole_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let told = || read(dir.path()).unwrap_err().to_string();
    assert!(told().contains("holds no key; see TIDEGATE_JWT_KEYS_DIR"), "{}", told());
    symlink("nowhere", dir.path().join("gone.pem")).unwrap();
    assert!(told().contains("gone.pem"), "{}", told());
    fs::remove_file(dir.path().join("gone.pem")).unwrap();
    fs::write(dir.path().join("a.pem"), Key::new(JwtAlgorithm::Es256).file()).unwrap();
    fs::write(dir.path().join("a.key"), Key::new(JwtAlgorithm::Hs256).file()).unwrap();
    assert!(told().contains("one file for each kid"), "{}", told());
    for n in 0..256 {
        fs::write(dir.path().join(format!("{n}.key")), [7; 32]).unwrap();
    }
    assert!(told().contains("more keys than the 256"), "{}", told());
    let missing = read(&dir.path().join("missing")).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("TIDEGATE_JWT_KEYS_DIR"), "{missing}");
}

#[test]
fn a_key_file_that_can_not_be_used_says_why_and_shows_nothing_of_itself() {
    let secret = "correct horse battery staple, says she";
    let no_point = pem("PUBLIC KEY", &{
        let mut der = Key::new(JwtAlgorithm::Es256).public_der();
        *der.last_mut().unwrap() ^= 1;
        der
    });
    for (bytes, algorithms, expected) in [
        (RSA.private_file(), &ALL[..], "this one is private"),
        (Key::on_another_curve().file(), &ALL, "a P-256 key"),
        (no_point.into_bytes(), &ALL, "a P-256 key"),
        (RSA.public_der(), &ALL, "a public key in another form"),
        (RSA.file(), &[JwtAlgorithm::Es256, JwtAlgorithm::Hs256], "ALGORITHM=ES256,HS256; this one is an RSA key"),
        (secret.into(), &[JwtAlgorithm::Rs256], "ALGORITHM=RS256; this one is a secret, for HS256"),
        (secret[..31].into(), &ALL, "at least 32 bytes"),
        (vec![7; 16 * 1024 + 1], &ALL, "larger than 16384 bytes; see TIDEGATE_JWT_KEY_FILE"),
    ] {
        let error = authenticator_of(&bytes, algorithms).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!shown.contains("horse") && !shown.contains("MII"), "{shown}");
    }
}

#[test]
fn a_key_that_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = Authenticator::new(&super::config_of(&pipe, &ALL)).unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
}

#[test]
fn a_wrong_key_keeps_a_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Server::builder().config(directory(dir.path())).start().unwrap_err();
    assert!(matches!(&refused, StartError::Config(text) if text.contains("holds no key")), "{refused}");
}

#[test]
fn keys_are_rotated_in_a_running_server_and_who_is_connected_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, data) = (dir.path().join("keys"), dir.path().join("data"));
    fs::create_dir(&keys).unwrap();
    let (old, new) = (Key::new(JwtAlgorithm::Es256), Key::new(JwtAlgorithm::EdDsa));
    let add = |name: &str, content: &[u8]| {
        // As an agent does it: whole, and at once.
        let hidden = keys.join(format!(".{name}"));
        fs::write(&hidden, content).unwrap();
        fs::rename(hidden, keys.join(name)).unwrap();
    };
    add("old.pem", &old.file());
    let process = Process::serve(&[
        ("AUTH", "jwt"),
        ("JWT_KEYS_DIR", keys.to_str().unwrap()),
        ("JWT_ALGORITHM", "ES256,EdDSA"),
        ("WATCH_MS", "10"),
        ("DATA_DIR", data.to_str().unwrap()),
    ]);
    let refused = || audit(&data).iter().any(|line| line["event_type"] == "reload_refused");
    let claims = json!({"sub": "me", "exp": now() + 3600});
    let gets_in = |token: &str| {
        let mut client = Client::connect(process.address);
        client.request(Command::AUTH, token.as_bytes());
        client.frame().cmd == Command::READY
    };
    let tokens = [old.token_by("old", &claims), new.token_by("new", &claims)];
    let mut early = Client::connect(process.address);
    early.auth(tokens[0].as_bytes());
    add("new.pem", &new.file());
    until("the new key is known", || gets_in(&tokens[1]));
    assert!(gets_in(&tokens[0]), "the old one still is");
    add("bad.pem", b"half a file");
    until("the bad key is named", refused);
    assert!(gets_in(&tokens[0]) && gets_in(&tokens[1]), "a bad file changes nothing");
    fs::remove_file(keys.join("bad.pem")).unwrap();
    fs::remove_file(keys.join("old.pem")).unwrap();
    until("the old key is forgotten", || !gets_in(&tokens[0]));
    early.assert_alive();
    process.signal(rustix::process::Signal::TERM);
    early.rest();
    drop(early);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn no_log_line_says_anything_about_a_key_or_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let key = Key::secret(*b"a-secret-that-nobody-may-ever-see");
    fs::write(&file, key.file()).unwrap();
    let settings = [
        ("AUTH", "jwt"),
        ("JWT_KEY_FILE", file.to_str().unwrap()),
        ("JWT_ALGORITHM", "HS256"),
        ("LOG", "trace"),
        ("DRAIN_NOTICE_MS", "20"),
    ];
    let process = Process::serve(&settings);
    let now = now();
    let good = key.token(&json!({"sub": "sensor-7", "exp": now + 3600}));
    let late = key.token(&json!({"sub": "sensor-8", "exp": now - 3600}));
    let foreign = key.token(&json!({"sub": "sensor-9", "exp": now + 3600, "aud": "elsewhere"}));
    Client::connect(process.address).auth(good.as_bytes());
    for wrong in [&late, &foreign, "no token at all"] {
        let mut client = Client::connect(process.address);
        let seq = client.request(Command::AUTH, wrong.as_bytes());
        client.expect_end(seq, ErrorCode::AuthFailed);
    }
    process.signal(rustix::process::Signal::TERM);
    let told = process.wait().stderr;
    for why in ["it has expired", "its audience is not this server", "it is no JSON Web Token"] {
        assert!(told.contains(&format!("AUTH refused because {why}")), "{told}");
    }
    for secret in ["nobody-may", "elsewhere", "no token at all"].into_iter().chain([&good, &late].map(|t| &t[40..80])) {
        assert!(!told.contains(secret), "{told}");
    }
}
