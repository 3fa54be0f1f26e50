//! How settings go together.

use super::parse::{Draft, SettingError, address_port_fixed, quote, redact};
use super::settings::Settings;
use super::table::{SETTINGS, Setting};
use super::{SessionStoreSpec, SinkKind, Steering, SubmitAck};
use crate::limits::longest_deferral;
use crate::proto::HEADER_LEN;

/// The rules between settings. A rule is skipped when one of its settings could not be parsed.
pub(super) struct Cross<'a> {
    pub given: &'a Settings,
    pub failed: &'a [SettingError],
    pub draft: &'a Draft<'a>,
    pub found: Vec<SettingError>,
}

impl Cross<'_> {
    /// The rules that are broken.
    pub fn check(mut self) -> Vec<SettingError> {
        let draft = self.draft;
        let c = &draft.config;
        const LOW: &str = "TIDEGATE_OUTBOUND_LOW";
        const HIGH: &str = "TIDEGATE_OUTBOUND_HIGH";
        const MAX: &str = "TIDEGATE_OUTBOUND_MAX";
        let open = c.listen.iter().any(|a| !a.ip().to_canonical().is_loopback());
        let deferral = longest_deferral(c.sockets.defer_accept_s);
        let plan = c.drain_announce + c.drain_notice;
        self.rule(&[HIGH, LOW], c.outbound_low < c.outbound_high, "TIDEGATE_OUTBOUND_LOW below TIDEGATE_OUTBOUND_HIGH");
        self.rule(&[MAX, HIGH], c.outbound_high < c.outbound_max, "TIDEGATE_OUTBOUND_HIGH below TIDEGATE_OUTBOUND_MAX");
        self.rule(
            &[MAX, "TIDEGATE_MAX_PAYLOAD"],
            c.outbound_max >= c.max_payload + HEADER_LEN,
            "TIDEGATE_OUTBOUND_MAX to hold a frame of TIDEGATE_MAX_PAYLOAD and its 9-byte header",
        );
        self.rule(
            &["TIDEGATE_DRAIN_TIMEOUT_MS", "TIDEGATE_DRAIN_ANNOUNCE_MS", "TIDEGATE_DRAIN_NOTICE_MS"],
            plan < c.drain_timeout,
            "TIDEGATE_DRAIN_ANNOUNCE_MS and TIDEGATE_DRAIN_NOTICE_MS together below TIDEGATE_DRAIN_TIMEOUT_MS",
        );
        self.rule(
            &["TIDEGATE_LISTEN", "TIDEGATE_AUTH", "TIDEGATE_INSECURE"],
            draft.auth != "none" || c.insecure || !open,
            "loopback addresses only, because TIDEGATE_AUTH=none lets everybody in; use TIDEGATE_AUTH=tokens, or \
             TIDEGATE_INSECURE=yes to listen all the same",
        );
        self.identity();
        self.lasting();
        self.rule(
            &["TIDEGATE_ADMIN_TOKEN", "TIDEGATE_ADMIN_TOKEN_FILE"],
            draft.admin_token.is_none() || draft.admin_token_file.is_none(),
            "TIDEGATE_ADMIN_TOKEN or TIDEGATE_ADMIN_TOKEN_FILE, not both",
        );
        self.rule(
            &["TIDEGATE_STEERING", "TIDEGATE_CPUS"],
            c.sockets.steering == Steering::Kernel || !c.cpus.is_empty(),
            "TIDEGATE_CPUS to pin workers with TIDEGATE_STEERING=cpu: nothing can be steered to one that runs anywhere",
        );
        self.rule(
            &["TIDEGATE_TCP_DEFER_ACCEPT_S", "TIDEGATE_DRAIN_TIMEOUT_MS"],
            deferral.is_zero() || deferral + c.drain_notice < c.drain_timeout,
            "TIDEGATE_DRAIN_TIMEOUT_MS to leave time after the wait for those that TIDEGATE_TCP_DEFER_ACCEPT_S keeps waiting",
        );
        let clash = c.admin.is_some_and(|admin| address_port_fixed(admin) && c.listen.contains(&admin));
        self.rule(&["TIDEGATE_ADMIN", "TIDEGATE_LISTEN"], !clash, "TIDEGATE_ADMIN to differ from TIDEGATE_LISTEN");
        self.found
    }

    /// Who gets in is said whole, and nothing is said that would not be used: it could be that which
    /// was to keep somebody out.
    fn identity(&mut self) {
        const AUTH: &str = "TIDEGATE_AUTH";
        const TOKENS_FILE: &str = "TIDEGATE_TOKENS_FILE";
        const KEY_FILE: &str = "TIDEGATE_JWT_KEY_FILE";
        const KEYS_DIR: &str = "TIDEGATE_JWT_KEYS_DIR";
        const ALGORITHM: &str = "TIDEGATE_JWT_ALGORITHM";
        let Draft { auth, tokens_file, jwt, .. } = self.draft;
        let tokens = tokens_file.is_some();
        self.rule(
            &[AUTH, TOKENS_FILE],
            *auth != "tokens" || tokens,
            "TIDEGATE_TOKENS_FILE to be set with TIDEGATE_AUTH=tokens",
        );
        let unused = "TIDEGATE_AUTH=tokens with TIDEGATE_TOKENS_FILE: without it the file is not used";
        self.rule(&[TOKENS_FILE, AUTH], *auth == "tokens" || !tokens, unused);
        let keys = usize::from(jwt.key_file.is_some()) + usize::from(jwt.keys_dir.is_some());
        self.rule(
            &[AUTH, KEY_FILE, KEYS_DIR],
            *auth != "jwt" || keys == 1,
            "one of TIDEGATE_JWT_KEY_FILE and TIDEGATE_JWT_KEYS_DIR to be set with TIDEGATE_AUTH=jwt",
        );
        self.rule(
            &[AUTH, ALGORITHM],
            *auth != "jwt" || !jwt.algorithms.is_empty(),
            "TIDEGATE_JWT_ALGORITHM to be set with TIDEGATE_AUTH=jwt: a token does not choose how it is checked",
        );
        let given = [
            (KEY_FILE, jwt.key_file.is_some()),
            (KEYS_DIR, jwt.keys_dir.is_some()),
            (ALGORITHM, !jwt.algorithms.is_empty()),
            ("TIDEGATE_JWT_AUDIENCE", jwt.audience.is_some()),
            ("TIDEGATE_JWT_ISSUER", jwt.issuer.is_some()),
        ];
        for (name, is_given) in given {
            let unused = "TIDEGATE_AUTH=jwt with it: without that it is not used";
            self.rule(&[name, AUTH], *auth == "jwt" || !is_given, unused);
        }
        let c = &self.draft.config;
        self.rule(
            &["TIDEGATE_AUTH_FAILURES_MAX_DELAY_MS", "TIDEGATE_AUTH_FAILURES_DELAY_MS"],
            c.auth_failures_delay <= c.auth_failures_max_delay,
            "TIDEGATE_AUTH_FAILURES_DELAY_MS up to TIDEGATE_AUTH_FAILURES_MAX_DELAY_MS",
        );
    }

    /// What outlives the process needs a place.
    fn lasting(&mut self) {
        const DATA_DIR: &str = "TIDEGATE_DATA_DIR";
        let c = &self.draft.config;
        let has_dir = c.data_dir.is_some();
        let delivers = c.sinks.iter().any(|route| route.sink.kind != SinkKind::None);
        self.rule(&["TIDEGATE_SINKS", DATA_DIR], has_dir || !delivers, "TIDEGATE_DATA_DIR to be set for the journal");
        self.rule(
            &["TIDEGATE_SUBMIT_ACK", DATA_DIR],
            has_dir || c.submit_ack == SubmitAck::Journal,
            "TIDEGATE_DATA_DIR to be set for the journal",
        );
        self.rule(
            &["TIDEGATE_SESSION_STORE", DATA_DIR],
            has_dir || c.session_store != SessionStoreSpec::Embedded,
            "TIDEGATE_DATA_DIR to be set with TIDEGATE_SESSION_STORE=embedded",
        );
        self.rule(
            &["TIDEGATE_JOURNAL_MAX_BYTES", "TIDEGATE_JOURNAL_SEGMENT_BYTES"],
            c.journal_max_bytes / 4 >= c.journal_segment_bytes,
            "TIDEGATE_JOURNAL_MAX_BYTES to hold four times TIDEGATE_JOURNAL_SEGMENT_BYTES",
        );
        self.rule(
            &["TIDEGATE_SINK_BACKOFF_MAX_MS", "TIDEGATE_SINK_BACKOFF_MS"],
            c.sink_backoff <= c.sink_backoff_max,
            "TIDEGATE_SINK_BACKOFF_MS up to TIDEGATE_SINK_BACKOFF_MAX_MS",
        );
    }

    /// Where a rule is broken, blames the first of its settings that the operator gave.
    fn rule(&mut self, settings: &[&'static str], holds: bool, expected: &str) {
        if holds || self.failed.iter().any(|error| settings.contains(&error.variable.as_str())) {
            return;
        }
        let known = settings.iter().filter_map(|name| SETTINGS.iter().find(|setting| setting.env == *name));
        let known: Vec<(&Setting, Option<&str>)> = known.map(|s| (*s, self.given.text(s.env))).collect();
        let Some((blamed, text)) = known.iter().find(|(_, text)| text.is_some()).or(known.first()) else { return };
        let others = known.iter().filter(|(setting, _)| setting.env != blamed.env);
        let others: Vec<String> = others
            .map(|(setting, text)| format!("{}={}", setting.env, quote(&redact(text.unwrap_or(setting.default)))))
            .collect();
        let expected = format!("{expected} (now {})", others.join(", "));
        let mut error = SettingError::new(blamed, text.unwrap_or(blamed.default), expected);
        error.place = self.given.place(blamed.env);
        self.found.push(error);
    }
}
