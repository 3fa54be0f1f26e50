//! What the table of failed logins promises.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const RULES: FailureRules = FailureRules { free: 3, delay_ms: 100, max_delay_ms: 1_000, refuse_from: 12 };

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn delays_by(rules: &FailureRules, table: &Failures, source: IpAddr, at: impl IntoIterator<Item = u64>) -> Vec<u32> {
    at.into_iter().map(|now| table.note(rules, source, now)).collect()
}

fn delays(table: &Failures, source: IpAddr, at: impl IntoIterator<Item = u64>) -> Vec<u32> {
    delays_by(&RULES, table, source, at)
}

#[test]
fn the_first_failures_are_free_then_the_delay_doubles_up_to_the_longest() {
    let table = Failures::new();
    assert_eq!(delays(&table, v4(1), [5; 10]), [0, 0, 0, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
    assert_eq!(table.note(&RULES, v4(2), 5), 0, "each source has its own debt");
}

#[test]
fn one_failure_is_forgotten_in_the_longest_delay() {
    let table = Failures::new();
    assert_eq!(delays(&table, v4(1), [0; 5]), [0, 0, 0, 100, 200]);
    // Two of the five are forgotten: this is the fourth again.
    assert_eq!(table.note(&RULES, v4(1), 2_000), 100);
    assert_eq!(table.note(&RULES, v4(1), 2_000 + 4_000), 0, "all are forgotten");
}

#[test]
fn who_waits_for_each_answer_is_slowed_and_never_refused_unchecked() {
    let table = Failures::new();
    let mut now = 0;
    for _ in 0..1_000 {
        now += u64::from(table.note(&RULES, v4(1), now));
        assert_eq!(table.refuses(&RULES, v4(1), now), None, "at {now} ms");
    }
    assert!(now > 900_000, "1,000 guesses take 1,000 s: {now} ms");
}

#[test]
fn a_source_with_too_much_debt_is_refused_until_some_of_it_is_forgotten_and_nobody_else_is() {
    let table = Failures::new();
    assert!(!table.refuses_any());
    delays(&table, v4(1), [0; 11]);
    assert!(!table.refuses_any(), "a little in debt: its tokens are checked");
    assert_eq!(table.refuses(&RULES, v4(1), 0), None);
    table.note(&RULES, v4(1), 0);
    assert!(table.refuses_any());
    assert_eq!((table.refuses(&RULES, v4(1), 0), table.refuses(&RULES, v4(1), 999)), (Some(1_000), Some(1)));
    assert_eq!(table.refuses(&RULES, v4(2), 0), None);
    assert_eq!(table.refuses(&RULES, v4(1), 1_000), None);
    assert!(!table.refuses_any(), "once it is over nobody pays for it any more");
}

#[test]
fn debts_grow_no_larger_than_what_keeps_a_source_out() {
    let table = Failures::new();
    delays(&table, v4(1), [0; 10_000]);
    assert_eq!(table.refuses(&RULES, v4(1), 0), Some(1_000));
    let never = FailureRules { refuse_from: 0, ..RULES };
    let table = Failures::new();
    delays_by(&never, &table, v4(1), [0; 10_000]);
    assert_eq!((table.refuses(&never, v4(1), 0), table.refuses_any()), (None, false));
    assert_eq!(table.note(&never, v4(1), 9_000), 0, "eight steps are all that is remembered");
}

#[test]
fn a_delay_of_zero_delays_nobody_and_the_longest_is_never_exceeded() {
    let table = Failures::new();
    let none = FailureRules { delay_ms: 0, ..RULES };
    assert_eq!(delays_by(&none, &table, v4(1), [0; 50]), [0; 50]);
    assert!(table.refuses(&none, v4(1), 0).is_some(), "that is another setting");
    let at_once = FailureRules { free: 0, delay_ms: 5_000, ..RULES };
    assert_eq!(delays_by(&at_once, &table, v4(2), [0; 3]), [1_000; 3]);
    let (off, table) = (FailureRules { delay_ms: 0, refuse_from: 0, ..RULES }, Failures::new());
    assert_eq!(delays_by(&off, &table, v4(1), [0; 50]), [0; 50]);
    assert!(table.entries.get().is_none(), "what is off costs nothing");
}

#[test]
fn rules_that_change_go_for_what_is_remembered_already() {
    let table = Failures::new();
    delays(&table, v4(1), [0; 12]);
    let milder = FailureRules { max_delay_ms: 10, ..RULES };
    assert_eq!(table.refuses(&milder, v4(1), 0), Some(10), "no debt is larger than the rules allow");
    assert_eq!(table.refuses(&FailureRules { refuse_from: 0, ..RULES }, v4(1), 0), None);
}

#[test]
fn a_host_is_an_ipv4_address_or_a_slash_64() {
    let table = Failures::new();
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    delays(&table, v6("2001:db8::1"), [0; 3]);
    assert_eq!(table.note(&RULES, v6("2001:db8::ffff:1"), 0), 100, "the same /64");
    assert_eq!(table.note(&RULES, v6("2001:db8:0:1::1"), 0), 0, "another /64");
    delays(&table, v4(1), [0; 3]);
    assert_eq!(table.note(&RULES, v6("::ffff:192.0.2.1"), 0), 100, "an IPv4 address by another name");
    assert_eq!(table.note(&RULES, v6("::c000:201"), 0), 0, "and this is not one");
}

#[test]
fn any_number_of_sources_fits_and_the_largest_debts_are_kept() {
    let table = Failures::new();
    delays(&table, v4(1), [0; 12]);
    for n in 0..4 * AUTH_FAILURE_SOURCES as u32 {
        table.note(&RULES, IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)), 0);
    }
    assert_eq!(table.entries.get().unwrap().len(), AUTH_FAILURE_SOURCES);
    assert!(table.refuses(&RULES, v4(1), 0).is_some(), "a flood of others does not make it forgotten");
}

