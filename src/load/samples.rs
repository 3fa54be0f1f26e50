//! Reports as runs make them, for tests: a success, a restart in the middle, a run gone wrong, and
//! the ends of what a report can hold.

use super::report::{Account, Event, Generator, Latency, LedgerCheck, Point, Report};

/// Sixty seconds of echo, nothing else.
pub(super) fn success() -> Report {
    let timeline: Vec<Point> = (0..240).map(|at| point(at, 250, 48_000.0, 10_000)).collect();
    let answered = timeline.iter().map(|p| p.answered).sum::<u64>() + 20_000;
    Report {
        version: "0.1.0".into(),
        shape: "echo".into(),
        address: "192.0.2.10:7000".into(),
        started: "2026-03-14T09:26:53Z".into(),
        settings: settings(&[("connections", "10,000"), ("depth", "1"), ("payload", "32 B"), ("duration", "60 s")]),
        missing: 0,
        duration_ms: 60_000,
        rate: 48_012.4,
        account: Account { sent: answered, answered, connections: 10_000, heartbeats: 20_000, ..Account::default() },
        latency: Some(distribution(answered, |nines| 2.05e5 * (1.0 + nines * nines * 0.42))),
        connect: Some(distribution(10_000, |nines| 3.8e5 * (1.0 + nines * 0.9))),
        timeline,
        events: vec![],
        errors: vec![],
        generator: Generator { processes: 1, cpu_ms: 38_400, busiest: 0.64, latest: 0, saturated: None },
        ledger: None,
    }
}

/// A drain and a restart in the middle: the rate is nothing for a while, then all come back at once.
pub(super) fn restart() -> Report {
    let timeline: Vec<Point> = (0..240).map(restarted).collect();
    let answered = timeline.iter().map(|p| p.answered).sum::<u64>() + 9_999;
    let safe = 1_204;
    let account =
        Account { sent: answered + safe, answered, safe, connections: 9_998, heartbeats: 12_043, ..Account::default() };
    Report {
        shape: "rate".into(),
        settings: settings(&[
            ("connections", "5,000"),
            ("rate", "20,000 /s"),
            ("payload", "32 B"),
            ("duration", "60 s"),
            ("ledger", "/var/lib/tidegate/audit.jsonl"),
        ]),
        rate: answered as f64 / 60.0,
        account,
        latency: Some(distribution(answered, |nines| match nines {
            0.0..1.2 => 1.7e5 * (1.0 + nines * 0.5),
            1.2..1.7 => 2.7e5 * 10f64.powf((nines - 1.2) * 6.6),
            _ => 2.68e9 - 2.1e9 / (1.0 + (nines - 1.7) * 8.0),
        })),
        connect: Some(distribution(9_998, |nines| 4.1e5 * (1.0 + nines * nines * 4.0))),
        timeline,
        events: vec![
            event(28_300, "drain", "the server says that it is going: GOAWAY, stage 0"),
            event(29_410, "final", "GOAWAY of stage 1: what was sent after it is safe to retry"),
            event(32_050, "restart", "connections are let in again"),
        ],
        errors: vec![("DRAINING: the server is going, retry elsewhere".into(), 1_180)],
        generator: Generator { processes: 2, cpu_ms: 41_020, busiest: 0.37, latest: 812_000, saturated: None },
        ledger: Some(LedgerCheck {
            ledgers: 2,
            accepted: answered + 1_180,
            answered,
            failed: 1_180,
            cut: 0,
            undelivered: 0,
            differences: vec![],
        }),
        ..success()
    }
}

