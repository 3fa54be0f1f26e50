//! What parsing settings promises.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{AdminAuth, SETTINGS, Secret, Settings};

fn parse(settings: &[(&str, &str)]) -> Result<Config, Vec<SettingError>> {
    let machine = Machine { cpus: vec![0, 1, 2, 3], parallelism: 4 };
    settings.iter().copied().collect::<Settings>().config_on(&machine)
}

fn error(settings: &[(&str, &str)]) -> String {
    let errors = parse(settings).expect_err("refused");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn every_number_is_taken_within_its_bounds_and_refused_beyond() {
    for setting in SETTINGS.iter() {
        let Kind::Number { min, max, .. } = setting.kind else { continue };
        for inside in [min, max] {
            let errors = parse(&[(setting.env, &inside.to_string())]).err().unwrap_or_default();
            // Only how settings go together may still be wrong, never the number itself.
            assert!(errors.iter().all(|e| e.expected != setting.accepted()), "{errors:?}");
        }
        for outside in [min.wrapping_sub(1), max + 1] {
            let errors = parse(&[(setting.env, &outside.to_string())]).unwrap_err();
            assert_eq!((errors[0].variable.as_str(), &errors[0].expected), (setting.env, &setting.accepted()));
        }
    }
}

#[test]
fn every_number_lands_in_a_field_of_its_own() {
    let base = parse(&[]).unwrap();
    let mut seen = Vec::new();
    for setting in SETTINGS.iter().filter(|s| matches!(s.kind, Kind::Number { .. })) {
        // One more, except at a maximum: close enough to the default to break no rule.
        let default: u64 = setting.default.parse().unwrap();
        let changed = [default + 1, default.wrapping_sub(1)]
            .into_iter()
            .find_map(|n| parse(&[(setting.env, &n.to_string())]).ok());
        let changed = changed.unwrap_or_else(|| panic!("{}", setting.env));
        assert!(changed != base && !seen.contains(&changed), "{}", setting.env);
        seen.push(changed);
    }
}

#[test]
fn numbers_are_digits_and_nothing_else() {
    for text in ["", " 5", "5 ", "+5", "-5", "5.0", "5ms", "0x5", "1_000", "٥", "18446744073709551616"] {
        let text = error(&[("TIDEGATE_MAX_IN_FLIGHT", text)]);
        assert!(text.ends_with("expected a number of requests, 1 to 65535"), "{text}");
    }
}

#[test]
fn all_errors_are_reported_at_once_and_name_variable_value_and_form() {
    let errors = parse(&[("TIDEGATE_LISTEN", "nowhere"), ("TIDEGATE_MAX_PAYLOAD", "70000"), ("TIDEGATE_AUTH", "jwts")]);
    let lines: Vec<String> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"TIDEGATE_LISTEN="nowhere": expected a comma list of up to 8 addresses such as 127.0.0.1:7400 or [::1]:7400"#,
            r#"TIDEGATE_AUTH="jwts": expected none, tokens or jwt"#,
            r#"TIDEGATE_MAX_PAYLOAD="70000": expected a number of bytes, 512 to 65535"#,
        ]
    );
}

#[test]
fn listen_takes_a_comma_list_with_ipv6_and_port_0() {
    let config = parse(&[("TIDEGATE_LISTEN", "127.0.0.1:0, [::1]:7400,127.0.0.1:0")]).unwrap();
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "[::1]:7400", "127.0.0.1:0"]);
    for text in ["", "127.0.0.1", "127.0.0.1:7400,", "::1:7400", "localhost:7400", "127.0.0.1:65536"] {
        assert!(parse(&[("TIDEGATE_LISTEN", text)]).is_err(), "{text}");
    }
    assert!(error(&[("TIDEGATE_LISTEN", "[::1]:1,[::1]:1")]).ends_with("but [::1]:1 is listed twice"));
    assert!(error(&[("TIDEGATE_LISTEN", &["[::1]:0"; 9].join(","))]).ends_with("but 9 are listed"));
}

#[test]
fn admin_is_an_address_of_its_own_or_off() {
    assert_eq!(parse(&[("TIDEGATE_ADMIN", "off")]).unwrap().admin, None);
    assert_eq!(parse(&[("TIDEGATE_ADMIN", "[::1]:9")]).unwrap().admin, Some("[::1]:9".parse().unwrap()));
    let clash = error(&[("TIDEGATE_ADMIN", "127.0.0.1:7400")]);
    assert!(clash.contains("to differ from TIDEGATE_LISTEN"), "{clash}");
}

