//! Who may ask what: the bearer token, and what keeps web pages out.
//!
//! | route | on a loopback address, no token set | a token is set | elsewhere, no token set |
//! |---|---|---|---|
//! | `/healthz`, `/readyz`, `/metrics` | open | open | open |
//! | `/` | a `Host` of this machine | open: it shows nothing without the token | 403 |
//! | all others | a `Host` of this machine | the token | 403 |
//!
//! A web page that a name of its own leads to this machine's loopback address ("DNS rebinding") is
//! told by its `Host`: it is neither an address nor `localhost`. One that only sends requests here is
//! told by `Origin` and `Sec-Fetch-Site`, which browsers send and scripts can't change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::routes::{Answer, Ask, text};
use super::token::AdminToken;

/// Wrong tokens that one address may send at once, and then one each [`FORGIVEN_EACH`].
const WRONG_TOKENS: u32 = 10;

/// How long until one wrong token is forgiven.
const FORGIVEN_EACH: Duration = Duration::from_secs(2);

/// Addresses that are remembered for wrong tokens. When all places are taken, the one that has been
/// quiet for longest is forgotten.
const REMEMBERED: usize = 256;

/// What a route asks of who comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: probes and metrics.
    Nothing,
    /// To be no web page of somebody else's; the page itself, which shows nothing by itself.
    OwnPage,
    /// To be the operator.
    Operator,
    /// To be the operator, and not in a browser: it changes something.
    OperatorOnly,
}

/// The admin port's rules, and what it remembers of those who broke them.
#[derive(Debug)]
pub(super) struct Access {
    loopback: bool,
    token: Arc<AdminToken>,
    wrong: Vec<Wrong>,
}

/// Wrong tokens from one address.
#[derive(Debug)]
struct Wrong {
    from: IpAddr,
    /// When all is forgiven.
    until: Instant,
}

impl Access {
    pub(super) fn new(bound_to: SocketAddr, token: Arc<AdminToken>) -> Access {
        Access { loopback: bound_to.ip().to_canonical().is_loopback(), token, wrong: Vec::new() }
    }

    /// Lets the request through, or says why not.
    pub(super) fn check(&mut self, ask: &Ask<'_>, need: Need, now: Instant) -> Result<(), Answer> {
        match need {
            Need::Nothing => return Ok(()),
            Need::OwnPage => {}
            Need::Operator => refuse_if(is_other_site(ask.fetch_site), "this is not for other sites' pages")?,
            // Any web page may make its visitor's browser post to a loopback address.
            Need::OperatorOnly => refuse_if(
                ask.origin || ask.fetch_site.is_some(),
                "this is not done from a browser: use a tool such as curl",
            )?,
        }
        if self.token.is_set() {
            return if need == Need::OwnPage { Ok(()) } else { self.check_token(ask, now) };
        }
        refuse_if(
            !self.loopback,
            "this address is not a loopback one: set TIDEGATE_ADMIN_TOKEN_FILE to a file with a token, \
             and send it as \"Authorization: Bearer TOKEN\"",
        )?;
        refuse_if(
            !ask.host.is_none_or(is_this_machine),
            "the Host header is neither an address nor localhost: ask by address, or set TIDEGATE_ADMIN_TOKEN_FILE",
        )
    }

    fn check_token(&mut self, ask: &Ask<'_>, now: Instant) -> Result<(), Answer> {
        let Some(token) = ask.authorization.and_then(bearer) else {
            return Err(unauthorized(
                "a token is wanted: \"Authorization: Bearer TOKEN\"; see TIDEGATE_ADMIN_TOKEN_FILE",
            ));
        };
        let from = source(ask.from.ip());
        self.wrong.retain(|wrong| wrong.until > now);
        let known = self.wrong.iter().position(|wrong| wrong.from == from);
        let until = known.map_or(now, |at| self.wrong[at].until);
        // Before it is looked at: whether it is right can't be told by how this ends.
        if until > now + FORGIVEN_EACH * (WRONG_TOKENS - 1) {
            let wait = (until - now).saturating_sub(FORGIVEN_EACH * (WRONG_TOKENS - 1)).as_secs() + 1;
            let answer = text(429, "too many wrong tokens from this address: wait");
            return Err(answer.with("Retry-After", wait.to_string()));
        }
        if self.token.is(token) {
            return Ok(());
        }
        log::warn!(peer:% = ask.from; "admin port: a wrong token");
        let until = until + FORGIVEN_EACH;
        match known {
            Some(at) => self.wrong[at].until = until,
            None => self.remember(Wrong { from, until }),
        }
        Err(unauthorized("this is not the token; see TIDEGATE_ADMIN_TOKEN_FILE"))
    }

