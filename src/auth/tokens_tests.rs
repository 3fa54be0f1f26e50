//! What the tokens file promises.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::auth::Authenticator;
use crate::config::{AuthMode, Config};

fn authenticator(content: impl AsRef<[u8]>) -> Result<Authenticator, AuthConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    std::fs::write(&path, content).unwrap();
    Authenticator::new(&Config { auth: AuthMode::Tokens(path), ..Config::default() })
}

fn whose(auth: &Authenticator, token: &[u8]) -> Option<Arc<str>> {
    auth.authenticate(token, || panic!("no token of a file expires")).ok().map(|identity| identity.principal)
}

fn wrong_line(content: impl AsRef<[u8]>) -> (usize, &'static str) {
    match authenticator(content).unwrap_err() {
        AuthConfigError::Line { line, expected, .. } => (line, expected),
        other => panic!("{other}"),
    }
}

#[test]
fn a_generated_token_gets_its_principal_in_and_no_other_token_does() {
    let (token, line) = generate_token("sensor-7").unwrap();
    let (stranger, _) = generate_token("sensor-7").unwrap();
    let auth = authenticator(&line).unwrap();
    assert_eq!(whose(&auth, token.as_bytes()).as_deref(), Some("sensor-7"));
    for wrong in [stranger.as_bytes(), b"", &token.as_bytes()[..66], &digest(token.as_bytes()), line.as_bytes()] {
        assert_eq!(whose(&auth, wrong), None);
    }
}

#[test]
fn generated_tokens_are_256_random_bits_behind_a_prefix_and_the_line_does_not_hold_them() {
    let (token, line) = generate_token("me").unwrap();
    assert_eq!((token.len(), token.starts_with(TOKEN_PREFIX)), (67, true));
    assert!(!line.contains(&token[3..]) && line.starts_with("me sha256:") && line.len() == 74);
    assert_ne!(token, generate_token("me").unwrap().0);
}

#[test]
fn a_name_that_could_not_stand_in_the_file_gets_no_token() {
    for name in ["", "a b", "#a", "a\n", &"x".repeat(129)] {
        assert!(matches!(generate_token(name), Err(TokenError::Principal)), "{name:?}");
    }
}

#[test]
fn a_principal_with_several_tokens_is_one_shared_name() {
    let tokens: Vec<_> = (0..3).map(|_| generate_token("dévice").unwrap()).collect();
    let other = generate_token("other").unwrap();
    let lines: Vec<&str> = tokens.iter().chain([&other]).map(|(_, line)| line.as_str()).collect();
    let auth = authenticator(format!("\u{feff}# ours\r\n\n  {}  # spare\r\n", lines.join("\n"))).unwrap();
    let found: Vec<_> = tokens.iter().map(|(token, _)| whose(&auth, token.as_bytes()).unwrap()).collect();
    assert!(found.iter().all(|p| &**p == "dévice" && Arc::ptr_eq(p, &found[0])));
    assert_eq!(whose(&auth, other.0.as_bytes()).as_deref(), Some("other"));
}

#[test]
fn every_token_is_found_among_thousands_that_share_buckets() {
    let text = |n: u32| format!("token {n}");
    let lines: Vec<String> = (0..3000).map(|n| format!("p{n} sha256:{}", hex(&digest(text(n).as_bytes())))).collect();
    let auth = authenticator(lines.join("\n")).unwrap();
    for n in 0..3000 {
        assert_eq!(whose(&auth, text(n).as_bytes()).as_deref(), Some(&*format!("p{n}")));
        assert_eq!(whose(&auth, text(n + 3000).as_bytes()), None);
    }
}

#[test]
fn a_token_whose_bucket_holds_another_digest_is_refused() {
    let mut near = digest(b"right");
    near[31] ^= 1;
    let auth = authenticator(format!("a sha256:{}\nb sha256:{}", hex(&near), hex(&digest(b"right")))).unwrap();
    assert_eq!(whose(&auth, b"right").as_deref(), Some("b"));
    let auth = authenticator(format!("a sha256:{}", hex(&near))).unwrap();
    assert_eq!(whose(&auth, b"right"), None);
}

#[test]
fn a_wrong_line_is_named_by_number_and_never_quoted() {
    let (_, good) = generate_token("me").unwrap();
    let hex64 = "a".repeat(64);
    let long = "x".repeat(129);
    for bad in [
        "secretly".to_owned(),
        "me secretly".to_owned(),
        format!("me sha256:{}", &hex64[1..]),
        format!("me sha256:{hex64}a"),
        format!("me sha256:{}g", &hex64[1..]),
        format!("me sha512:{hex64}"),
        format!("me sha256:{hex64} secretly"),
        format!("{long} sha256:{hex64}"),
        format!("a\u{202e}b sha256:{hex64}"),
    ] {
        assert_eq!(wrong_line(format!("# first\n\n{good}\n{bad}\n")), (4, LINE), "{bad}");
    }
    let error = authenticator("me secretly").unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("/tokens, line 1: expected a principal") && !shown.contains("secretly"), "{shown}");
}

#[test]
fn upper_case_digests_are_digests() {
    let line = format!("me sha256:{}", hex(&digest(b"right")).to_uppercase());
    assert_eq!(whose(&authenticator(line).unwrap(), b"right").as_deref(), Some("me"));
}

#[test]
fn an_empty_token_never_gets_in() {
    let line = format!("me sha256:{}", hex(&digest(b"")));
    assert!(wrong_line(line).1.contains("empty"));
}

#[test]
fn one_token_cannot_belong_to_two_principals() {
    let line = |name| format!("{name} sha256:{}\n", hex(&digest(b"right")));
    assert_eq!(wrong_line(line("a") + &line("b")).0, 2);
    assert!(authenticator(line("a") + &line("a")).is_ok());
}

#[test]
fn a_file_that_is_not_there_or_not_text_says_so() {
    let missing = Config { auth: AuthMode::Tokens("/nonexistent/tokens".into()), ..Config::default() };
    let error = Authenticator::new(&missing).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nonexistent/tokens: "), "{error}");
    assert!(error.ends_with("; see TIDEGATE_TOKENS_FILE"), "{error}");
    assert_eq!(wrong_line(b"# ok\n\xff\n"), (2, "UTF-8"));
}

#[test]
fn debug_shows_no_digest_and_no_token() {
    let (token, line) = generate_token("me").unwrap();
    let shown = format!("{:?}", authenticator(&line).unwrap());
    assert_eq!(shown, "Authenticator(1 tokens)");
    assert!(!shown.contains(&token) && !shown.contains(&line));
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_an_error_and_let_no_stranger_in(bytes: Vec<u8>) {
        if let Ok(table) = TokenTable::parse(&bytes) {
            prop_assert!(table.find(&bytes).is_none());
        }
    }
}
