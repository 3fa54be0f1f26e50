//! Kills in a row under load: what was acknowledged, against what is there afterwards.
//!
//! A *life* is one data directory. Its server is killed a few times at random moments and started again, while
//! clients go on; at its end they leave, the server drains, and journal and sink are judged.

use std::io::{Result, Write};
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

pub mod client;
pub mod judge;
mod life;
pub mod message;
pub mod places;
pub mod process;
pub mod report;
pub mod session;
mod tail;
pub mod wire;

use judge::Verdict;
use process::Other;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub program: PathBuf,
    /// Where data, sinks and logs go: a folder for each life.
    pub folder: PathBuf,
    /// Kills altogether.
    pub kills: u32,
    /// Kills in one life.
    pub per_life: u32,
    /// Clients at a time.
    pub clients: usize,
    /// Decides everything that is not the scheduler's to decide.
    pub seed: u64,
    /// The longest time between a server's being ready and its kill.
    pub longest: Duration,
    /// `TIDEGATE_SINKS`' sink for what leaves the journal, such as `file:{life}/sink.jsonl`; `none`: nothing does.
    pub sink: String,
    /// Where that is looked for: see [`places::Sink::parse`].
    pub look: String,
    /// Settings beside, as `NAME=VALUE`.
    pub env: Vec<(String, String)>,
    /// Sessions are kept in memory alone.
    pub sessions_in_memory: bool,
    /// Servers of sinks and stores, killed and started again in between.
    pub others: Vec<String>,
    /// These keep nothing: before one is killed, the server is stopped until all that it was given is read.
    pub forgetful: bool,
    /// Something that must be found, to see that it is.
    pub plant: Option<Plant>,
    /// How long anything may take.
    pub patience: Duration,
}

/// A broken promise, made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// After each kill the end of the journal is gone, as on a disk that has not synced what it said it had.
    Tail,
    /// The sink loses a message.
    Lost,
    /// The sink has a message under a second id.
    Duplicate,
    /// The sink has two messages of a topic the wrong way round.
    Reorder,
}

/// One kill, and what came after it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kill {
    /// Which life.
    pub life: u32,
    /// Milliseconds after the server was ready, or after its exec where it was killed before that.
    pub after_ms: f64,
    /// Killed while it started.
    pub starting: bool,
    /// Messages acknowledged in this life until then.
    pub acknowledged: u64,
    /// Other servers that were killed, too.
    pub others: Vec<String>,
    /// From the kill until `/readyz` says 200. Milliseconds; none where it was killed again before, or something it needs was down.
    pub ready_ms: Option<f64>,
    /// From the kill until the sink has all that was acknowledged before it. Milliseconds.
    pub replay_ms: Option<f64>,
}

/// What came of it all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Every kill.
    pub kills: Vec<Kill>,
    /// Data directories.
    pub lives: u32,
    /// Kills of other servers.
    pub others_killed: u32,
    /// Connections made.
    pub connections: u64,
    /// Retries that were answered with the first id and the duplicate bit.
    pub recognised: u64,
    /// ERRORs after which a client tried again.
    pub errors: u64,
    /// Times that a session with acknowledged state was not resumed, and a new one given.
    pub turned_away: u64,
    /// ECHOs answered.
    pub echoes: u64,
    /// About the journal.
    #[serde(skip)]
    pub journal: Verdict,
    /// About the sink.
    #[serde(skip)]
    pub sink: Verdict,
    /// About SESSION_PUT.
    #[serde(skip)]
    pub puts: Verdict,
    /// What clients saw by themselves, and what went wrong beside.
    #[serde(skip)]
    pub seen: Verdict,
}

impl Outcome {
    /// Whether nothing was lost, stored twice, reordered or strange.
    pub fn is_good(&self) -> bool {
        [&self.journal, &self.sink, &self.puts, &self.seen].iter().all(|verdict| verdict.is_good())
    }

    /// All violations, in words.
    pub fn told(&self) -> impl Iterator<Item = &String> {
        [&self.seen, &self.journal, &self.sink, &self.puts].into_iter().flat_map(|verdict| &verdict.told)
    }
}

/// Does it all, with a line for each kill and each life.
///
/// # Errors
/// Something that is no promise of the server's: a folder can't be made, a server does not start.
pub fn run(plan: &Plan, say: &mut impl Write) -> Result<Outcome> {
    let mut outcome = Outcome { seed: plan.seed, ..Outcome::default() };
    let mut rng = Rng::with_seed(plan.seed);
    let mut left = plan.kills;
    while left > 0 {
        let kills = left.min(plan.per_life.max(1));
        left -= kills;
        outcome.lives += 1;
        let folder = plan.folder.join(format!("life-{}", outcome.lives));
        std::fs::create_dir_all(&folder)?;
        let others =
            plan.others.iter().map(|text| Other::parse(&fill(text, &folder), &folder)).collect::<Result<Vec<_>>>()?;
        let keeps_it = life::live(plan, kills, rng.fork(), (&folder, others), &mut outcome, say)?;
        if !keeps_it {
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(outcome)
}

/// Puts a life's folder where the plan says `{life}`.
fn fill(text: &str, folder: &std::path::Path) -> String {
    text.replace("{life}", &folder.display().to_string())
        .replace("{name}", &folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default())
}