/// Everything wrong at once, with text that would like to be markup.
pub(super) fn bad() -> Report {
    let mut timeline: Vec<Point> = (0..120).map(|at| point(at, 500, 61_000.0, 20_000)).collect();
    for (at, point) in timeline.iter_mut().enumerate() {
        let fall = if at >= 70 { 1 + at as u64 % 3 } else { 0 };
        point.errors = if at == 70 { 8_120 } else { [0, 40, 3, 118][fall as usize] };
        point.connections -= if at >= 70 { 4_060 } else { 0 };
        point.answered -= point.answered / 5 * u64::from(at >= 70);
        (point.p99, point.max) = (point.p99 * (1 + 6 * fall), point.max * (1 + 20 * fall));
    }
    let answered = timeline.iter().map(|p| p.answered).sum::<u64>();
    let account = Account {
        sent: answered + 320 + 41 + 9_020 + 17,
        answered,
        failed: 320,
        safe: 41,
        unknown: 9_020,
        lost: 17,
        wrong: 3,
        connections: 20_000,
        broken: 4_060,
        refused: 212,
        heartbeats: 81_220,
        ..Account::default()
    };
    let mut events = vec![event(35_210, "lost connection", "10.1.0.7:7000: <b>Connection reset by peer</b>")];
    events.extend((0..6).map(|n| event(36_000 + n * 400, "lost connection", "Connection reset by peer")));
    Report {
        shape: "mix".into(),
        address: "tls://gateway.example.internal:7443/<script>alert(1)</script>".into(),
        settings: settings(&[("connections", "20,000"), ("mix", "echo=4,hold=2,\"idle\"=1"), ("seed", "<5>")]),
        rate: answered as f64 / 60.0,
        account,
        latency: Some(distribution(answered, |nines| 4.0e5 * (1.0 + nines.powi(4)))),
        connect: Some(distribution(20_000, |nines| 9.0e5 * (1.0 + nines * nines * 9.0))),
        timeline,
        events,
        errors: vec![
            ("Connection reset by peer (os error 104)".into(), 4_060),
            ("INTERNAL: <img src=x onerror=alert(1)> \x1b[31mhandler panicked\x1b[0m".into(), 320),
            ("Cannot assign requested address (os error 99)".into(), 212),
            ("reply with the wrong payload".into(), 3),
        ],
        generator: Generator {
            processes: 1,
            cpu_ms: 59_310,
            busiest: 0.99,
            latest: 0,
            saturated: Some("a process of it ran 99 % of the time; add processes, or ask for less".into()),
        },
        ledger: Some(LedgerCheck {
            ledgers: 1,
            accepted: answered + 340,
            answered: answered + 20,
            failed: 320,
            cut: 0,
            undelivered: 4,
            differences: vec![
                "the server answered 20 requests more than the clients saw answered".into(),
                "17 requests were accepted by the clients' count, and are in no ledger".into(),
            ],
        }),
        ..success()
    }
}

/// Nothing happened at all.
pub(super) fn nothing() -> Report {
    Report {
        settings: vec![],
        missing: 0,
        duration_ms: 0,
        rate: f64::NAN,
        account: Account::default(),
        latency: None,
        connect: None,
        timeline: vec![],
        generator: Generator::default(),
        ..success()
    }
}

/// One request, one interval.
pub(super) fn single() -> Report {
    let one = Latency { count: 1, min: 93_000, mean: 93_000.0, max: 93_000, percentiles: vec![(100.0, 93_000, 1)] };
    Report {
        missing: 0,
        duration_ms: 1,
        rate: 1000.0,
        account: Account { sent: 1, answered: 1, connections: 1, ..Account::default() },
        latency: Some(one.clone()),
        connect: Some(one),
        timeline: vec![Point {
            at_ms: 1,
            length_ms: 1,
            answered: 1,
            connections: 1,
            p50: 93_000,
            p99: 93_000,
            max: 93_000,
            ..Point::default()
        }],
        ..success()
    }
}

/// A hundred thousand intervals, one of them without an answer and one far slower than the others.
pub(super) fn long() -> Report {
    let mut timeline: Vec<Point> = (0..100_000).map(|at| point(at, 1000, 48_000.0, 10_000)).collect();
    timeline[40_001].answered = 0;
    timeline[70_001].max = 77_000_000_000;
    timeline[70_001].errors = 1;
    let events = (0..5000).map(|n| event(n * 20_000, "lost connection", "Connection reset by peer")).collect();
    Report { duration_ms: 100_000_000, timeline, events, ..success() }
}

