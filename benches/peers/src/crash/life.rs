//! One life: a data directory, its kills, and the judgement at its end.

use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::client::{Account, Client, Manner, Site};
use super::judge::{self, Verdict};
use super::places::{self, Sink};
use super::process::{Gateway, Other};
use super::tail::{Tail, marks};
use super::{Kill, Outcome, Plan, Plant, fill};

/// Quiet after which a sink has been read to its end.
const QUIET: Duration = Duration::from_millis(700);
/// A server that is killed while it starts is killed within this time.
const EARLY_MS: f64 = 40.0;

struct Life<'a> {
    plan: &'a Plan,
    number: u32,
    rng: Rng,
    env: Vec<(String, String)>,
    data: PathBuf,
    log: PathBuf,
    others: Vec<Other>,
    site: &'a Site,
    tail: &'a Tail,
    kills: Vec<Kill>,
    /// The number of the first of them.
    numbered_from: usize,
    others_killed: u32,
    seen: Verdict,
}

/// Lives it, and judges. Returns whether its folder is worth keeping.
pub fn live(
    plan: &Plan,
    kills: u32,
    mut rng: Rng,
    (folder, others): (&Path, Vec<Other>),
    outcome: &mut Outcome,
    say: &mut impl Write,
) -> Result<bool> {
    let seed = rng.u64(..);
    let number = outcome.lives;
    let sinks = match plan.sink.as_str() {
        "none" => "*=none".to_owned(),
        sink => format!("sunk/#={},*=none", fill(sink, folder)),
    };
    let data = folder.join("data");
    let mut env = plan.env.clone();
    env.extend([
        ("TIDEGATE_DATA_DIR".to_owned(), data.display().to_string()),
        ("TIDEGATE_SINKS".to_owned(), sinks),
        ("TIDEGATE_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ("TIDEGATE_ADMIN".to_owned(), "127.0.0.1:0".to_owned()),
    ]);
    let site = Site::new(plan.clients);
    let tail = Tail::new(Sink::parse(&fill(&plan.look, folder))?, seed, plan.clients);
    let log = folder.join("tidegate.log");
    let numbered_from = outcome.kills.len() + 1;
    let mut life = Life {
        plan,
        number,
        rng,
        env,
        data,
        log,
        others,
        site: &site,
        tail: &tail,
        kills: Vec::new(),
        numbered_from,
        others_killed: 0,
        seen: Verdict::default(),
    };
    let accounts = std::thread::scope(|scope| {
        let follower = scope.spawn(|| tail.follow());
        let clients: Vec<_> = (0..plan.clients)
            .map(|index| {
                // In every second life some messages stay in the journal, and so does all before them.
                let sunk = plan.sink != "none" && (number % 2 == 1 || index % 3 > 0);
                let patience = plan.patience / 2;
                let manner = Manner { seed, sunk, sessions_last: !plan.sessions_in_memory, patience };
                let client = Client::new(&site, index as u32, manner);
                scope.spawn(move || client.run())
            })
            .collect();
        let lived = life.kill_and_start(kills, say);
        if lived.is_err() {
            site.give_up();
        }
        let accounts: Vec<Account> =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Account::default())).collect();
        let ended = lived.and_then(|gateway| life.end(gateway));
        tail.end();
        follower.join().map_err(|_| Error::other("the sink's reader panicked"))?;
        ended.map(|()| accounts)
    })?;
    let Life { env, mut kills, others_killed, mut seen, mut others, .. } = life;
    for other in &mut others {
        other.start()?;
    }
    let promised: Vec<_> = accounts.iter().map(|account| account.promised.clone()).collect();
    let mut journal_found = places::journal(&plan.program, &env, seed)?;
    let mut sink_found = tail.into_findings()?;
    plant(plan.plant, &mut sink_found.found);
    let mut journal = judge::journal(&promised, &journal_found.found);
    journal.add(&std::mem::take(&mut journal_found.strange));
    let mut sink = judge::sink(&promised, &sink_found.found);
    sink.add(&std::mem::take(&mut sink_found.strange));
    let mut puts = Verdict::default();
    for account in &accounts {
        puts.add(&account.puts);
        seen.add(&account.seen);
        outcome.connections += account.connections;
        outcome.recognised += account.recognised;
        outcome.errors += account.errors;
        outcome.turned_away += account.turned_away;
        if plan.others.is_empty() && account.turned_away > 0 {
            seen.stranger(format!("{} times a session was not resumed, and then it was", account.turned_away));
        }
    }
    outcome.echoes += site.counts[2].load(Ordering::Relaxed);
    outcome.others_killed += others_killed;
    if journal.acknowledged == 0 || puts.acknowledged == 0 {
        seen.stranger("nothing was acknowledged: nothing is shown".to_owned());
    }
    writeln!(say, "      life {number}, journal: {journal}")?;
    writeln!(say, "      life {number}, sink:    {sink}")?;
    writeln!(say, "      life {number}, puts:    {puts}")?;
    let good = [&journal, &sink, &puts, &seen].iter().all(|verdict| verdict.is_good());
    for what in [&seen, &journal, &sink, &puts].iter().flat_map(|verdict| &verdict.told) {
        writeln!(say, "        {what}")?;
    }
    outcome.journal.add(&journal);
    outcome.sink.add(&sink);
    outcome.puts.add(&puts);
    outcome.seen.add(&seen);
    outcome.kills.append(&mut kills);
    Ok(!good)
}

