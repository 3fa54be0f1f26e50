//! Failed logins by source address: how long the next answer is put off, and when tokens are not
//! even looked at. Bounded memory, no lock; PURE, time is a parameter.
//!
//! A source is an IPv4 address, or the /64 of an IPv6 one, which is what one host is given. Each
//! failure is a debt, forgotten after [`FailureRules::max_delay_ms`]; the debt of a source is one
//! instant, that at which all of it will be forgotten (GCRA, as ATM's policing has it). The first
//! [`FailureRules::free`] failures are answered at once, the next one after
//! [`FailureRules::delay_ms`], and each further one after twice the time, up to the longest. Who
//! waits for each answer before it tries again never gets further than that, because a debt is
//! forgotten in the same time. Only a source that tries on many connections at once comes to
//! [`FailureRules::refuse_from`], from where on its tokens are not checked until some is forgotten.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use crate::limits::{AUTH_FAILURE_SOURCES, MAX_TIMER_MS};

/// Entries that a source may be in: one cache line.
const WAYS: usize = 8;
const SETS: usize = AUTH_FAILURE_SOURCES / WAYS;
const TAG_BITS: u32 = 24;
const TIME: u64 = (1 << (64 - TAG_BITS)) - 1;

const _: () = assert!(SETS.is_power_of_two() && SETS.ilog2() + TAG_BITS <= 64, "set and tag share no bits of a hash");

/// How failed logins are slowed. [`FailureRules::from`] takes them from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRules {
    /// Failures of one source that are answered at once.
    pub free: u32,
    /// What the first answer after those is put off by; 0: none is.
    pub delay_ms: u32,
    /// What any answer is put off by at most, and how long a failure is remembered; at least 1.
    pub max_delay_ms: u32,
    /// Failures from which on a source's tokens are not checked; 0: they always are.
    pub refuse_from: u32,
}

impl From<&Config> for FailureRules {
    fn from(config: &Config) -> FailureRules {
        let ms = |d: std::time::Duration| d.as_millis().min(u128::from(MAX_TIMER_MS)) as u32;
        FailureRules {
            free: config.auth_failures_free,
            delay_ms: ms(config.auth_failures_delay),
            max_delay_ms: ms(config.auth_failures_max_delay).max(1),
            refuse_from: config.auth_failures_refuse,
        }
    }
}

impl FailureRules {
    /// Whether failures have any consequence at all.
    pub fn is_on(&self) -> bool {
        self.delay_ms > 0 || self.refuse_from > 0
    }

    /// Milliseconds by which the answer to the `nth` failure that is remembered is put off.
    fn delay_of(&self, nth: u32) -> u32 {
        if nth <= self.free {
            return 0;
        }
        let doubled = u64::from(self.delay_ms) << (nth - self.free - 1).min(31);
        doubled.min(u64::from(self.max_delay_ms)) as u32
    }

    /// Failures that a debt of so many milliseconds stands for, the one that is half forgotten included.
    fn count(&self, debt_ms: u64) -> u32 {
        u32::try_from(debt_ms.div_ceil(u64::from(self.max_delay_ms))).unwrap_or(u32::MAX)
    }

    /// The largest debt that is remembered: more would only keep a source out for longer.
    fn largest_debt(&self) -> u64 {
        let steps = self.max_delay_ms.checked_div(self.delay_ms).map_or(0, |times| times.max(1).ilog2() + 2);
        let most = self.free.saturating_add(steps).max(self.refuse_from).max(1);
        u64::from(most) * u64::from(self.max_delay_ms)
    }

    /// How long a source with this debt is refused unchecked: milliseconds.
    fn refused_for(&self, debt_ms: u64) -> u64 {
        if self.refuse_from == 0 {
            return 0;
        }
        debt_ms.saturating_sub(u64::from(self.refuse_from - 1) * u64::from(self.max_delay_ms))
    }
}

/// The failures of all sources, shared by all workers.
///
/// [`AUTH_FAILURE_SOURCES`] entries of eight bytes, allocated at the first failure: a part of the
/// source's hash, and the instant at which its debt is forgotten. Where a set of entries is full,
/// the smallest debt gives way. Instants are milliseconds on any clock that all callers share and
/// that never goes back. The rules may be other ones from one call to the next.
pub struct Failures {
    hash: RandomState,
    entries: OnceLock<Box<[AtomicU64]>>,
    /// When the last source that is refused unchecked will be checked again.
    refusing_until: AtomicU64,
}

