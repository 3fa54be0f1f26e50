//! One connection's protocol, without a socket.

use proptest::prelude::*;

use super::*;
use crate::load::plan::Shape;
use crate::proto::message::submitted_payload;
use crate::proto::{AuthReady, ErrorCode, ErrorReply, GoAway, GoAwayReason, GoAwayStage};

struct World {
    books: Books,
    pattern: Pattern,
    mix: Mix,
    pool: Pool,
    ids: Ids,
    acks: Acks,
    retry: bool,
    now: u64,
    link: Link,
    news: News,
}

impl World {
    /// Connected and READY; its first request will have seq 8.
    fn ready() -> World {
        let mut world = World::connected();
        world.server(|out| AUTH_READY.encode(out, 7));
        assert_eq!((world.link.state(), world.news.ready), (State::Ready, true));
        world
    }

    fn connected() -> World {
        let mut world = World {
            books: Books::new(Shape::Echo),
            pattern: Pattern::new(1, 1),
            mix: Mix::parse("m", MIX).unwrap(),
            pool: Vec::new(),
            ids: Ids::default(),
            acks: Acks { wanted: true, ..Acks::default() },
            retry: false,
            now: 100,
            link: Link::new(7),
            news: News::default(),
        };
        world.link.begin();
        world.with(|link, cx| link.handle_connected(cx, b"token", 40));
        world.write_all();
        world
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Link, &mut Cx<'_>) -> T) -> T {
        let (books, pattern, mix, pool) = (&mut self.books, &self.pattern, &self.mix, &mut self.pool);
        let (ids, acks, retry) = (&mut self.ids, &mut self.acks, self.retry);
        let news = News::default();
        let mut cx = Cx { books, pattern, mix, pool, ids, acks, retry, owner: 3, now: self.now, news };
        let result = act(&mut self.link, &mut cx);
        self.news = cx.news;
        result
    }

    fn write_all(&mut self) -> Vec<u8> {
        let bytes = self.link.output().to_vec();
        self.link.handle_written(bytes.len());
        bytes
    }

    /// Sends so many requests of a kind, and hands them to the system.
    fn send(&mut self, count: usize, kind: u16) -> Vec<u8> {
        (0..count).for_each(|_| self.with(|link, cx| link.request(cx, cx.now, kind, 20)));
        self.write_all()
    }

    fn server(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.take(&bytes).unwrap();
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.with(|link, cx| link.handle_input(cx, bytes))
    }

    fn end(&mut self, end: End) -> crate::load::report::Account {
        self.with(|link, cx| link.handle_end(cx, end));
        let account = self.books.tally.account;
        assert!(account.adds_up(), "{account:?}");
        assert_eq!(self.books.in_flight, 0);
        account
    }
}

const MIX: &str = "1 ECHO 20\n1 SESSION_GET\n1 0x20 5\n1 SUBMIT 20\n1 SESSION_PUT 20\n1 SESSION_DELETE";

const AUTH_READY: AuthReady =
    AuthReady { session: [9; 16], resumed: false, heartbeat_ms: 1_000, max_payload: 65_535, session_ttl_s: 60 };

fn goaway(stage: GoAwayStage, reason: GoAwayReason, last_seq: u32) -> impl FnOnce(&mut Vec<u8>) {
    move |out| {
        let addresses = vec!["127.0.0.1:9".to_owned()];
        GoAway { stage, reason, last_seq, deadline_ms: 0, reconnect_after_ms: 250, addresses }.encode(out);
    }
}

fn error(code: ErrorCode, seq: u32) -> impl FnOnce(&mut Vec<u8>) {
    move |out| ErrorReply { retry_after_ms: 70, ..ErrorReply::new(code, Command::ECHO, "no") }.encode(out, seq)
}