#[test]
fn auto_workers_follow_the_listed_cpus_or_else_the_machine() {
    let auto = parse(&[]).unwrap();
    assert_eq!(auto.workers, 4);
    let listed = parse(&[("TIDEGATE_CPUS", "3,1")]).unwrap();
    assert_eq!((listed.workers, listed.cpus), (2, vec![3, 1]));
    let more = parse(&[("TIDEGATE_CPUS", "3"), ("TIDEGATE_WORKERS", "8")]).unwrap();
    assert_eq!((more.workers, more.cpus), (8, vec![3]));
    let unpinned = parse(&[("TIDEGATE_CPUS", "off")]).unwrap();
    assert_eq!((unpinned.workers, unpinned.cpus), (4, vec![]));
    assert!(parse(&[("TIDEGATE_WORKERS", "1024")]).is_ok());
    for text in ["0", "1025", "", "Auto"] {
        assert!(parse(&[("TIDEGATE_WORKERS", text)]).is_err(), "{text:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn auto_cpus_are_those_that_the_process_may_use() {
    assert_eq!(parse(&[]).unwrap().cpus, [0, 1, 2, 3]);
}

#[test]
fn a_cpu_beyond_the_process_is_refused_with_those_it_may_use() {
    let text = error(&[("TIDEGATE_CPUS", "2-4")]);
    assert!(text.ends_with("but CPU 4 is not among those that this process may use: 0-3"), "{text}");
}

#[test]
fn watermarks_must_rise_from_low_to_high_to_max() {
    let low = error(&[("TIDEGATE_OUTBOUND_LOW", "262144")]);
    let expected =
        "expected TIDEGATE_OUTBOUND_LOW below TIDEGATE_OUTBOUND_HIGH (now TIDEGATE_OUTBOUND_HIGH=\"262144\")";
    assert_eq!(low, format!("TIDEGATE_OUTBOUND_LOW=\"262144\": {expected}"));
    assert!(error(&[("TIDEGATE_OUTBOUND_MAX", "262144")]).contains("TIDEGATE_OUTBOUND_HIGH below"));
    let low = ("TIDEGATE_OUTBOUND_LOW", "1");
    let small = error(&[low, ("TIDEGATE_OUTBOUND_HIGH", "2"), ("TIDEGATE_OUTBOUND_MAX", "65543")]);
    assert!(small.contains("to hold a frame"), "{small}");
    assert!(parse(&[low, ("TIDEGATE_OUTBOUND_HIGH", "2"), ("TIDEGATE_OUTBOUND_MAX", "65544")]).is_ok());
}

#[test]
fn a_drain_that_has_no_time_left_after_its_notice_is_refused() {
    let whole = [("TIDEGATE_DRAIN_TIMEOUT_MS", "3000"), ("TIDEGATE_DRAIN_ANNOUNCE_MS", "2000")];
    assert!(error(&whole).starts_with("TIDEGATE_DRAIN_TIMEOUT_MS=\"3000\": expected TIDEGATE_DRAIN_ANNOUNCE_MS and"));
    let config = parse(&[("TIDEGATE_DRAIN_TIMEOUT_MS", "1001")]).unwrap();
    assert_eq!(config.drain_timeout, Duration::from_millis(1001));
}

#[test]
fn tokens_and_their_file_come_together_or_not_at_all() {
    let config = parse(&[("TIDEGATE_AUTH", "tokens"), ("TIDEGATE_TOKENS_FILE", "/t")]).unwrap();
    assert_eq!(config.auth, AuthMode::Tokens("/t".into()));
    let missing = error(&[("TIDEGATE_AUTH", "tokens")]);
    assert!(missing.starts_with(r#"TIDEGATE_AUTH="tokens": expected TIDEGATE_TOKENS_FILE to be set"#), "{missing}");
    let unused = error(&[("TIDEGATE_TOKENS_FILE", "/t")]);
    assert!(unused.starts_with(r#"TIDEGATE_TOKENS_FILE="/t": expected TIDEGATE_AUTH=tokens"#), "{unused}");
    assert!(parse(&[("TIDEGATE_TOKENS_FILE", "")]).is_ok(), "empty is not set");
}

#[test]
fn the_admin_token_is_in_a_file_or_in_the_environment_and_is_never_shown() {
    let (token, short) = ("0123456789abcdef", "0123456789abcde");
    let by_env = parse(&[("TIDEGATE_ADMIN_TOKEN", token)]).unwrap().admin_auth;
    assert_eq!(by_env, AdminAuth::Token(Secret::new(token)));
    let by_file = parse(&[("TIDEGATE_ADMIN_TOKEN_FILE", "/t")]).unwrap().admin_auth;
    assert_eq!(by_file, AdminAuth::File("/t".into()));
    let refused = error(&[("TIDEGATE_ADMIN_TOKEN", short)]);
    assert!(refused.starts_with("TIDEGATE_ADMIN_TOKEN=\"<hidden>\": expected a token of 16 "), "{refused}");
    let both = error(&[("TIDEGATE_ADMIN_TOKEN", token), ("TIDEGATE_ADMIN_TOKEN_FILE", "/t")]);
    assert!(both.contains("not both"), "{both}");
    let mut by_flag = Settings::default();
    by_flag.flag("TIDEGATE_ADMIN_TOKEN", token);
    let errors = by_flag.config().expect_err("others can read a command line");
    assert!(errors[0].to_string().contains("not on a command line"), "{errors:?}");
    assert!(!format!("{by_env:?}{refused}{both}{errors:?}{by_flag:?}").contains(short));
}

#[test]
fn jwt_takes_one_place_of_keys_and_the_algorithms_that_they_are_used_with() {
    let all = [
        ("TIDEGATE_AUTH", "jwt"),
        ("TIDEGATE_JWT_KEYS_DIR", "/keys"),
        ("TIDEGATE_JWT_ALGORITHM", "ES256, EdDSA"),
        ("TIDEGATE_JWT_AUDIENCE", "https://gate.example"),
        ("TIDEGATE_JWT_ISSUER", "issuer"),
        ("TIDEGATE_JWT_LEEWAY_S", "0"),
    ];
    let config = parse(&all).unwrap();
    let jwt = config.auth.jwt().unwrap();
    assert_eq!(jwt.keys, JwtKeys::Directory("/keys".into()));
    assert_eq!(jwt.algorithms, [JwtAlgorithm::Es256, JwtAlgorithm::EdDsa]);
    assert_eq!((jwt.audience.as_deref(), jwt.issuer.as_deref()), (Some("https://gate.example"), Some("issuer")));
    assert_eq!(config.jwt_leeway, Duration::ZERO);
    for setting in SETTINGS.iter().filter(|setting| all.iter().any(|(name, _)| *name == setting.env)) {
        let given = all.iter().find(|(name, _)| *name == setting.env).unwrap().1.replace(' ', "");
        assert_eq!(setting.value(&config), given, "{}", setting.env);
    }
    let two = error(&[&all[..], &[("TIDEGATE_JWT_KEY_FILE", "/key")]].concat());
    assert!(two.contains("one of TIDEGATE_JWT_KEY_FILE and TIDEGATE_JWT_KEYS_DIR"), "{two}");
    assert!(error(&[all[0], all[2]]).contains("one of TIDEGATE_JWT_KEY_FILE and"), "no key at all");
    assert!(error(&all[..2]).contains("TIDEGATE_JWT_ALGORITHM to be set"));
    for (name, value) in &all[1..5] {
        let unused = error(&[(name, value)]);
        assert!(unused.starts_with(name) && unused.contains("expected TIDEGATE_AUTH=jwt with it"), "{unused}");
    }
    for text in ["none", "HS512", "hs256", "HS256,", "RS256,RS256"] {
        assert!(parse(&[all[0], all[1], ("TIDEGATE_JWT_ALGORITHM", text)]).is_err(), "{text}");
    }
    assert!(parse(&[("TIDEGATE_AUTH_EXPIRY", "never")]).is_err());
}

#[test]
fn none_listens_beyond_loopback_only_when_told_that_it_is_insecure() {
    for open in ["0.0.0.0:1", "[::]:1", "127.0.0.1:1,192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let text = error(&[("TIDEGATE_LISTEN", open)]);
        assert!(text.contains("TIDEGATE_INSECURE=yes"), "{text}");
        assert!(parse(&[("TIDEGATE_LISTEN", open), ("TIDEGATE_INSECURE", "yes")]).is_ok());
        let tokens = [("TIDEGATE_LISTEN", open), ("TIDEGATE_AUTH", "tokens"), ("TIDEGATE_TOKENS_FILE", "/t")];
        assert!(parse(&tokens).is_ok());
    }
    for loopback in ["127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(parse(&[("TIDEGATE_LISTEN", loopback)]).is_ok(), "{loopback}");
    }
    assert!(parse(&[("TIDEGATE_INSECURE", "true")]).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn steering_by_cpu_wants_workers_that_are_pinned() {
    let text = error(&[("TIDEGATE_STEERING", "cpu"), ("TIDEGATE_CPUS", "off")]);
    assert!(text.starts_with(r#"TIDEGATE_STEERING="cpu": expected TIDEGATE_CPUS to pin workers"#), "{text}");
    assert!(parse(&[("TIDEGATE_STEERING", "cpu"), ("TIDEGATE_CPUS", "auto")]).is_ok());
    assert!(parse(&[("TIDEGATE_STEERING", "kernel"), ("TIDEGATE_CPUS", "off")]).is_ok());
    let quota = Machine { cpus: vec![0, 1, 2], parallelism: 1 };
    let under_quota = Settings::from_iter([("TIDEGATE_STEERING", "cpu")]).config_on(&quota).unwrap_err();
    assert_eq!(under_quota[0].variable, "TIDEGATE_STEERING");
}

#[test]
fn a_drain_has_time_left_after_its_wait_for_deferred_clients() {
    let text = error(&[("TIDEGATE_TCP_DEFER_ACCEPT_S", "30"), ("TIDEGATE_DRAIN_TIMEOUT_MS", "16000")]);
    assert!(text.starts_with(r#"TIDEGATE_TCP_DEFER_ACCEPT_S="30": expected TIDEGATE_DRAIN_TIMEOUT_MS"#), "{text}");
    assert!(parse(&[("TIDEGATE_TCP_DEFER_ACCEPT_S", "30")]).is_ok());
}

#[test]
fn a_rule_about_a_setting_that_could_not_be_read_is_not_guessed_at() {
    let text = error(&[("TIDEGATE_AUTH", "token"), ("TIDEGATE_LISTEN", "0.0.0.0:1")]);
    assert!(text.starts_with("TIDEGATE_AUTH="), "{text}");
}

#[test]
fn a_misspelt_log_level_is_refused() {
    for text in ["off", "debug", "INFO", "warn,tidegate::reactor=trace", "tidegate=debug"] {
        assert_eq!(parse(&[("TIDEGATE_LOG", text)]).unwrap().log, text);
    }
    for text in ["", "inf", "info,", "tidegate=", "tidegate=loud", "=info", "a b=info"] {
        assert!(parse(&[("TIDEGATE_LOG", text)]).is_err(), "{text:?}");
    }
}

#[test]
fn names_are_printable_and_free_of_spaces() {
    for name in ["tidegate", "dévice-7", "台", &"x".repeat(128)] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "a b", "a\tb", "a\nb", "a\u{0}", "a\u{a0}b", "a\u{202e}b", "a\u{200b}", &"x".repeat(129)] {
        assert!(!is_name(name), "{name:?}");
    }
}

#[test]
fn a_token_put_where_it_does_not_belong_is_not_shown() {
    let (token, _) = crate::auth::generate_token("me").unwrap();
    for setting in SETTINGS.iter() {
        let value = format!("x{token},{token}");
        let errors = parse(&[(setting.env, &value)]).err().unwrap_or_default();
        let shown = format!("{errors:?} {}", errors.iter().map(ToString::to_string).collect::<String>());
        assert!(!shown.contains(&token[crate::config::TOKEN_PREFIX.len()..]), "{shown}");
    }
    assert!(error(&[("TIDEGATE_AUTH", &token)]).starts_with(r#"TIDEGATE_AUTH="tg_<hidden>": expected"#));
}

#[test]
fn an_error_stays_one_readable_line() {
    let text = error(&[("TIDEGATE_WORKERS", &format!("\n\u{1b}[2J{}", "x".repeat(100_000)))]);
    assert!(text.len() < 400 && !text.contains(['\n', '\u{1b}']), "{text}");
}

/// What an error shows of a setting's text.
fn shown(setting: &Setting, text: &str) -> String {
    if setting.secret { "<hidden>".to_owned() } else { redact(text) }
}

/// Text of any kind, and text that comes near to what is accepted.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<u64>().prop_map(|n| n.to_string()),
        "[0-9,-]{0,12}",
        "[0-9.:,\\[\\]]{0,24}",
        "(auto|off|none|tokens|jwt|HS256|close|keep|yes|no|info|/tmp/x)",
    ]
}

proptest! {
    #[test]
    fn any_text_for_any_setting_is_taken_or_refused_by_name(at in 0..SETTINGS.len(), text in texts()) {
        let setting = SETTINGS[at];
        if let Err(errors) = parse(&[(setting.env, &text)]) {
            for error in errors {
                prop_assert_eq!(&error.variable, setting.env);
                prop_assert_eq!(&error.value, &shown(setting, &text));
                let named = error.to_string().starts_with(&format!("{}={}", setting.env, quote(&shown(setting, &text))));
                prop_assert!(named, "{}", error);
            }
        }
    }

    #[test]
    fn any_text_for_all_settings_at_once_never_panics(texts in proptest::collection::vec(texts(), SETTINGS.len())) {
        let all: Vec<_> = SETTINGS.iter().zip(&texts).map(|(s, text)| (s.env, text.as_str())).collect();
        if let Err(errors) = parse(&all) {
            for error in errors {
                let (setting, text) =
                    SETTINGS.iter().zip(&texts).find(|(setting, _)| *setting.env == error.variable).unwrap();
                prop_assert_eq!(&error.value, &shown(setting, text));
            }
        }
    }
}
