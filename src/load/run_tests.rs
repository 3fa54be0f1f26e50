//! How what several generators tell becomes one report.

use super::*;
use crate::load::mix::Mix;
use crate::load::plan::Secret;
use crate::load::reading::verdict;
use crate::load::report::Account;

fn settings(pacing: Pacing) -> Settings {
    Settings {
        shape: Shape::Echo,
        address: "127.0.0.1:1".to_owned(),
        connections: 10,
        mix: Mix::echo(32),
        pacing,
        total: None,
        duration: None,
        warm_up: Duration::ZERO,
        ramp: Duration::ZERO,
        seed: 1,
        token: Secret::default(),
        sources: Vec::new(),
        processes: None,
        helper: None,
        interval: Duration::from_secs(1),
        reconnect: true,
        until_closed: false,
        echo_at_end: false,
        keep_sessions: false,
        connect_timeout: Duration::from_secs(1),
        settle_timeout: Duration::from_secs(1),
        ledgers: Vec::new(),
        retry: None,
        acks: None,
        ledger_wait: Duration::ZERO,
        shown: Vec::new(),
    }
}

#[derive(Default)]
struct Seen {
    connected: Vec<u64>,
    points: Vec<Point>,
    echoed: Vec<(u64, u64)>,
}

impl Watch for Seen {
    fn connected(&mut self, connections: u64) {
        self.connected.push(connections);
    }
    fn interval(&mut self, point: &Point, _: u64) {
        self.points.push(*point);
    }
    fn echoed(&mut self, sent: u64, answered: u64) {
        self.echoed.push((sent, answered));
    }
    fn settled(&mut self) {}
    fn say(&mut self, _: &str) {}
}

fn connected(connections: u64) -> Message {
    let trouble = (connections == 0).then(|| "nobody is there".to_owned());
    Message::Connected { connections, trouble }
}

fn sample(index: u64, answered: u64, latency: u64) -> Message {
    let latencies = vec![(latency, answered)];
    let at_ms = (index + 1) * 1_000;
    Message::Sample(Sample { index, at_ms, length_ms: 1_000, answered, errors: 1, connections: 5, latencies })
}

#[test]
fn the_load_begins_when_all_are_connected_and_only_once() {
    let (mut course, mut seen) = (Course::new(2), Seen::default());
    assert_eq!(course.handle(0, connected(5), &mut seen), Ok(false));
    assert_eq!(course.handle(1, connected(4), &mut seen), Ok(true));
    assert_eq!(course.handle(1, connected(4), &mut seen), Ok(false));
    assert_eq!(seen.connected, [9]);
}

#[test]
fn a_generator_without_a_connection_is_no_reason_to_give_up_but_all_of_them_are() {
    let (mut course, mut seen) = (Course::new(2), Seen::default());
    assert_eq!(course.handle(0, connected(0), &mut seen), Ok(false));
    assert_eq!(course.handle(1, connected(3), &mut seen), Ok(true));
    let mut course = Course::new(2);
    assert_eq!(course.handle(0, connected(0), &mut seen), Ok(false));
    assert_eq!(course.handle(1, connected(0), &mut seen), Err("nobody is there".to_owned()));
}

#[test]
fn an_interval_is_one_point_when_all_have_told_of_it() {
    let (mut course, mut seen) = (Course::new(2), Seen::default());
    for (index, message) in [(0, sample(0, 30, 1_000)), (0, sample(1, 7, 1)), (1, sample(0, 10, 9_000_000))] {
        course.handle(index, message, &mut seen).unwrap();
    }
    let [point] = seen.points[..] else { panic!("{:?}", seen.points) };
    assert_eq!(
        (point.at_ms, point.length_ms, point.answered, point.errors, point.connections),
        (1_000, 1_000, 40, 2, 10)
    );
    assert!(point.p50 < 2_000 && point.p99 > 8_000_000 && point.max > 8_000_000, "{point:?}");
}

#[test]
fn echoes_on_all_connections_are_told_once_for_all() {
    let (mut course, mut seen) = (Course::new(2), Seen::default());
    for _ in 0..2 {
        course.handle(0, Message::Echoed { sent: 5, answered: 5 }, &mut seen).unwrap();
        course.handle(1, Message::Echoed { sent: 4, answered: 3 }, &mut seen).unwrap();
    }
    assert_eq!(seen.echoed, [(9, 8), (9, 8)]);
}

#[test]
fn a_generator_that_fails_ends_the_run_unless_it_was_done() {
    let (mut course, mut seen) = (Course::new(1), Seen::default());
    assert!(course.handle(0, Message::Failed("gone".to_owned()), &mut seen).is_err());
    course.handle(0, Message::Final(Box::default()), &mut seen).unwrap();
    assert!(course.handle(0, Message::Failed("gone".to_owned()), &mut seen).is_ok());
}

#[test]
fn accounts_and_latencies_add_up_and_rates_too() {
    let mut course = Course::new(2);
    let account = Account { sent: 12, answered: 12, connections: 1, ..Account::default() };
    let found = Final {
        tally: Tally { account, opened: 1, received: 12, errors: 0 },
        latency: vec![(1_000, 10)],
        measured: 10,
        measured_ns: 2_000_000_000,
        cpu_ns: 500_000_000,
        ..Final::default()
    };
    course.finals = vec![Some(found.clone()), Some(found)];
    let report = course.report(&settings(Pacing::Closed { depth: 1 }), SystemTime::now()).1;
    assert_eq!((report.account.sent, report.latency.as_ref().unwrap().count, report.duration_ms), (24, 20, 2_000));
    assert!((report.rate - 10.0).abs() < 1e-9 && (report.generator.busiest - 0.25).abs() < 1e-9);
    assert_eq!((report.generator.cpu_ms, report.generator.saturated.as_deref()), (1_000, None));
    assert!(verdict(&report).passes(), "{report:?}");
}

#[test]
fn a_generator_without_time_to_spare_or_behind_its_schedule_is_saturated() {
    let saturated = |pacing, cpu_ns, latest| {
        let found = Final { measured_ns: 1_000_000_000, cpu_ns, latest, ..Final::default() };
        effort(&settings(pacing), &[found]).saturated
    };
    let (closed, open) = (Pacing::Closed { depth: 1 }, Pacing::Open { rate: 1.0 });
    assert_eq!(saturated(closed, 800_000_000, u64::MAX), None);
    assert!(saturated(closed, 950_000_000, 0).unwrap().contains("95 % of the time"));
    assert_eq!(saturated(open, 800_000_000, 1_000_000), None);
    assert!(saturated(open, 100_000_000, 20_000_000).unwrap().contains("20.0 ms behind"));
}
