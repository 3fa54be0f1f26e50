//! What many rounds of many servers come to: numbers beside the floor's, and verdicts.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub mod picture;
pub mod table;

/// The server that the others are measured by.
pub const FLOOR: &str = "floor";
/// The server that has budgets.
pub const OURS: &str = "tidegate";
/// Payload that the budgets are for. Bytes.
const BUDGET_PAYLOAD: usize = 32;
/// Connections that the budgets for frames are for.
const BUDGET_CONNECTIONS: [usize; 2] = [64, 15_000];
/// Below, a server did not have its CPU for itself, or its client was slower than it.
pub const BUSY: f64 = 0.9;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Case {
    /// CPU for each frame echoed. Nanoseconds.
    Echo {
        /// Payload bytes of a frame.
        payload: usize,
        /// Connections that echo.
        connections: usize,
        /// Frames in a burst.
        depth: usize,
    },
    /// CPU for each connection made, let in and closed. Nanoseconds.
    Storm {
        /// Made at the same time.
        connections: usize,
    },
    /// Private memory for each idle connection. Bytes.
    Idle,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Echo { payload, connections, depth } => {
                write!(f, "{} connections, depth {depth}, {payload} B", thousands(*connections as f64))
            }
            Case::Storm { connections } => write!(f, "connect + AUTH + close, {connections} at a time"),
            Case::Idle => write!(f, "user memory of an idle connection"),
        }
    }
}

impl Case {
    /// What its numbers count.
    pub fn unit(&self) -> &'static str {
        match self {
            Case::Echo { .. } => "CPU ns per frame",
            Case::Storm { .. } => "CPU ns per connection",
            Case::Idle => "bytes per connection",
        }
    }
}

/// The most that tidegate may cost, as a ratio to the floor.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// A frame at depth 1.
    pub one: f64,
    /// A frame at more.
    pub more: f64,
    /// A connection.
    pub storm: f64,
}

impl Budgets {
    /// The budget of a case, if it has one.
    pub fn of(&self, case: Case) -> Option<f64> {
        match case {
            Case::Echo { payload, connections, depth } => {
                let counts = payload == BUDGET_PAYLOAD && BUDGET_CONNECTIONS.contains(&connections);
                counts.then_some(if depth == 1 { self.one } else { self.more })
            }
            Case::Storm { .. } => Some(self.storm),
            Case::Idle => None,
        }
    }
}

/// Numbers of all rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// All, in the order of the rounds.
    pub rounds: Vec<f64>,
}

impl Spread {
    /// Of these numbers; all zero if there are none.
    pub fn of(rounds: Vec<f64>) -> Spread {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return Spread::default() };
        let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Spread { median, least, most, rounds }
    }
}

/// One server in one case. Ratios are to the floor; NaN (in JSON null) where that has no number.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The server.
    pub peer: String,
    /// What each frame or connection cost it, in the case's unit.
    pub cost: Spread,
    /// Frames or connections per second.
    pub rate: Spread,
    /// Share of its CPU that it used.
    pub busy: Spread,
    /// Ratio of the medians of cost.
    pub cost_of_medians: f64,
    /// Ratio of the least costs.
    pub cost_of_bests: f64,
    /// Ratio of the medians of rate.
    pub rate_of_medians: f64,
    /// Ratio of the highest rates.
    pub rate_of_bests: f64,
}

/// One case, all servers.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    #[serde(flatten)]
    pub case: Case,
    /// In the order in which they were first measured.
    pub entries: Vec<Entry>,
}

impl Row {
    /// One server's part.
    pub fn entry(&self, peer: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.peer == peer)
    }
}

/// Whether tidegate is within one budget.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Of what.
    #[serde(flatten)]
    pub case: Case,
    /// The most allowed.
    pub budget: f64,
    /// Ratio of the medians.
    pub of_medians: f64,
    /// Ratio of the bests.
    pub of_bests: f64,
    /// Neither is above.
    pub within: bool,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// By case.
    pub rows: Vec<Row>,
    /// By case, of those that have a budget.
    pub verdicts: Vec<Verdict>,
}

/// The numbers of one server in one case, a round each: cost, rate, busy.
type Rounds = [Vec<f64>; 3];

impl Report {
    /// From lines `KIND PEER CONNECTIONS DEPTH PAYLOAD` with what `echo_load` printed behind.
    ///
    /// # Errors
    /// A line that is none.
    pub fn parse(text: &str, budgets: &Budgets) -> Result<Report, String> {
        let mut cases: BTreeMap<Case, Vec<(String, Rounds)>> = BTreeMap::new();
        for line in text.lines() {
            let (case, peer, numbers) = parse_line(line).ok_or_else(|| format!("no measurement: {line}"))?;
            let peers = cases.entry(case).or_default();
            let index = peers.iter().position(|(name, _)| *name == peer).unwrap_or_else(|| {
                peers.push((peer, Rounds::default()));
                peers.len() - 1
            });
            for (all, number) in peers[index].1.iter_mut().zip(numbers) {
                all.extend(number);
            }
        }
        let rows: Vec<Row> = cases.into_iter().map(|(case, peers)| Row { case, entries: entries(peers) }).collect();
        let verdicts = rows.iter().filter_map(|row| verdict(row, budgets)).collect();
        Ok(Report { rows, verdicts })
    }
}

