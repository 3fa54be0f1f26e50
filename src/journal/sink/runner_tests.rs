use std::collections::HashMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::super::testing::{Fake, Reaction, Scripted, SetClock, message};
use super::*;
use crate::journal::Progress;

const TRIES: u32 = 3;
const BASE: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(2);

/// A runner of one route and the clock it goes by.
struct Bench {
    runner: Runner,
    clock: SetClock,
    told: Arc<Told>,
    opened: Arc<Mutex<(usize, usize)>>,
}

fn bench(fake: &Fake, sink: Scripted) -> Bench {
    bench_with(fake, sink, 4, Room { messages: 12, bytes: 1 << 20 })
}

fn bench_with(fake: &Fake, sink: Scripted, batch: usize, room: Room) -> Bench {
    let (clock, told, opened) = (SetClock::new(), Arc::new(Told::new(BASE)), Arc::clone(&sink.opened));
    let backoff = Backoff::new(BASE, MAX, fastrand::Rng::with_seed(1));
    let options = Options { batch, tries: TRIES, backoff, dead_letter_topic: "dead".to_owned(), room };
    let feed: Arc<dyn Feed> = Arc::new(fake.clone());
    let name = (0, "# (scripted)".to_owned());
    let runner = Runner::new(name, Box::new(sink), feed, Arc::clone(&told), options, Box::new(clock.clone()));
    Bench { runner, clock, told, opened }
}

impl Bench {
    /// Turns until nothing is left to do; time passes as the runner asks for it. Returns how long it rested.
    fn run(&mut self) -> Duration {
        let begun = self.clock.now();
        for _ in 0..20_000 {
            match self.runner.turn() {
                Next::Turn => {}
                Next::Rest(until) | Next::News(Some(until)) => self.clock.set(until),
                Next::News(None) => return self.clock.now() - begun,
            }
        }
        panic!("it does not come to an end");
    }

    fn turns(&mut self, turns: usize) -> Next {
        let mut next = Next::Turn;
        (0..turns).for_each(|_| next = self.runner.turn());
        next
    }
}

fn numbered(topics: &[&str]) -> Vec<Message> {
    topics.iter().enumerate().map(|(index, topic)| message(index as u64 + 1, topic, "x")).collect()
}

#[test]
fn everything_is_delivered_in_order_in_batches_and_progress_says_so() {
    let fake = Fake::with((1..=50).map(|n| message(2 * n, "a", "x")).collect());
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take));
    bench.run();
    assert_eq!(fake.taken(), (1..=50).map(|n| 2 * n).collect::<Vec<u64>>());
    assert_eq!(*bench.opened.lock().unwrap(), (1, 4));
    let world = fake.world();
    assert_eq!(world.told, (1..=50).map(|n| 2 * n).collect::<Vec<u64>>());
    assert_eq!(world.reports.last(), Some(&Progress { upto: 100, beyond: vec![] }));
    assert!(world.reports.len() < 5, "reports are coalesced: {}", world.reports.len());
    assert_eq!((bench.told.delivered.get(), bench.told.done.get(), bench.told.oldest_ms.get()), (50, 100, 0));
    let latency = bench.told.latency.read();
    assert_eq!((latency.count(), latency.sum_s()), (50, 100.0), "each was stored two seconds ago");
}

#[test]
fn what_is_done_beyond_the_progress_is_not_delivered_again() {
    let fake = Fake::with(numbered(&["a", "a", "b", "a", "b"]));
    fake.world().progress = Progress { upto: 1, beyond: vec![3, 5] };
    bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take)).run();
    assert_eq!(fake.taken(), [2, 4]);
    assert_eq!(fake.world().reports.last(), Some(&Progress { upto: 5, beyond: vec![] }));
}

#[test]
fn a_refused_message_parks_its_topic_and_no_other() {
    let fake = Fake::with(numbered(&["a", "b", "a", "b", "c"]));
    let mut bench = bench(
        &fake,
        Scripted::new(&fake, |m, seen| match (m.id, seen) {
            (1, 1) => Reaction::Refuse,
            _ => Reaction::Take,
        }),
    );
    bench.turns(3);
    assert_eq!(fake.taken(), [2, 4, 5]);
    assert_eq!(bench.told.oldest_ms.get(), 1_000);
    bench.runner.report();
    assert_eq!(fake.world().reports.last(), Some(&Progress { upto: 0, beyond: vec![2, 4, 5] }));
    assert!(bench.run() <= BASE * 2, "after a backoff");
    assert_eq!(fake.taken(), [2, 4, 5, 1, 3]);
    assert_eq!((bench.told.refused.get(), bench.told.dead_letters.get()), (1, 0));
    assert!(bench.told.set_down(None).is_none(), "the sink was never down");
}