#[test]
fn a_right_reply_is_answered_and_its_latency_counts_from_when_it_was_meant_to_be_sent() {
    let mut world = World::ready();
    world.books.measure_from = 0;
    world.with(|link, cx| link.request(cx, 60, 0, 20));
    let sent = world.write_all();
    world.now = 1_060;
    // In pieces: what comes back is a stream.
    world.take(&sent[..10]).unwrap();
    world.take(&sent[10..]).unwrap();
    assert_eq!(world.books.latency.pairs(), [(1_000, 1)]);
    world.with(|link, cx| link.say_goodbye(cx, false));
    let bye = world.write_all();
    world.take(&bye).unwrap();
    let account = world.end(End::Eof);
    assert_eq!((account.sent, account.answered, account.connections, account.broken), (3, 3, 1, 0));
}

#[test]
fn a_wrong_payload_command_or_seq_is_wrong_and_its_request_is_lost() {
    let reply = |sent: &[u8], at: usize, xor: u8| {
        let mut reply = sent.to_vec();
        reply[at] ^= xor;
        reply
    };
    let mut world = World::ready();
    let sent = world.send(1, 0);
    world.take(&reply(&sent, 15, 1)).unwrap();
    assert_eq!((world.books.tally.account.wrong, world.books.tally.account.lost), (1, 1));
    let sent = world.send(1, 0);
    world.take(&reply(&sent, 8, 1)).unwrap();
    assert_eq!((world.books.tally.account.wrong, world.books.tally.account.lost), (2, 2));
    let sent = world.send(1, 0);
    assert!(world.take(&reply(&sent, 7, 64)).is_err());
    let account = world.end(End::Broken);
    assert_eq!((account.wrong, account.lost, account.unknown, account.broken), (3, 2, 1, 1));
}

#[test]
fn an_answer_that_comes_twice_is_wrong() {
    let mut world = World::ready();
    let sent = world.send(2, 0);
    let second = &sent[29..];
    world.take(second).unwrap();
    assert!(world.take(second).unwrap_err().contains("not open"));
}

#[test]
fn a_notice_is_answered_by_goaway_and_a_final_one_tells_what_is_safe_to_send_again() {
    let mut world = World::ready();
    let sent = world.send(3, 0);
    world.server(goaway(GoAwayStage::Notice, GoAwayReason::Drain, GoAway::NO_LAST_SEQ));
    assert_eq!(world.news.away, Some((250, vec!["127.0.0.1:9".to_owned()])));
    assert!(!world.link.can_send());
    assert_eq!(world.write_all(), [0x4D, 1, 0, 0, 0, 0, 0, 0, 5]);
    world.take(&sent[..29]).unwrap();
    world.server(goaway(GoAwayStage::Final, GoAwayReason::Drain, 8));
    let account = world.end(End::Eof);
    assert_eq!((account.sent, account.answered, account.safe, account.broken), (4, 2, 2, 0));
    // On the next connection they come first, with their old instants.
    world.link.begin();
    world.with(|link, cx| link.handle_connected(cx, b"", 0));
    let auth = world.write_all();
    assert_eq!(auth[1], 2, "AUTH has RESUME");
    world.server(|out| AUTH_READY.encode(out, 11));
    world.books.measure_from = 100;
    world.now = 600;
    assert!(world.with(|link, cx| link.send_again(cx)));
    let again = world.write_all();
    world.now = 1_100;
    world.take(&again).unwrap();
    assert_eq!(world.books.latency.pairs(), [(1_000, 2)]);
}

#[test]
fn what_was_accepted_and_not_answered_is_lost() {
    let mut world = World::ready();
    world.send(2, 0);
    world.server(goaway(GoAwayStage::Final, GoAwayReason::Drain, 8));
    let account = world.end(End::Eof);
    assert_eq!((account.lost, account.safe, account.unknown), (1, 1, 0));
}

#[test]
fn without_a_word_nobody_can_say_but_what_never_left_was_never_sent() {
    let mut world = World::ready();
    world.send(2, 0);
    world.with(|link, cx| link.request(cx, 0, 0, 20));
    world.link.handle_written(28); // all but a byte
    let account = world.end(End::Broken);
    assert_eq!((account.sent, account.unknown, account.broken), (3, 2, 1));
    assert!(world.link.sends_again());
}

