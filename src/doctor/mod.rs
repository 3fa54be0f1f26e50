//! What a host allows, beside what so many connections need: `tidegate doctor`.
//!
//! A [`Host`] is a tree of files, `/proc` and `/sys` as the kernel shows them or as a test has made
//! them up; a [`Plan`] is what is asked of it. [`examine`] compares the two and changes nothing. What no
//! file tells, whether an address is free and whether the disk takes what it is given, [`probe`] tries.
//!
//! `scripts/tune-host.sh` raises the kernel settings that are found short here; a test holds the two to
//! the same needs.

mod capacity;
mod cgroup;
mod cpus;
mod host;
mod kernel;
mod knobs;
mod network;
mod plan;
pub mod probe;
mod show;

use serde::Serialize;

pub use host::Host;
pub use plan::Plan;
pub use show::Style;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough.
    Ok,
    /// It can't be seen from here.
    Unknown,
    /// The connections can be had all the same; it costs speed, or room in a bad moment.
    Warn,
    /// So many connections can't be had, or what is acknowledged could be lost.
    Fail,
}

/// One line of a [`Report`]. The names of its fields are the keys of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is looked at; a kernel setting by its name.
    pub check: String,
    /// What the host has; `None`: not to be seen, or not there.
    pub have: Option<String>,
    /// What is needed; `None`: anything will do.
    pub need: Option<String>,
    /// How the two compare.
    pub verdict: Verdict,
    /// A command or a line to paste; `None` where there is nothing to do.
    pub fix: Option<String>,
    /// Why it matters.
    pub why: String,
}

impl Check {
    /// A check that has seen nothing yet.
    fn new(check: impl Into<String>, why: impl Into<String>) -> Check {
        let (check, why) = (check.into(), why.into());
        Check { check, have: None, need: None, verdict: Verdict::Unknown, fix: None, why }
    }

    fn have(mut self, have: impl Into<String>) -> Check {
        self.have = Some(have.into());
        self
    }

    fn need(mut self, need: impl Into<String>) -> Check {
        self.need = Some(need.into());
        self
    }

    fn ok(mut self) -> Check {
        self.verdict = Verdict::Ok;
        self
    }

    fn fail(self, fix: impl Into<String>) -> Check {
        self.short(Verdict::Fail, fix)
    }

    fn warn(self, fix: impl Into<String>) -> Check {
        self.short(Verdict::Warn, fix)
    }

    fn short(mut self, verdict: Verdict, fix: impl Into<String>) -> Check {
        self.verdict = verdict;
        self.fix = Some(fix.into());
        self
    }
}

/// All checks, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Connections that were asked for.
    pub connections: u64,
    /// The worst of the verdicts; [`Verdict::Unknown`] where nothing fails and something without which so
    /// many can't be had was not to be seen.
    pub verdict: Verdict,
    /// The most connections that the host and the settings allow as they are; `None`: at least as many
    /// as were asked for.
    pub allows: Option<u64>,
    /// The check that allows no more.
    pub limited_by: Option<String>,
    /// The checks, in the order in which they are shown.
    pub checks: Vec<Check>,
}

impl Report {
    /// The checks with this verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.verdict == verdict)
    }
}

/// Looks at `host` for what `plan` needs; `probes` are checks made by [`probe`].
pub fn examine(host: &Host, plan: &Plan, probes: Vec<Check>) -> Report {
    let mut checks = capacity::checks(host, plan);
    let blind = checks.iter().any(|check| check.verdict == Verdict::Unknown);
    checks.extend(knobs::others(host, plan));
    checks.extend(kernel::checks(host, plan));
    checks.extend(cpus::checks(host, plan));
    checks.extend(network::checks(host, plan));
    checks.extend(probes);
    let seen = checks.iter().map(|check| check.verdict).filter(|verdict| *verdict != Verdict::Unknown);
    let verdict = match seen.max() {
        Some(verdict) if verdict == Verdict::Fail || !blind => verdict,
        _ => Verdict::Unknown,
    };
    let (allows, limited_by) = allows(host, plan).unzip();
    Report { connections: plan.connections, verdict, allows, limited_by, checks }
}

/// The largest number of connections for which no capacity fails, and what fails above it; `None`: at
/// least those of the plan.
fn allows(host: &Host, plan: &Plan) -> Option<(u64, String)> {
    let failing = |connections: u64| {
        let plan = Plan { connections, ..plan.clone() };
        capacity::checks(host, &plan).into_iter().find(|check| check.verdict == Verdict::Fail)
    };
    let mut limit = failing(plan.connections)?;
    // Every need grows with the number, so what is allowed is all below some number.
    let (mut enough, mut too_many) = (0, plan.connections);
    while enough + 1 < too_many {
        let middle = enough + (too_many - enough) / 2;
        match failing(middle) {
            Some(check) => (too_many, limit) = (middle, check),
            None => enough = middle,
        }
    }
    Some((enough, limit.check))
}