#[test]
fn after_its_tries_a_message_is_one_dead_letter_and_its_topic_moves_on() {
    let fake = Fake::with(numbered(&["a", "a", "a"]));
    let mut bench = bench(
        &fake,
        Scripted::new(&fake, |m, _| match m.id {
            2 => Reaction::Refuse,
            _ => Reaction::Take,
        }),
    );
    bench.run();
    assert_eq!(fake.taken(), [1, 3]);
    assert_eq!((bench.told.refused.get(), bench.told.dead_letters.get()), (u64::from(TRIES), 1));
    let world = fake.world();
    assert_eq!(world.told, [1, 2, 3], "a dead letter is done, for whoever waits for it");
    let letter = world.letters.values().next().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!((letter.topic.as_str(), &body["id"], &body["tries"]), ("dead/a", &2.into(), &TRIES.into()));
    assert_eq!((&body["reason"], world.letters.len()), (&"no".into(), 1));
}

#[test]
fn a_dead_letter_that_is_refused_itself_is_given_up_and_does_not_become_another() {
    let mut letter = message(9, "dead/a", "");
    let original = message(1, "a", "x");
    let made = dead::letters(&original, "no", 1, "dead");
    (letter.key, letter.body) = (made[0].draft().key, made[0].draft().body.to_vec());
    let fake = Fake::with(vec![letter, message(10, "dead/a", "a client's own")]);
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Refuse));
    bench.run();
    assert_eq!((bench.told.dropped.get(), bench.told.dead_letters.get()), (1, 1));
    assert_eq!(fake.world().letters.values().map(|l| l.topic.as_str()).collect::<Vec<_>>(), ["dead/dead/a"]);
    assert_eq!(fake.world().told, [9, 10]);
}

#[test]
fn without_room_for_a_dead_letter_the_message_is_tried_on_and_never_lost() {
    let fake = Fake::with(numbered(&["a", "a"]));
    fake.world().no_room = Some("full".to_owned());
    let mut bench = bench(
        &fake,
        Scripted::new(&fake, |m, seen| match (m.id, seen) {
            (1, ..=20) => Reaction::Refuse,
            _ => Reaction::Take,
        }),
    );
    bench.run();
    assert_eq!((fake.taken(), bench.told.refused.get(), bench.told.dead_letters.get()), (vec![1, 2], 20, 0));
}

#[test]
fn a_sink_that_is_down_is_tried_for_ever_ever_less_often_and_opened_anew_each_time() {
    let fake = Fake::with(numbered(&["a"; 10]));
    let mut sink = Scripted::new(&fake, |m, seen| match (m.id, seen) {
        (3, 1..30) => Reaction::Down,
        _ => Reaction::Take,
    });
    sink.closed = 5;
    let mut bench = bench(&fake, sink);
    let next = bench.turns(1);
    assert!(matches!(next, Next::Rest(_)) && bench.told.set_down(Some("x".into())) == Some("not there".to_owned()));
    let rested = bench.run();
    assert_eq!(fake.taken(), (1..=10).collect::<Vec<u64>>());
    // 4 + 29 times, most of them drawn from 0 to MAX.
    assert!((MAX * 6..MAX * 30).contains(&rested), "{rested:?}");
    assert_eq!((bench.opened.lock().unwrap().0, bench.told.failures.get()), (5 + 1 + 29, 5 + 29));
    assert_eq!(bench.told.set_down(None), None, "it is up again");
}

#[test]
fn what_was_delivered_before_the_sink_went_down_is_not_delivered_again() {
    let fake = Fake::with(numbered(&["a", "b", "a", "b"]));
    let act = |m: &Message, seen: usize| if m.id == 3 && seen == 1 { Reaction::Down } else { Reaction::Take };
    bench(&fake, Scripted::new(&fake, act)).run();
    assert_eq!(fake.taken(), [1, 2, 3, 4]);
}

#[test]
fn a_window_that_parked_topics_fill_reads_no_more_until_they_are_dead_letters() {
    let fake = Fake::with((1..=200).map(|n| message(n, if n % 2 == 0 { "good" } else { "bad" }, "x")).collect());
    let act = |m: &Message, _: usize| if m.topic == "bad" { Reaction::Refuse } else { Reaction::Take };
    let mut bench = bench(&fake, Scripted::new(&fake, act));
    while bench.turns(1) == Next::Turn {}
    assert_eq!(fake.taken(), [2, 4, 6, 8, 10, 12], "as far as the window goes, and no further");
    bench.run();
    assert_eq!(fake.taken(), (1..=100).map(|n| 2 * n).collect::<Vec<u64>>());
    assert_eq!((bench.told.dead_letters.get(), fake.world().letters.len()), (100, 100));
}

