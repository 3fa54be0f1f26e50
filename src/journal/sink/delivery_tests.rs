use std::sync::atomic::{AtomicBool, Ordering};

use super::super::testing::{Fake, Reaction, Scripted, message};
use super::*;
use crate::config::{SinkKind, SinkSpec};
use crate::journal::sink::{Down, Outcome};
use crate::journal::{Message, TopicPattern};

const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    let sink = SinkSpec { kind: SinkKind::Handler, argument: "x".to_owned() };
    let sinks = vec![SinkRoute { pattern: TopicPattern::parse("#").unwrap(), sink }, SinkRoute::keep_all()];
    Config { sinks, sink_timeout: Duration::from_millis(1), ..Config::default() }
}

fn start(config: &Config, fake: &Fake, sink: impl Sink + 'static) -> Delivery {
    Delivery::start(config, vec![Some(Box::new(sink)), None], Arc::new(fake.clone())).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// A sink that hangs while it is told to.
struct Hanging(Arc<AtomicBool>);

impl Sink for Hanging {
    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        while self.0.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        outcomes.extend(messages.iter().map(|_| Outcome::Delivered));
        Ok(())
    }
}

#[test]
fn a_new_message_wakes_its_route_at_once() {
    let fake = Fake::default();
    let delivery = start(&config(), &fake, Scripted::new(&fake, |_, _| Reaction::Take));
    for id in 1..=20 {
        fake.add(message(id, "a", "x"));
        // Longer than IDLE would take without the wake-up.
        until("it is delivered", || fake.taken().last() == Some(&id));
    }
    until("its view has it", || delivery.views()[0].delivered == 20);
    let views = delivery.views();
    assert_eq!((views[0].kind, views[0].target.as_str(), views[0].pattern.as_str()), ("handler", "x", "#"));
    assert_eq!((views[0].done, views[0].down.clone(), views[1].kind), (20, None, "none"));
}

#[test]
fn the_end_delivers_what_is_durable_and_reports_it() {
    let fake = Fake::default();
    let delivery = start(&config(), &fake, Scripted::new(&fake, |_, _| Reaction::Take));
    (1..=5_000).for_each(|id| fake.world().messages.push(message(id, "a", "x")));
    let left = delivery.flush(Instant::now() + PATIENCE);
    assert_eq!(left, Left { delivered: vec![5_000, 0], unfinished: vec![0, 0], hung: vec![] });
}

#[test]
fn a_sink_that_is_down_is_not_waited_for_and_what_is_left_is_told() {
    let config = Config { sink_backoff: PATIENCE * 100, sink_backoff_max: PATIENCE * 100, ..config() };
    let fake = Fake::with(vec![message(1, "a", "x"), message(2, "a", "x")]);
    let delivery = start(&config, &fake, Scripted::new(&fake, |_, _| Reaction::Down));
    until("it is known to be down", || delivery.views()[0].down.as_deref() == Some("gone"));
    let view = &delivery.views()[0];
    assert_eq!((view.behind, view.failures), (2, 1));
    assert!(view.lag > Duration::from_secs(1), "they were stored in 1970: {:?}", view.lag);
    let begun = Instant::now();
    let left = delivery.flush(begun + PATIENCE);
    assert_eq!((left.delivered[0], left.unfinished[0], left.hung.len()), (0, 2, 0));
    assert!(begun.elapsed() < PATIENCE, "neither the backoff nor the deadline was waited for");
}

#[test]
fn the_end_comes_at_its_deadline_with_a_sink_that_is_slow() {
    let fake = Fake::with((1..=1_000_000).map(|id| message(id, "a", "x")).collect());
    let slow = Scripted::new(&fake, |_, _| {
        std::thread::park_timeout(Duration::from_millis(1));
        Reaction::Take
    });
    let delivery = start(&Config { sink_batch: 10, ..config() }, &fake, slow);
    let begun = Instant::now();
    let left = delivery.flush(begun + Duration::from_millis(300));
    assert!(begun.elapsed() < PATIENCE && left.hung.is_empty());
    let delivered = left.delivered[0];
    assert!(delivered > 0 && left.unfinished[0] == 1_000_000 - delivered, "{left:?}");
}

#[test]
fn a_sink_that_hangs_is_seen_and_left_behind() {
    let fake = Fake::with(vec![message(1, "a", "x")]);
    let hangs = Arc::new(AtomicBool::new(true));
    let delivery = start(&config(), &fake, Hanging(Arc::clone(&hangs)));
    until("the view says so", || delivery.views()[0].down.as_deref().is_some_and(|why| why.contains("hangs")));
    let left = delivery.flush(Instant::now());
    assert_eq!((left.hung, left.unfinished[0]), (vec!["#".to_owned()], 1));
    hangs.store(false, Ordering::Relaxed);
}

#[test]
fn a_name_of_no_consumer_is_told_with_its_route() {
    let error = make_all(&config(), &Handlers::default()).err().unwrap();
    assert!(error.starts_with("TIDEGATE_SINKS: #: handler:x: "), "{error}");
}