#[test]
fn an_error_that_asks_for_a_retry_pauses_and_is_safe_another_one_is_a_failure() {
    let mut world = World::ready();
    world.send(3, 0);
    world.server(error(ErrorCode::Overloaded, 8));
    assert_eq!((world.news.pause_ms, world.link.can_send()), (Some(70), false));
    world.link.release();
    assert!(world.link.can_send() && world.link.sends_again());
    world.server(error(ErrorCode::Internal, 9));
    world.server(error(ErrorCode::NotFound, 10));
    let account = world.books.tally.account;
    assert_eq!((account.safe, account.failed, account.wrong), (1, 2, 0));
    assert_eq!((world.books.tally.received, world.books.tally.errors), (4, 3));
    // Only a key can be not there without anything being wrong.
    world.send(1, 1);
    world.server(error(ErrorCode::NotFound, 11));
    assert_eq!(world.books.tally.account.answered, 2);
}

#[test]
fn a_connection_that_is_turned_away_is_refused_and_its_auth_is_safe() {
    for (code, hopeless) in [(ErrorCode::Draining, false), (ErrorCode::Overloaded, false), (ErrorCode::Malformed, true)]
    {
        let mut world = World::connected();
        world.server(error(code, 0));
        assert_eq!(world.news.hopeless, hopeless, "{code}");
        let account = world.end(End::Eof);
        assert_eq!((account.refused, account.safe, account.broken, account.connections), (1, 1, 0, 0), "{code}");
    }
    let mut world = World::connected();
    world.server(error(ErrorCode::AuthFailed, 7));
    assert!(world.news.hopeless);
    let account = world.end(End::Eof);
    assert_eq!((account.refused, account.failed), (1, 1));
}

#[test]
fn heartbeats_are_answered_and_an_idle_connection_owns_nothing() {
    let mut world = World::ready();
    world.link.rest(&mut world.pool);
    assert!(world.link.work.is_none() && world.pool.len() == 1);
    world.server(|out| assert!(encode(out, 77, Command::PING, b"beat")));
    assert_eq!(world.write_all(), [0x4D, 1, 0, 4, 0, 0, 0, 77, 4, b'b', b'e', b'a', b't']);
    world.link.rest(&mut world.pool);
    assert!(world.link.work.is_none() && world.books.tally.account.heartbeats == 1);
}

#[test]
fn bytes_that_are_no_frame_and_an_end_within_one_are_wrong() {
    let mut world = World::ready();
    assert!(world.take(b"HTTP").is_err());
    assert_eq!(world.end(End::Broken).wrong, 1);
    let mut world = World::ready();
    world.take(&[0x4D, 1]).unwrap();
    assert_eq!(world.end(End::Eof).wrong, 1);
}

#[test]
fn a_body_over_the_servers_limit_is_not_tried() {
    let mut world = World::connected();
    world.server(|out| AuthReady { max_payload: 19, ..AUTH_READY }.encode(out, 7));
    assert!(world.news.hopeless);
}

/// What can happen to a connection.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, u16),
    Write(usize),
    /// The server answers this one of the requests, rightly or not.
    Reply(u32, u8),
    Error(u16, u32),
    GoAway(bool, bool, u32),
    Ping,
    Goodbye(bool),
    Bytes(Vec<u8>),
    Release,
    Again,
    Reconnect(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5usize, 0..6u16).prop_map(|(count, kind)| Step::Send(count, kind)),
        4 => (1..200usize).prop_map(Step::Write),
        6 => (0..12u32, prop_oneof![Just(0x10u8), Just(0x11), Just(0x12), Just(0x14), Just(0x20), Just(0x06), Just(0x02), any::<u8>()])
            .prop_map(|(seq, cmd)| Step::Reply(seq, cmd)),
        2 => (0..22u16, 0..12u32).prop_map(|(code, seq)| Step::Error(code, seq)),
        1 => (any::<bool>(), any::<bool>(), 0..12u32).prop_map(|(last, asked, seq)| Step::GoAway(last, asked, seq)),
        1 => Just(Step::Ping),
        1 => any::<bool>().prop_map(Step::Goodbye),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Bytes),
        1 => Just(Step::Release),
        1 => Just(Step::Again),
        1 => any::<bool>().prop_map(Step::Reconnect),
    ]
}