#[test]
fn a_window_has_no_more_bytes_than_it_may_and_still_takes_the_largest_message() {
    let fake = Fake::with((1..=20).map(|n| message(n, "a", &"x".repeat(10_000))).collect());
    let sink = Scripted::new(&fake, |_, _| Reaction::Down);
    let mut bench = bench_with(&fake, sink, 100, Room { messages: 100, bytes: 35_000 });
    bench.turns(3);
    assert_eq!(bench.opened.lock().unwrap().1, 4, "four are over 35,000 bytes");
    let sink = Scripted::new(&fake, |_, _| Reaction::Take);
    let mut bench = bench_with(&fake, sink, 100, Room { messages: 100, bytes: 1 });
    bench.run();
    assert_eq!((fake.taken().len(), bench.opened.lock().unwrap().1), (20, 1));
}

#[test]
fn a_panic_refuses_its_message_alone_also_where_the_sink_does_not_say_which() {
    for silent in [false, true] {
        let fake = Fake::with(numbered(&["a", "b", "c", "b", "d"]));
        let act = |m: &Message, _: usize| if m.id == 2 { Reaction::Panic } else { Reaction::Take };
        let mut sink = Scripted::new(&fake, act);
        sink.silent = silent;
        let mut bench = bench(&fake, sink);
        bench.run();
        let mut taken = fake.taken();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken, [1, 3, 4, 5], "silent: {silent}");
        assert_eq!(bench.told.dead_letters.get(), 1);
        let letter = fake.world().letters.values().next().unwrap().body.clone();
        let body: serde_json::Value = serde_json::from_slice(&letter).unwrap();
        assert_eq!((&body["id"], &body["reason"]), (&2.into(), &"the sink panicked: at 2".into()));
    }
}

#[test]
fn a_sink_that_answers_for_nothing_is_down_and_not_asked_in_a_loop() {
    struct Mute;
    impl Sink for Mute {
        fn deliver(&mut self, _: &[&Message], _: &mut Vec<Outcome>) -> Result<(), Down> {
            Ok(())
        }
    }
    let fake = Fake::with(numbered(&["a"]));
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take));
    bench.runner.sink = Box::new(Mute);
    assert!(matches!(bench.turns(2), Next::Rest(_)));
}

#[test]
fn a_sink_that_knows_better_what_it_has_is_believed() {
    struct Further(Scripted);
    impl Sink for Further {
        fn open(&mut self, done: u64) -> Result<u64, Down> {
            Ok(done.max(3))
        }
        fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
            self.0.deliver(messages, outcomes)
        }
    }
    let fake = Fake::with(numbered(&["a"; 5]));
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take));
    bench.runner.sink = Box::new(Further(Scripted::new(&fake, |_, _| Reaction::Take)));
    bench.run();
    assert_eq!((fake.taken(), fake.world().told.clone()), (vec![4, 5], vec![1, 2, 3, 4, 5]));
}

#[test]
fn a_journal_that_can_not_be_read_is_told_and_tried_again() {
    let fake = Fake::with(numbered(&["a"]));
    fake.world().unreadable = Some("damaged".to_owned());
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take));
    assert!(matches!(bench.turns(1), Next::Rest(_)));
    assert_eq!(bench.told.set_down(None), Some("the journal can't be read: damaged".to_owned()));
    fake.world().unreadable = None;
    bench.run();
    assert_eq!(fake.taken(), [1]);
}

#[test]
fn ids_of_other_routes_are_reported_only_when_they_are_many() {
    let fake = Fake::with(vec![message(5, "a", "x")]);
    let mut bench = bench(&fake, Scripted::new(&fake, |_, _| Reaction::Take));
    bench.run();
    let reports = fake.world().reports.len();
    bench.runner.read = 1_000;
    bench.runner.settle();
    assert_eq!((bench.runner.report_due(), fake.world().reports.len()), (None, reports));
    bench.runner.read = 1_000_000;
    bench.clock.set(bench.clock.now() + REPORT_EVERY);
    bench.runner.settle();
    assert_eq!(fake.world().reports.last().map(|p| p.upto), Some(1_000_000));
}