impl Failures {
    /// A table that remembers nothing yet.
    pub fn new() -> Failures {
        // Random by process, so that nobody can aim at the entries of somebody else.
        let hash = RandomState::new();
        Failures { hash, entries: OnceLock::new(), refusing_until: AtomicU64::new(0) }
    }

    /// Remembers a failure of `source`, and gives the milliseconds by which its answer is put off.
    pub fn note(&self, rules: &FailureRules, source: IpAddr, now_ms: u64) -> u32 {
        if !rules.is_on() {
            return 0;
        }
        let (set, tag) = self.place(source);
        let entries = self.entries.get_or_init(|| (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect());
        let set = &entries[set..set + WAYS];
        let forgotten_at = loop {
            let (at, before) = find(set, tag, now_ms);
            let debt = Entry(before).debt(tag, now_ms) + u64::from(rules.max_delay_ms);
            let debt = debt.min(rules.largest_debt());
            let after = Entry::new(tag, now_ms + debt).0;
            // Another worker may have written it in between: then all is looked at anew.
            if set[at].compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                break now_ms + debt;
            }
        };
        let debt = forgotten_at - now_ms;
        let refused_for = rules.refused_for(debt);
        if refused_for > 0 {
            self.refusing_until.fetch_max(now_ms + refused_for, Ordering::Relaxed);
        }
        rules.delay_of(rules.count(debt))
    }

    /// Whether any source at all may be refused unchecked: one load of a line that hardly ever changes.
    pub fn refuses_any(&self) -> bool {
        self.refusing_until.load(Ordering::Relaxed) != 0
    }

    /// If tokens of `source` are not checked for now: the milliseconds until they are.
    pub fn refuses(&self, rules: &FailureRules, source: IpAddr, now_ms: u64) -> Option<u32> {
        let until = self.refusing_until.load(Ordering::Relaxed);
        if until <= now_ms {
            if until != 0 {
                // Nobody is refused any more. A failure that has just raised it wins.
                let _ = self.refusing_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
            return None;
        }
        let (set, tag) = self.place(source);
        let set = &self.entries.get()?[set..set + WAYS];
        let debt = set.iter().map(|entry| Entry(entry.load(Ordering::Relaxed)).debt(tag, now_ms)).max().unwrap_or(0);
        let ms = rules.refused_for(debt.min(rules.largest_debt()));
        (ms > 0).then(|| ms.min(u64::from(MAX_TIMER_MS)) as u32)
    }

    /// The first entry of a source's set, and its tag.
    fn place(&self, source: IpAddr) -> (usize, u64) {
        let network = match source.to_canonical() {
            IpAddr::V4(address) => (false, u64::from(address.to_bits())),
            IpAddr::V6(address) => (true, (address.to_bits() >> 64) as u64),
        };
        let hash = self.hash.hash_one(network);
        ((hash as usize % SETS) * WAYS, hash >> (64 - TAG_BITS))
    }
}

impl std::fmt::Debug for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failures").finish_non_exhaustive()
    }
}

impl Default for Failures {
    fn default() -> Failures {
        Failures::new()
    }
}

/// A tag in the topmost bits, and below it the instant at which the debt is forgotten.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    fn new(tag: u64, forgotten_at: u64) -> Entry {
        Entry(tag << (64 - TAG_BITS) | forgotten_at.min(TIME))
    }

    /// What is not yet forgotten: milliseconds; nothing if it is another source's.
    fn debt(self, tag: u64, now_ms: u64) -> u64 {
        if self.0 >> (64 - TAG_BITS) == tag { self.left(now_ms) } else { 0 }
    }

    fn left(self, now_ms: u64) -> u64 {
        (self.0 & TIME).saturating_sub(now_ms)
    }
}

/// The entry of this tag, or the one to be taken for it: the smallest debt. Its place and content.
fn find(set: &[AtomicU64], tag: u64, now_ms: u64) -> (usize, u64) {
    let entries = set.iter().map(|entry| entry.load(Ordering::Relaxed)).enumerate();
    let rank = |(_, bits): &(usize, u64)| match Entry(*bits) {
        entry if entry.debt(tag, now_ms) > 0 => (false, 0),
        entry => (true, entry.left(now_ms)),
    };
    entries.min_by_key(rank).unwrap_or((0, 0))
}

#[cfg(test)]
#[path = "failures_tests.rs"]
mod tests;