    fn remember(&mut self, wrong: Wrong) {
        if self.wrong.len() >= REMEMBERED
            && let Some(quietest) = self.wrong.iter().enumerate().min_by_key(|(_, wrong)| wrong.until)
        {
            self.wrong.swap_remove(quietest.0);
        }
        self.wrong.push(wrong);
    }
}

fn refuse_if(refused: bool, why: &str) -> Result<(), Answer> {
    if refused { Err(text(403, why)) } else { Ok(()) }
}

fn unauthorized(why: &str) -> Answer {
    text(401, why).with("WWW-Authenticate", "Bearer realm=\"tidegate\"")
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A browser sends it for a page of another site, of which it shows that page nothing, but which
/// costs us something.
fn is_other_site(fetch_site: Option<&[u8]>) -> bool {
    fetch_site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

/// Whoever has one address of an IPv6 network has all of it.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

/// Whether `Host` is an address or `localhost`, with a port or without: no name that somebody else
/// can lead here.
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn access(bound_to: &str, token: Option<&str>) -> Access {
        let token = Arc::new(AdminToken::of(token));
        Access::new(bound_to.parse().unwrap(), token)
    }

    fn ask<'a>(host: &'a str, authorization: Option<&'a str>) -> Ask<'a> {
        Ask {
            method: "GET",
            target: "/status",
            host: Some(host.as_bytes()),
            origin: false,
            fetch_site: None,
            authorization: authorization.map(str::as_bytes),
            from: "192.0.2.1:5".parse().unwrap(),
        }
    }

    fn status(result: Result<(), Answer>) -> u16 {
        result.map_or_else(|answer| answer.status, |()| 200)
    }

    #[test]
    fn hosts_of_this_machine_are_addresses_and_localhost() {
        for host in ["127.0.0.1", "127.0.0.1:7401", "localhost", "LocalHost:1", "[::1]", "[::1]:7401", "192.0.2.1:80"] {
            assert!(is_this_machine(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7401",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "[::1",
            "[x]:1",
            "127.0.0.1:x",
            "\u{e9}",
        ] {
            assert!(!is_this_machine(host.as_bytes()), "{host}");
        }
        assert!(!is_this_machine(b"\xff"));
    }

    #[test]
    fn a_loopback_address_without_a_token_serves_who_asks_by_address() {
        let mut access = access("127.0.0.1:7401", None);
        let now = Instant::now();
        for need in [Need::Nothing, Need::OwnPage, Need::Operator, Need::OperatorOnly] {
            assert_eq!(status(access.check(&ask("127.0.0.1:7401", None), need, now)), 200);
            let rebound = status(access.check(&ask("evil.example", None), need, now));
            assert_eq!(rebound, if need == Need::Nothing { 200 } else { 403 }, "{need:?}");
        }
        let mut old = ask("", None);
        old.host = None;
        assert_eq!(status(access.check(&old, Need::Operator, now)), 200, "HTTP/1.0 has no Host");
    }

    #[test]
    fn another_address_without_a_token_shows_probes_and_metrics_only() {
        for bound_to in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let mut access = access(bound_to, None);
            let now = Instant::now();
            assert_eq!(status(access.check(&ask("127.0.0.1", None), Need::Nothing, now)), 200);
            for need in [Need::OwnPage, Need::Operator, Need::OperatorOnly] {
                let refused = access.check(&ask("127.0.0.1", Some("Bearer x")), need, now).unwrap_err();
                assert_eq!(refused.status, 403);
                assert!(refused.body.contains("TIDEGATE_ADMIN_TOKEN_FILE"), "{}", refused.body);
            }
        }
        let mut mapped = access("[::ffff:127.0.0.1]:1", None);
        assert_eq!(status(mapped.check(&ask("127.0.0.1", None), Need::Operator, Instant::now())), 200);
    }

    #[test]
    fn with_a_token_only_its_bearer_is_the_operator() {
        for bound_to in ["127.0.0.1:1", "0.0.0.0:1"] {
            let mut access = access(bound_to, Some(TOKEN));
            let now = Instant::now();
            let right = format!("bearer  {TOKEN} ");
            assert_eq!(status(access.check(&ask("gate.example", Some(&right)), Need::Operator, now)), 200);
            assert_eq!(status(access.check(&ask("gate.example", None), Need::OwnPage, now)), 200);
            let basic = format!("Basic {TOKEN}");
            for wrong in
                [None, Some("Bearer correct-horse-batter"), Some(TOKEN), Some(&*basic), Some("Bearer "), Some("")]
            {
                let refused = access.check(&ask("127.0.0.1", wrong), Need::Operator, now).unwrap_err();
                assert_eq!(refused.status, 401, "{wrong:?}");
                assert!(refused.headers.iter().any(|(name, _)| *name == "WWW-Authenticate"));
                assert!(!refused.body.contains("battery"));
            }
        }
    }

    #[test]
    fn pages_of_other_sites_get_nothing_and_no_page_changes_anything() {
        let mut access = access("127.0.0.1:1", Some(TOKEN));
        let (now, right) = (Instant::now(), format!("Bearer {TOKEN}"));
        for (site, reads) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("x", 403)]
        {
            let mut ask = ask("127.0.0.1", Some(&right));
            ask.fetch_site = Some(site.as_bytes());
            assert_eq!(status(access.check(&ask, Need::Operator, now)), reads, "{site}");
            assert_eq!(status(access.check(&ask, Need::OperatorOnly, now)), 403, "{site}");
        }
        let mut ask = ask("127.0.0.1", Some(&right));
        ask.origin = true;
        assert_eq!(status(access.check(&ask, Need::OperatorOnly, now)), 403);
    }

    #[test]
    fn wrong_tokens_are_limited_for_each_address_and_forgiven_with_time() {
        let mut access = access("0.0.0.0:1", Some(TOKEN));
        let (now, right) = (Instant::now(), format!("Bearer {TOKEN}"));
        let wrong = |access: &mut Access, now| status(access.check(&ask("x", Some("Bearer no")), Need::Operator, now));
        for _ in 0..WRONG_TOKENS {
            assert_eq!(wrong(&mut access, now), 401);
        }
        assert_eq!(wrong(&mut access, now), 429);
        assert_eq!(status(access.check(&ask("x", Some(&right)), Need::Operator, now)), 429, "not even looked at");
        let mut elsewhere = ask("x", Some(&right));
        elsewhere.from = "192.0.2.2:5".parse().unwrap();
        assert_eq!(status(access.check(&elsewhere, Need::Operator, now)), 200, "one address does not lock out others");
        let later = now + FORGIVEN_EACH + Duration::from_millis(1);
        assert_eq!((wrong(&mut access, later), wrong(&mut access, later)), (401, 429));
    }

    #[test]
    fn what_is_remembered_of_wrong_tokens_is_bounded() {
        let mut access = access("0.0.0.0:1", Some(TOKEN));
        let now = Instant::now();
        for n in 0..3 * REMEMBERED as u32 {
            let mut ask = ask("x", Some("Bearer no"));
            ask.from = SocketAddr::new(IpAddr::V4(n.into()), 1);
            assert_eq!(status(access.check(&ask, Need::Operator, now)), 401);
        }
        assert_eq!(access.wrong.len(), REMEMBERED);
        let neighbours = ["2001:db8::1", "2001:db8::2:0:0:1"].map(|ip| source(ip.parse().unwrap()));
        assert_eq!(neighbours[0], neighbours[1]);
    }
}