impl Life<'_> {
    /// Starts the server, and kills it so often; it is running at the end.
    fn kill_and_start(&mut self, kills: u32, say: &mut impl Write) -> Result<Gateway> {
        for other in &mut self.others {
            other.start()?;
        }
        let mut gateway = self.start()?;
        if !gateway.ready(self.deadline())? {
            return Err(Error::other("the first start is not ready in time"));
        }
        let mut told = 0;
        while (self.kills.len() as u32) < kills {
            let began = Instant::now();
            let down = self.load_for_a_while(&mut gateway)?;
            if let Some(status) = gateway.has_ended() {
                return Err(Error::other(format!(
                    "the server has ended by itself: {status}, see {}",
                    self.log.display()
                )));
            }
            let kill = Kill { after_ms: ms(began.elapsed()), others: down, ..self.blank() };
            self.site.moved(None);
            let killed = Instant::now();
            gateway.kill()?;
            // What clients were told until it was gone: their replies may still be on their way to them.
            let before = marks(self.site);
            self.kills.push(kill);
            if self.plan.plant == Some(Plant::Tail) {
                cut_tail(&self.data.join("journal"))?;
            }
            gateway = self.come_back(kills, killed, &before)?;
            for number in std::mem::replace(&mut told, self.kills.len())..self.kills.len() {
                writeln!(say, "{}", super::report::line(self.numbered_from + number, &self.kills[number]))?;
            }
        }
        self.site.finish();
        Ok(gateway)
    }

    fn blank(&self) -> Kill {
        let acknowledged = self.site.counts[0].load(Ordering::Relaxed);
        Kill { life: self.number, acknowledged, ..Kill::default() }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.plan.patience
    }

    fn start(&mut self) -> Result<Gateway> {
        let mut gateway = Gateway::start(&self.plan.program, &self.log, &self.env)?;
        let address = gateway
            .address(self.deadline())
            .map_err(|error| Error::other(format!("{error}: see {}", self.log.display())))?;
        self.site.moved(address);
        Ok(gateway)
    }

    /// Lets the clients load it; meanwhile other servers may be killed, and some started again. Returns whom.
    fn load_for_a_while(&mut self, gateway: &mut Gateway) -> Result<Vec<String>> {
        let length = self.plan.longest.mul_f64(self.rng.f64().max(0.02));
        let until = Instant::now() + length;
        let mut down = Vec::new();
        for which in 0..self.others.len() {
            if self.rng.bool() {
                sleep_until(Instant::now() + length.mul_f64(self.rng.f64() / 3.0));
                self.kill_other(gateway, which)?;
                down.push(self.others[which].name.clone());
                sleep_until(Instant::now() + length.mul_f64(self.rng.f64() / 3.0));
                // Else it is down when the gateway is killed, and comes back after it.
                if self.rng.bool() {
                    self.start_other(which)?;
                }
            }
        }
        sleep_until(until);
        Ok(down)
    }

    fn kill_other(&mut self, gateway: &mut Gateway, which: usize) -> Result<()> {
        self.others_killed += 1;
        if self.plan.forgetful {
            gateway.signal(Signal::STOP)?;
            self.tail.settle(QUIET, self.deadline());
        }
        self.others[which].kill()?;
        if self.plan.forgetful {
            self.tail.begin_anew();
            gateway.signal(Signal::CONT)?;
        }
        Ok(())
    }

    fn start_other(&mut self, which: usize) -> Result<()> {
        self.others[which].start()
    }

    /// From a kill to everything being as it was; sometimes the start itself is killed.
    fn come_back(&mut self, kills: u32, killed: Instant, before: &[u64]) -> Result<Gateway> {
        if self.rng.u8(0..6) == 0 && (self.kills.len() as u32) < kills {
            let delay = self.rng.f64() * EARLY_MS;
            let gateway = Gateway::start(&self.plan.program, &self.log, &self.env)?;
            std::thread::sleep(Duration::from_secs_f64(delay / 1e3));
            let killed = Instant::now();
            gateway.kill()?;
            let kill = Kill { after_ms: delay, starting: true, ..self.blank() };
            self.kills.push(kill);
            return self.come_back(kills, killed, before);
        }
        let started = Instant::now();
        let mut gateway = self.start()?;
        for which in 0..self.others.len() {
            self.start_other(which)?;
        }
        let all_up = self.kills.last().is_some_and(|kill| kill.others.is_empty());
        if !gateway.ready(self.deadline())? {
            self.seen.stranger(format!("not ready {:?} after a start", started.elapsed()));
        }
        let ready = killed.elapsed();
        let replayed = self.tail.has_all(before, self.deadline());
        let replay = killed.elapsed();
        if !replayed {
            self.seen
                .stranger(format!("what was acknowledged is not in the sink {:?} after a start", started.elapsed()));
        }
        let sinks = self.plan.sink != "none" && replayed;
        if let Some(kill) = self.kills.last_mut() {
            (kill.ready_ms, kill.replay_ms) = (all_up.then(|| ms(ready)), (all_up && sinks).then(|| ms(replay)));
        }
        Ok(gateway)
    }

    /// Clients have left: everything arrives, the server drains, and its journal is sound.
    fn end(&mut self, mut gateway: Gateway) -> Result<()> {
        let all = marks(self.site);
        if !self.tail.has_all(&all, self.deadline()) {
            self.seen.stranger("not everything acknowledged has arrived in the sink at the end".to_owned());
        }
        gateway.signal(Signal::TERM)?;
        let status = gateway.wait(self.deadline())?;
        if !status.success() {
            self.seen.stranger(format!("the last server ended with {status}"));
        }
        self.tail.settle(QUIET, self.deadline());
        Ok(())
    }
}