#[test]
fn at_the_end_what_waits_is_tried_once_more_and_a_sink_that_is_down_is_not() {
    let fake = Fake::with(numbered(&["a", "b", "a"]));
    let act = |m: &Message, seen: usize| if m.id == 1 && seen < 3 { Reaction::Refuse } else { Reaction::Take };
    let mut bench = bench(&fake, Scripted::new(&fake, act));
    bench.turns(3);
    let deadline = bench.clock.now() + MAX;
    bench.runner.flush(deadline);
    assert_eq!(fake.taken(), [2], "it was refused again");
    bench.runner.flush(deadline);
    bench.runner.end();
    assert_eq!((fake.taken(), fake.world().reports.last().map(|p| p.upto)), (vec![2, 1, 3], Some(3)));

    let fake = Fake::with(numbered(&["a"]));
    let mut bench = self::bench(&fake, Scripted::new(&fake, |_, _| Reaction::Down));
    bench.turns(2);
    bench.runner.flush(deadline);
    assert_eq!(bench.told.failures.get(), 1);
}

/// What happens to a message of the model: how often it is refused, panics, or brings the sink down.
fn fate() -> impl Strategy<Value = Vec<Reaction>> {
    let one = prop_oneof![
        6 => Just(Reaction::Take),
        3 => Just(Reaction::Refuse),
        1 => Just(Reaction::Down),
        1 => Just(Reaction::TakeAndDown),
        1 => Just(Reaction::Panic),
    ];
    prop::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However often it is killed, between any two things that it does and whatever of its reports got to the disk.
    #[test]
    fn at_least_once_and_in_order_per_topic_wherever_it_is_killed(
        fates in prop::collection::vec((0..4usize, fate()), 1..40),
        lives in prop::collection::vec((0..60usize, any::<prop::sample::Index>()), 0..5),
        silent: bool,
    ) {
        let topics = ["a", "b", "c", "d"];
        let messages: Vec<Message> =
            fates.iter().enumerate().map(|(n, (topic, _))| message(n as u64 * 3 + 1, topics[*topic], "x")).collect();
        let fake = Fake::with(messages.clone());
        let fates: HashMap<u64, Vec<Reaction>> =
            fates.into_iter().zip(&messages).map(|((_, fate), message)| (message.id, fate)).collect();
        let lives = lives.into_iter().map(|(fuse, durable)| (Some(fuse), Some(durable))).chain([(None, None)]);
        for (life, (fuse, durable)) in lives.enumerate() {
            fake.world().life = life;
            fake.world().fuse = fuse;
            let fates = fates.clone();
            let mut sink = Scripted::new(&fake, move |m, seen| {
                fates[&m.id].get(seen - 1).copied().unwrap_or(Reaction::Take)
            });
            sink.silent = silent;
            let mut bench = bench(&fake, sink);
            for _ in 0..5_000 {
                match bench.runner.turn() {
                    _ if fake.world().fuse == Some(0) => break,
                    Next::Turn => {}
                    Next::Rest(until) | Next::News(Some(until)) => bench.clock.set(until),
                    Next::News(None) => break,
                }
            }
            // Of the reports, one is on the disk, or none.
            let mut world = fake.world();
            let reports = std::mem::take(&mut world.reports);
            let last = durable.map_or(reports.len(), |durable| durable.index(reports.len() + 1));
            if let Some(progress) = last.checked_sub(1).and_then(|last| reports.get(last)) {
                world.progress = progress.clone();
            }
        }
        check(&fake, &messages)?;
    }
}

/// The law: see the test's name.
fn check(fake: &Fake, messages: &[Message]) -> Result<(), TestCaseError> {
    let world = fake.world();
    let mut letters = HashMap::new();
    for letter in world.letters.values() {
        let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap();
        let before = letters.insert(body["id"].as_u64().unwrap(), ());
        prop_assert!(before.is_none(), "two dead letters for one message");
    }
    for message in messages {
        let taken = world.taken.iter().any(|(_, id, _)| *id == message.id);
        prop_assert!(taken || letters.contains_key(&message.id), "{} is lost", message.id);
        prop_assert!(world.progress.has(message.id), "{} is not known to be done", message.id);
    }
    let mut done: HashMap<&str, Vec<u64>> = HashMap::new();
    for (_, id, topic) in &world.taken {
        let done = done.entry(topic).or_default();
        for before in messages.iter().filter(|m| m.topic == *topic && m.id < *id) {
            let known = done.contains(&before.id) || letters.contains_key(&before.id);
            prop_assert!(known, "{id} came before {} of its topic", before.id);
        }
        done.push(*id);
    }
    Ok(())
}