fn parse_line(line: &str) -> Option<(Case, String, [Option<f64>; 3])> {
    let mut words = line.split_whitespace();
    let (kind, peer) = (words.next()?, words.next()?.to_owned());
    let mut number = || words.next()?.parse::<usize>().ok();
    let (connections, depth, payload) = (number()?, number()?, number()?);
    let field = |name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<f64>().ok())
    };
    let (case, cost) = match kind {
        "echo" => (Case::Echo { connections, depth, payload }, field("server_ns_per_frame")?),
        "storm" => (Case::Storm { connections }, field("server_ns_per_connection")?),
        "idle" => (Case::Idle, field("private_per_connection")?),
        _ => return None,
    };
    Some((case, peer, [Some(cost), field("rate"), field("server_cpu")]))
}

fn entries(peers: Vec<(String, Rounds)>) -> Vec<Entry> {
    let spreads: Vec<_> = peers.into_iter().map(|(peer, rounds)| (peer, rounds.map(Spread::of))).collect();
    let floor = spreads.iter().find(|(peer, _)| peer == FLOOR).map(|(_, spreads)| spreads.clone());
    let [floor_cost, floor_rate, _] = floor.unwrap_or_default();
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { f64::NAN };
    let entry = |(peer, [cost, rate, busy]): (String, [Spread; 3])| Entry {
        peer,
        cost_of_medians: ratio(cost.median, floor_cost.median),
        cost_of_bests: ratio(cost.least, floor_cost.least),
        rate_of_medians: ratio(rate.median, floor_rate.median),
        rate_of_bests: ratio(rate.most, floor_rate.most),
        cost,
        rate,
        busy,
    };
    spreads.into_iter().map(entry).collect()
}

/// Both ratios have to be within: a median alone may have met a bad minute, a best one a lucky one.
fn verdict(row: &Row, budgets: &Budgets) -> Option<Verdict> {
    let (budget, ours) = (budgets.of(row.case)?, row.entry(OURS)?);
    row.entry(FLOOR)?;
    let (of_medians, of_bests) = (ours.cost_of_medians, ours.cost_of_bests);
    let within = of_medians <= budget && of_bests <= budget;
    Some(Verdict { case: row.case, budget, of_medians, of_bests, within })
}

/// A number as it is read: `15,000`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number <= -0.5 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: Budgets = Budgets { one: 1.05, more: 1.10, storm: 1.18 };

    fn report(ours: [f64; 3]) -> Report {
        let mut text = String::new();
        for (floor, ours) in [100.0, 300.0, 110.0].into_iter().zip(ours) {
            text += &format!("echo floor 64 1 32 frames=9 rate=10 server_ns_per_frame={floor} server_cpu=0.9\n");
            text += &format!("echo tidegate 64 1 32 frames=9 rate=5 server_ns_per_frame={ours} server_cpu=1.0\n");
        }
        Report::parse(&text, &BUDGETS).unwrap()
    }

    #[test]
    fn ratios_are_of_medians_and_of_bests() {
        let report = report([105.0, 110.0, 400.0]);
        let ours = report.rows[0].entry("tidegate").unwrap();
        assert_eq!((ours.cost_of_medians, ours.cost_of_bests), (1.0, 1.05));
        assert_eq!((ours.rate_of_medians, ours.busy.median), (0.5, 1.0));
        assert!(report.verdicts[0].within);
    }

    #[test]
    fn a_lucky_best_round_or_a_lucky_median_is_not_enough() {
        assert!(!report([90.0, 116.0, 400.0]).verdicts[0].within);
        assert!(!report([106.0, 106.0, 106.0]).verdicts[0].within);
    }

    #[test]
    fn only_small_frames_on_few_and_on_very_many_connections_have_a_budget() {
        let echo = |connections, depth, payload| BUDGETS.of(Case::Echo { connections, depth, payload });
        assert_eq!([echo(64, 1, 32), echo(15_000, 64, 32)], [Some(1.05), Some(1.10)]);
        assert_eq!([echo(1_000, 1, 32), echo(64, 1, 4_096)], [None, None]);
    }

    #[test]
    fn what_is_no_measurement_is_named() {
        assert!(Report::parse("echo floor 64 1 32 frames=9", &BUDGETS).unwrap_err().contains("frames=9"));
    }

    #[test]
    fn a_number_has_commas_between_its_thousands() {
        assert_eq!(["64", "1,000", "2,650,000"].map(str::to_owned), [64.0, 1e3, 2.65e6].map(thousands));
    }
}