/// The last records of the newest file that has any become zeros, as if they had never been written.
fn cut_tail(journal: &Path) -> Result<()> {
    let mut files: Vec<_> =
        std::fs::read_dir(journal)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    for path in files.into_iter().rev() {
        let mut bytes = std::fs::read(&path)?;
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0).filter(|last| *last > 8_192) else { continue };
        // More than one commit: the last one may not have been acknowledged yet.
        let gone = (last / 2).min(64 * 1024);
        bytes[last - gone..=last].fill(0);
        return std::fs::write(&path, bytes);
    }
    Ok(())
}

/// Breaks what was found in the sink.
fn plant(plant: Option<Plant>, found: &mut Vec<judge::Found>) {
    let middle = found.len() / 2;
    match plant {
        Some(Plant::Lost) if !found.is_empty() => {
            let gone = found[middle];
            found.retain(|other| *other != gone);
        }
        Some(Plant::Duplicate) if !found.is_empty() => found.push(judge::Found { id: u64::MAX, ..found[middle] }),
        Some(Plant::Reorder) => {
            let client = found.get(middle).map(|found| found.client);
            let two: Vec<usize> =
                (middle..found.len()).filter(|at| Some(found[*at].client) == client).take(2).collect();
            if let [first, second] = two[..] {
                found.swap(first, second);
            }
        }
        _ => {}
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