#[test]
fn workers_that_note_at_the_same_time_lose_nothing() {
    let rules = FailureRules { refuse_from: 4_000, ..RULES };
    let table = Failures::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| delays_by(&rules, &table, v4(1), [0; 999]));
        }
    });
    assert_eq!(table.refuses(&rules, v4(1), 0), None);
    delays_by(&rules, &table, v4(1), [0; 3]);
    assert_eq!(table.refuses(&rules, v4(1), 0), None, "3,999");
    table.note(&rules, v4(1), 0);
    assert_eq!(table.refuses(&rules, v4(1), 0), Some(1_000), "4,000");
}

/// The same rules over a list of failures, each with the instant at which it is forgotten.
#[derive(Default)]
struct Shadow(HashMap<u8, u64>);

impl Shadow {
    fn note(&mut self, rules: &FailureRules, source: u8, now: u64) -> u32 {
        let leak = u64::from(rules.max_delay_ms);
        let at = self.0.entry(source).or_default();
        *at = (*at).max(now) + leak;
        let count = (*at - now).div_ceil(leak) as u32;
        match count.saturating_sub(rules.free) {
            0 => 0,
            n if rules.delay_ms > 0 => {
                (1..n).fold(u64::from(rules.delay_ms), |ms, _| (2 * ms).min(leak)).min(leak) as u32
            }
            _ => 0,
        }
    }
}

proptest! {
    #[test]
    fn any_history_of_a_few_sources_is_slowed_by_the_rules(
        free in 0..6u32,
        delay_ms in 0..50u32,
        max_delay_ms in 1..2_000u32,
        steps in proptest::collection::vec((0..4u8, 0..3_000u64), 1..200),
    ) {
        let rules = FailureRules { free, delay_ms, max_delay_ms, refuse_from: 0 };
        let (table, mut shadow, mut now) = (Failures::new(), Shadow::default(), 1_000);
        let mut over = false;
        for (source, wait) in steps {
            now += wait;
            let got = table.note(&rules, v4(source), now);
            let wanted = shadow.note(&rules, source, now);
            prop_assert!(got <= max_delay_ms);
            // Past the reach of the rules the table forgets what the shadow still knows.
            over |= wanted >= max_delay_ms;
            prop_assert!(over || got == wanted, "{} ms and not {}", wanted, got);
        }
    }

    #[test]
    fn any_addresses_at_any_time_are_bounded_and_never_panic(
        rules in (0..=u32::MAX, 0..=u32::MAX, 1..=u32::MAX, 0..=u32::MAX),
        steps in proptest::collection::vec((any::<[u8; 16]>(), any::<bool>(), 0..1u64 << 39), 1..100),
    ) {
        let (free, delay_ms, max_delay_ms, refuse_from) = rules;
        let rules = FailureRules { free, delay_ms, max_delay_ms, refuse_from };
        let table = Failures::new();
        let mut now = 0;
        for (address, short, at) in steps {
            now = now.max(at);
            let [a, b, c, d, ..] = address;
            let source = if short { IpAddr::from([a, b, c, d]) } else { IpAddr::from(address) };
            prop_assert!(table.note(&rules, source, now) <= max_delay_ms);
            prop_assert!(table.refuses(&rules, source, now).is_none_or(|ms| ms > 0));
        }
        prop_assert!(table.entries.get().is_none_or(|entries| entries.len() == AUTH_FAILURE_SOURCES));
    }
}