/// Every figure as large as it gets.
pub(super) fn huge() -> Report {
    let most = u64::MAX;
    let point = Point {
        at_ms: most,
        length_ms: most,
        answered: most,
        errors: most,
        connections: most,
        p50: most,
        p99: most,
        max: most,
    };
    let latency =
        Latency { count: most, min: most, mean: f64::INFINITY, max: most, percentiles: vec![(100.0, most, most)] };
    Report {
        shape: "long ".repeat(200),
        address: "wide 水".repeat(100),
        started: "x".repeat(300),
        settings: settings(&[("a name".repeat(40).as_str(), "a value".repeat(90).as_str())]),
        missing: 0,
        duration_ms: most,
        rate: f64::MAX,
        account: Account {
            sent: most,
            answered: most,
            failed: most,
            safe: most,
            retried: most,
            unknown: most,
            lost: most,
            wrong: most,
            duplicates: most,
            forgotten: most,
            connections: most,
            broken: most,
            refused: most,
            heartbeats: most,
        },
        latency: Some(latency.clone()),
        connect: Some(latency),
        timeline: vec![Point { length_ms: 0, at_ms: 0, ..point }, point],
        events: vec![event(most, &"kind".repeat(50), &"text".repeat(100))],
        errors: vec![("no spaces".repeat(100), most)],
        generator: Generator {
            processes: most,
            cpu_ms: most,
            busiest: f64::INFINITY,
            latest: most,
            saturated: Some("why ".repeat(60)),
        },
        ledger: Some(LedgerCheck {
            ledgers: most,
            accepted: most,
            answered: most,
            failed: most,
            cut: most,
            undelivered: most,
            differences: vec!["difference ".repeat(40)],
        }),
        ..success()
    }
}

/// All of them, by name.
pub(super) fn all() -> Vec<(&'static str, Report)> {
    vec![
        ("success", success()),
        ("restart", restart()),
        ("bad", bad()),
        ("nothing", nothing()),
        ("single", single()),
        ("long", long()),
        ("huge", huge()),
    ]
}

/// Where nothing disturbs: a little noise, the same in each run.
fn point(at: u64, length_ms: u64, rate: f64, connections: u64) -> Point {
    let noise = noise(at);
    Point {
        at_ms: (at + 1) * length_ms,
        length_ms,
        answered: (rate * (1.0 + 0.04 * (noise - 0.5)) * length_ms as f64 / 1000.0) as u64,
        errors: 0,
        connections,
        p50: (2.0e5 * (1.0 + 0.1 * noise)) as u64,
        p99: (4.3e5 * (1.0 + 0.4 * noise)) as u64,
        max: (1.4e6 * (1.0 + 3.0 * noise.powi(3))) as u64,
    }
}

/// The drain is announced in interval 113, the gate opens again in 128.
fn restarted(at: u64) -> Point {
    let mut point = point(at, 250, 20_000.0, 5_000);
    match at {
        114..118 => point.connections = 5_000 - (at - 113) * 1_250,
        118..128 => {
            point = Point { at_ms: point.at_ms, length_ms: 250, ..Point::default() };
        }
        128..136 => {
            let late = 2.68e9 / f64::powi(2.2, at as i32 - 128);
            point.answered += point.answered * (136 - at) / 3;
            point.connections = (1_250 * (at - 127)).min(5_000);
            (point.p50, point.p99, point.max) = ((late * 0.8) as u64, (late * 0.98) as u64, late as u64);
        }
        _ => {}
    }
    point.errors = if at == 117 { 1_180 } else { 0 };
    point
}

/// The steps of HdrHistogram: five to each halving of the distance to 100. `ns` is given the number of
/// nines: 1 at 90 %, 2 at 99 %.
fn distribution(count: u64, ns: impl Fn(f64) -> f64) -> Latency {
    let most = (count as f64).log10();
    let mut percentiles = vec![];
    let (mut p, mut step) = (0.0, 10.0);
    while 1.0 - p / 100.0 > 1.0 / count as f64 {
        let nines = -(1.0 - p / 100.0).log10();
        percentiles.push((p, ns(nines) as u64, ((p / 100.0 * count as f64).ceil() as u64).max(1)));
        p += step;
        if (100.0 - p) <= step * 5.0 {
            step /= 2.0;
        }
    }
    percentiles.push((100.0, ns(most) as u64, count));
    let mean = ns(0.3);
    Latency { count, min: ns(0.0) as u64, mean, max: ns(most) as u64, percentiles }
}

/// From 0 to 1.
fn noise(at: u64) -> f64 {
    let mixed = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

fn event(at_ms: u64, kind: &str, text: &str) -> Event {
    Event { at_ms, kind: kind.into(), text: text.into() }
}

fn settings(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}
