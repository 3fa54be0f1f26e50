//! JSON Web Tokens: who gets in with which, and for how long.

mod expiry;
mod keys;
mod mint;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate::auth::{AuthConfigError, Authenticator, Identity, Refused};
use tidegate::config::{AuthMode, Config, JwtAlgorithm, JwtKeys, JwtSettings};

use mint::{Key, NOW, RSA, claims, url_safe};

const ALL: [JwtAlgorithm; 4] = JwtAlgorithm::ALL;

/// A configuration with this one key.
fn config_of(key_file: &Path, algorithms: &[JwtAlgorithm]) -> Config {
    let settings = JwtSettings::new(JwtKeys::File(key_file.to_owned()), algorithms.to_vec());
    Config { auth: AuthMode::Jwt(settings), ..crate::support::config() }
}

fn authenticator_of(bytes: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Authenticator, AuthConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, bytes).unwrap();
    Authenticator::new(&config_of(&file, algorithms))
}

fn authenticator(key: &Key) -> Authenticator {
    authenticator_of(&key.file(), &ALL).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn present(auth: &Authenticator, token: &str) -> Result<Identity, Refused> {
    auth.authenticate(token.as_bytes(), || at(NOW))
}

fn identity(principal: &str, expires: u64) -> Result<Identity, Refused> {
    Ok(Identity { principal: principal.into(), expires: Some(expires) })
}

#[test]
fn a_token_of_each_algorithm_gets_its_subject_in_until_it_expires() {
    for algorithm in ALL {
        let fresh;
        let key = if algorithm == JwtAlgorithm::Rs256 {
            &*RSA
        } else {
            fresh = Key::new(algorithm);
            &fresh
        };
        let auth = authenticator_of(&key.file(), &[algorithm]).unwrap();
        assert_eq!(present(&auth, &key.token(&claims("dévice-7"))), identity("dévice-7", NOW + 3660), "{algorithm:?}");
        let stranger = Key::new(algorithm);
        assert_eq!(present(&auth, &stranger.token(&claims("device-7"))), Err(Refused::Signature), "{algorithm:?}");
    }
}

#[test]
fn a_token_that_was_changed_in_any_part_is_refused() {
    let key = Key::new(JwtAlgorithm::EdDsa);
    let auth = authenticator(&key);
    let token = key.token(&claims("device-7"));
    let parts: Vec<&str> = token.split('.').collect();
    let other = key.token(&claims("device-8"));
    let others: Vec<&str> = other.split('.').collect();
    assert_eq!(present(&auth, &[parts[0], others[1], parts[2]].join(".")), Err(Refused::Signature));
    assert_eq!(present(&auth, &[parts[0], parts[1], others[2]].join(".")), Err(Refused::Signature));
    for wrong in [
        "",
        ".",
        "..",
        "...",
        parts[0],
        &parts[..2].join("."),
        &format!("{}.", parts[..2].join(".")),
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token} "),
        &format!("{token}="),
        &token[1..],
    ] {
        assert!(present(&auth, wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused_however_it_asks_for_it() {
    for key in [&Key::new(JwtAlgorithm::Hs256), &Key::new(JwtAlgorithm::Es256)] {
        let auth = authenticator(key);
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let signed = key.sign(&json!({"alg": alg}), &claims("device-7"));
            let unsigned = signed.rsplit_once('.').unwrap().0;
            for token in [signed.clone(), format!("{unsigned}."), unsigned.to_owned()] {
                assert_eq!(present(&auth, &token), Err(Refused::Malformed), "{alg:?}");
            }
        }
        let absent = key.sign(&json!({"typ": "JWT"}), &claims("device-7"));
        assert_eq!(present(&auth, &absent), Err(Refused::Malformed));
    }
}

#[test]
fn a_public_key_is_never_a_secret_whatever_the_token_says() {
    // Whoever knows the public key signs with it as if it were a secret, in every form that it has.
    for key in [&*RSA, &Key::new(JwtAlgorithm::Es256), &Key::new(JwtAlgorithm::EdDsa)] {
        let auth = authenticator(key);
        let file = key.file();
        let text = String::from_utf8(file.clone()).unwrap();
        for secret in [file, text.trim().as_bytes().to_vec(), key.public_der()] {
            let token = Key::secret(secret).token(&claims("device-7"));
            assert_eq!(present(&auth, &token), Err(Refused::Algorithm), "{}", key.alg());
        }
    }
}

#[test]
fn a_key_is_used_with_its_own_algorithm_and_no_other() {
    let keys = [&Key::new(JwtAlgorithm::Hs256), &*RSA, &Key::new(JwtAlgorithm::Es256), &Key::new(JwtAlgorithm::EdDsa)];
    for key in keys {
        let auth = authenticator(key);
        for alg in ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] {
            let token = key.sign(&json!({"alg": alg}), &claims("device-7"));
            let expected = if alg == key.alg() { identity("device-7", NOW + 3660) } else { Err(Refused::Algorithm) };
            assert_eq!(present(&auth, &token), expected, "{} as {alg}", key.alg());
        }
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let (key, stranger) = (Key::new(JwtAlgorithm::Hs256), Key::secret([1; 32]));
    let auth = authenticator(&key);
    let jwk = json!({"kty": "oct", "k": url_safe(&[1; 32])});
    for header in [
        json!({"alg": "HS256", "jwk": jwk}),
        json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/keys"}),
    ] {
        assert_eq!(present(&auth, &stranger.sign(&header, &claims("device-7"))), Err(Refused::Signature));
    }
    let critical = key.sign(&json!({"alg": "HS256", "crit": ["exp"], "exp": 0}), &claims("device-7"));
    assert_eq!(present(&auth, &critical), Err(Refused::Critical));
}

#[test]
fn a_token_is_good_from_nbf_to_exp_give_or_take_the_leeway() {
    let key = Key::new(JwtAlgorithm::Hs256);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, key.file()).unwrap();
    let config = Config { jwt_leeway: Duration::from_secs(5), ..config_of(&file, &ALL) };
    let auth = Authenticator::new(&config).unwrap();
    let token = key.token(&json!({"sub": "me", "nbf": NOW, "exp": NOW + 10}));
    let at = |now: u64| auth.authenticate(token.as_bytes(), || at(now));
    assert_eq!((at(NOW - 6), at(NOW - 5)), (Err(Refused::NotYetValid), identity("me", NOW + 15)));
    assert_eq!((at(NOW + 14), at(NOW + 15)), (identity("me", NOW + 15), Err(Refused::Expired)));
    assert_eq!(at(0), Err(Refused::NotYetValid));
}

#[test]
fn claims_that_must_be_there_and_are_not_or_are_no_such_claims_are_refused() {
    let key = Key::new(JwtAlgorithm::Hs256);
    let auth = authenticator(&key);
    let exp = NOW + 3600;
    for (wrong, why) in [
        (json!({"exp": exp}), Refused::Claims),
        (json!({"sub": "me"}), Refused::Claims),
        (json!({"sub": 7, "exp": exp}), Refused::Malformed),
        (json!({"sub": null, "exp": exp}), Refused::Claims),
        (json!({"sub": "me", "exp": null}), Refused::Claims),
        (json!({"sub": "me", "exp": exp.to_string()}), Refused::Malformed),
        (json!({"sub": "me", "exp": -1}), Refused::Malformed),
        (json!({"sub": "me", "exp": 0}), Refused::Expired),
        (json!({"sub": "me", "exp": exp, "nbf": "soon"}), Refused::Malformed),
        (json!({"sub": "me", "exp": exp, "nbf": 1e300}), Refused::NotYetValid),
        (json!({"sub": "", "exp": exp}), Refused::Subject),
        (json!({"sub": "a b", "exp": exp}), Refused::Subject),
        (json!({"sub": "a\u{202e}b", "exp": exp}), Refused::Subject),
        (json!({"sub": "x".repeat(129), "exp": exp}), Refused::Subject),
        (json!([]), Refused::Malformed),
        (json!("me"), Refused::Malformed),
    ] {
        assert_eq!(present(&auth, &key.token(&wrong)), Err(why), "{wrong}");
    }
    let fraction = json!({"sub": "me", "exp": NOW as f64 + 0.5});
    assert_eq!(present(&auth, &key.token(&fraction)), identity("me", NOW + 60));
    let end_of_time = json!({"sub": "me", "exp": u64::MAX});
    assert_eq!(present(&auth, &key.token(&end_of_time)), identity("me", u64::MAX));
    let twice = format!(r#"{{"sub":"me","sub":"you","exp":{exp}}}"#);
    assert_eq!(present(&auth, &key.sign_text(r#"{"alg":"HS256"}"#, &twice)), Err(Refused::Malformed));
    let twice = key.sign_text(r#"{"alg":"HS256","alg":"HS256"}"#, &claims("me").to_string());
    assert_eq!(present(&auth, &twice), Err(Refused::Malformed));
}

#[test]
fn audience_and_issuer_are_those_that_are_configured() {
    let key = Key::new(JwtAlgorithm::Hs256);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, key.file()).unwrap();
    let with = |audience: Option<&str>, issuer: Option<&str>| {
        let (audience, issuer) = (audience.map(str::to_owned), issuer.map(str::to_owned));
        let keys = JwtKeys::File(file.clone());
        let settings = JwtSettings { keys, algorithms: ALL.to_vec(), audience, issuer };
        Authenticator::new(&Config { auth: AuthMode::Jwt(settings), ..Config::default() }).unwrap()
    };
    let token = |more: Value| {
        let mut all = claims("me");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key.token(&all)
    };
    let (open, strict) = (with(None, None), with(Some("gate"), Some("us")));
    let good = identity("me", NOW + 3660);
    for (more, by_open, by_strict) in [
        (json!({}), good.clone(), Err(Refused::Claims)),
        (json!({"iss": "us"}), good.clone(), Err(Refused::Claims)),
        (json!({"aud": "gate", "iss": "us"}), Err(Refused::Audience), good.clone()),
        (json!({"aud": ["x", "gate"], "iss": "us"}), Err(Refused::Audience), good.clone()),
        (json!({"aud": ["x", "y"], "iss": "us"}), Err(Refused::Audience), Err(Refused::Audience)),
        (json!({"aud": "Gate", "iss": "us"}), Err(Refused::Audience), Err(Refused::Audience)),
        (json!({"aud": "gate", "iss": "them"}), Err(Refused::Audience), Err(Refused::Issuer)),
        (json!({"aud": "gate"}), Err(Refused::Audience), Err(Refused::Claims)),
        (json!({"aud": 7, "iss": 7}), good.clone(), Err(Refused::Claims)),
    ] {
        let token = token(more.clone());
        assert_eq!(present(&open, &token), by_open, "{more}");
        assert_eq!(present(&strict, &token), by_strict, "{more}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_and_never_panic(token in proptest::collection::vec(any::<u8>(), 0..300)) {
        let auth = authenticator(&Key::secret([7; 32]));
        prop_assert!(auth.authenticate(&token, || at(NOW)).is_err());
    }

    #[test]
    fn what_comes_near_to_a_token_is_refused_and_never_panics(
        header in "(\\{\"alg\":\"(HS256|RS256|none)\"[^\"]{0,8}|\\PC{0,20})",
        claims in "(\\{\"(sub|exp)\":[^.]{0,20}|\\PC{0,20})",
        signature in proptest::collection::vec(any::<u8>(), 0..70),
        cut in 0..200usize,
    ) {
        let auth = authenticator(&Key::secret([7; 32]));
        let mut token = [header.as_bytes(), claims.as_bytes(), &signature].map(url_safe).join(".");
        token.truncate(cut.max(1));
        prop_assert!(present(&auth, &token).is_err());
    }

    #[test]
    fn claims_of_any_shape_that_are_signed_are_judged_and_never_panic(
        sub in any::<String>(), exp in any::<f64>(), nbf in any::<i64>(), aud in any::<Option<String>>(),
    ) {
        let key = Key::secret([7; 32]);
        let auth = authenticator(&key);
        let token = key.token(&json!({"sub": sub, "exp": exp, "nbf": nbf, "aud": aud}));
        if let Ok(identity) = present(&auth, &token) {
            prop_assert!(tidegate::config::is_name(&sub) && *identity.principal == sub);
            prop_assert!(identity.expires.is_some_and(|expires| expires > NOW));
        }
    }
}