impl World {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let seq = |back: u32| self.link.next_seq.wrapping_sub(back);
        let mut bytes = Vec::new();
        match *step {
            Step::Send(count, kind) => {
                for _ in 0..count {
                    if self.link.can_send() && (!self.retry || !self.link.sends_again()) {
                        self.with(|link, cx| link.request(cx, cx.now, kind, 20));
                    }
                }
            }
            Step::Write(most) => self.link.handle_written(self.link.output().len().min(most)),
            Step::Reply(back, 0x10) => {
                let place = Place { owner: 3, seq: seq(back), number: 0 };
                self.pattern.encode(&mut bytes, place, Command::ECHO, 20);
            }
            Step::Reply(back, 0x14) => {
                let id = u64::from(seq(back));
                assert!(encode(&mut bytes, seq(back), Command::SUBMIT, &submitted_payload(id, id % 5 == 0)));
            }
            Step::Reply(back, 0x02) => AUTH_READY.encode(&mut bytes, seq(back)),
            Step::Reply(back, cmd) => assert!(encode(&mut bytes, seq(back), Command(cmd), b"")),
            Step::Error(code, back) => {
                let error = ErrorReply { code, cmd: 0, retry_after_ms: 0, text: "" };
                error.encode(&mut bytes, if back == 0 { 0 } else { seq(back) });
            }
            Step::GoAway(last, asked, back) => {
                let stage = if last { GoAwayStage::Final } else { GoAwayStage::Notice };
                let reason = if asked { GoAwayReason::Asked } else { GoAwayReason::Drain };
                goaway(stage, reason, seq(back))(&mut bytes);
            }
            Step::Ping => assert!(encode(&mut bytes, 5, Command::PING, b"x")),
            Step::Goodbye(keep) => self.with(|link, cx| link.say_goodbye(cx, keep)),
            Step::Bytes(ref some) => bytes.clone_from(some),
            Step::Release => self.link.release(),
            Step::Again => drop(self.with(|link, cx| link.send_again(cx))),
            Step::Reconnect(in_order) => {
                self.end(if in_order { End::Eof } else { End::Broken });
                self.link.begin();
                self.with(|link, cx| link.handle_connected(cx, b"token", 0));
                self.write_all();
                AUTH_READY.encode(&mut bytes, self.link.next_seq.wrapping_sub(1));
            }
        }
        self.take(&bytes)
    }
}

proptest! {
    /// Whatever a server does, every request has one fate, and no memory of it is left.
    #[test]
    fn every_account_adds_up(steps in prop::collection::vec(step(), 1..60), in_order: bool, retry: bool) {
        let mut world = World::ready();
        world.retry = retry;
        for step in &steps {
            if world.step(step).is_err() {
                world.end(End::Broken);
                break;
            }
            let books = &world.books;
            let account = &books.tally.account;
            let open = world.link.in_flight() as u64;
            prop_assert!(account.settled() + open == account.sent && books.in_flight <= open, "{account:?}, {open}");
        }
        world.end(if in_order { End::Eof } else { End::Broken });
        world.with(|link, cx| link.abandon(cx));
        prop_assert!(world.books.tally.account.adds_up());
        let work = world.link.work.take();
        prop_assert!(work.is_none_or(|work| work.is_idle()));
    }
}

#[path = "retry_tests.rs"]
mod retry;
