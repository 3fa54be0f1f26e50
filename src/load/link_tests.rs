//! One connection's protocol, without a socket.

use super::*;
use crate::load::plan::Shape;
use crate::proto::{AuthReady, ErrorCode, ErrorReply, GoAway, GoAwayReason, GoAwayStage};

struct World {
    books: Books,
    pattern: Pattern,
    mix: Mix,
    pool: Pool,
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
            pattern: Pattern::new(1),
            mix: Mix::parse("m", "1 ECHO 20\n1 SESSION_GET\n1 0x20 5").unwrap(),
            pool: Vec::new(),
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
        let mut cx = Cx { books, pattern, mix, pool, owner: 3, now: self.now, news: News::default() };
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
