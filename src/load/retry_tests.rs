//! What was promised, over losses of the connection.

use super::*;

const ECHO: u16 = 0;
const GET: u16 = 1;
const SUBMIT: u16 = 3;
const PUT: u16 = 4;
const DELETE: u16 = 5;

/// What a server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    seq: u32,
    cmd: Command,
    key: Option<[u8; 16]>,
    payload: Vec<u8>,
}

impl World {
    fn with_retry() -> World {
        let mut world = World::connected();
        world.retry = true;
        world.server(|out| AUTH_READY.encode(out, 7));
        world
    }

    /// All that the server gets now, the generator having sent what it can.
    fn got(&mut self) -> Vec<Got> {
        self.with(|link, cx| link.send_again(cx));
        let bytes = self.write_all();
        let (mut decoder, mut input, mut got) = (FrameDecoder::new(MAX_BODY), &bytes[..], Vec::new());
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            let key = frame.extensions.idempotency();
            got.push(Got { seq: frame.seq, cmd: frame.cmd, key, payload: frame.payload.to_vec() });
        }
        got
    }

    fn ask(&mut self, kind: u16) -> Vec<Got> {
        self.with(|link, cx| link.request(cx, cx.now, kind, 20));
        self.got()
    }

    fn answer(&mut self, to: &Got, payload: &[u8]) {
        self.server(|out| assert!(encode(out, to.seq, to.cmd, payload)));
    }

    fn submitted(&mut self, to: &Got, id: u64, duplicate: bool) {
        self.answer(to, &submitted_payload(id, duplicate));
    }

    /// The server dies, and is there again. What it gets then, behind AUTH.
    fn lose(&mut self, resumed: bool) -> Vec<Got> {
        self.end(End::Broken);
        self.link.begin();
        self.with(|link, cx| link.handle_connected(cx, b"token", 0));
        let auth = self.got();
        self.server(|out| AuthReady { resumed, ..AUTH_READY }.encode(out, auth[0].seq));
        self.got()
    }

    fn acks(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.acks.lines)).unwrap()
    }

    fn wrong(&self) -> u64 {
        self.books.tally.account.wrong
    }
}

#[test]
fn a_message_whose_answer_is_lost_is_sent_again_with_its_key_and_may_be_a_duplicate() {
    let mut world = World::with_retry();
    let [first] = &world.ask(SUBMIT)[..] else { panic!() };
    let first = first.clone();
    assert!(first.key.is_some() && first.payload.starts_with(b"\x06load/3"));
    assert_eq!(world.ask(SUBMIT), [], "a topic has one message in flight");
    assert_eq!(world.link.in_flight(), 1);
    let again = world.lose(true);
    assert_eq!((again.len(), again[0].key, &again[0].payload), (1, first.key, &first.payload));
    world.submitted(&again[0], 5, true);
    let second = world.got();
    assert!(second.len() == 1 && second[0].key != first.key);
    world.submitted(&second[0], 9, false);
    let account = world.end(End::Eof);
    assert_eq!((account.retried, account.duplicates, account.wrong, account.unknown), (1, 1, 0, 0), "{account:?}");
    let acks = world.acks();
    let submits: Vec<&str> = acks.lines().filter(|line| line.contains("\"submit\"")).collect();
    assert!(submits[0].contains("\"id\":5,\"duplicate\":true,\"seq_in_topic\":0"), "{acks}");
    assert!(submits[1].contains("\"id\":9,\"duplicate\":false,\"seq_in_topic\":1"), "{acks}");
}

#[test]
fn ids_that_break_the_promise_are_wrong() {
    for (second, duplicate, part) in [(9, true, "never sent before"), (4, false, "not above"), (5, false, "not above")]
    {
        let mut world = World::with_retry();
        let first = world.ask(SUBMIT);
        world.submitted(&first[0], 5, false);
        assert_eq!(world.wrong(), 0);
        let next = world.ask(SUBMIT);
        world.submitted(&next[0], second, duplicate);
        assert_eq!((world.wrong(), world.books.tally.account.lost), (1, 1));
        assert!(world.books.errors.latest().unwrap().contains(part), "{:?}", world.books.errors);
    }
    let mut world = World::with_retry();
    world.ids.take(5);
    let first = world.ask(SUBMIT);
    world.submitted(&first[0], 5, false);
    assert!(world.books.errors.latest().unwrap().contains("another message"), "{:?}", world.books.errors);
}

#[test]
fn without_retry_ids_rise_on_one_connection_and_the_next_may_lead_to_another_server() {
    let mut world = World::ready();
    world.send(3, SUBMIT);
    for (seq, id) in [(8, 5), (10, 9), (9, 7)] {
        world.server(|out| assert!(encode(out, seq, Command::SUBMIT, &submitted_payload(id, false))));
    }
    assert_eq!(world.wrong(), 0);
    world.lose(false);
    world.send(1, SUBMIT);
    let seq = world.link.next_seq.wrapping_sub(1);
    world.server(|out| assert!(encode(out, seq, Command::SUBMIT, &submitted_payload(1, false))));
    assert_eq!((world.wrong(), world.link.in_flight()), (0, 0));
    for wrong in [&[0u8; 9][..], &[0, 0, 0, 0, 0, 0, 0, 2]] {
        world.send(1, SUBMIT);
        let seq = world.link.next_seq.wrapping_sub(1);
        world.server(|out| assert!(encode(out, seq, Command::SUBMIT, wrong)));
    }
    assert_eq!(world.wrong(), 2);
}

#[test]
fn after_a_resume_each_value_is_read_again_and_must_be_the_last_acknowledged_one() {
    let value = |put: &Got| put.payload[7..].to_vec();
    let mut world = World::with_retry();
    let puts: Vec<Got> = (0..9).flat_map(|_| world.ask(PUT)).collect();
    assert_eq!(puts.len(), 8, "the ninth waits for the first: they have one key");
    puts.iter().for_each(|put| world.answer(put, b""));
    let ninth = world.got();
    world.answer(&ninth[0], b"");
    let checks = world.lose(true);
    assert_eq!(checks.len(), 8);
    assert!(checks.iter().all(|check| check.cmd == Command::SESSION_GET));
    for check in &checks {
        let key = usize::from(check.payload[5] - b'0');
        world.answer(check, &value(if key == 0 { &ninth[0] } else { &puts[key] }));
    }
    assert_eq!((world.wrong(), world.link.in_flight()), (0, 0));
    // An older value, none, and one of another length.
    let checks = world.lose(true);
    world.answer(&checks[0], &value(&puts[0]));
    world.server(error(ErrorCode::NotFound, checks[1].seq));
    world.answer(&checks[2], &value(&puts[2])[..19]);
    assert_eq!((world.wrong(), world.books.tally.account.lost), (3, 3), "{:?}", world.books.errors);
    world.lose(false);
    assert_eq!(world.books.tally.account.forgotten, 8);
    assert_eq!(world.acks().matches("\"kind\":\"put\"").count(), 9);
}

#[test]
fn a_deletion_that_was_processed_and_not_answered_is_no_loss() {
    let mut world = World::with_retry();
    let put = world.ask(PUT);
    world.answer(&put[0], b"");
    (0..7).for_each(|_| drop(world.ask(GET)));
    (0..7).for_each(|n| world.server(error(ErrorCode::NotFound, put[0].seq + 1 + n)));
    let delete = world.ask(DELETE);
    assert_eq!(delete[0].payload, b"load-0");
    let again = world.lose(true);
    assert_eq!((again[0].cmd, &again[0].payload[..]), (Command::SESSION_DELETE, &b"load-0"[..]));
    world.server(error(ErrorCode::NotFound, again[0].seq));
    let check = world.got();
    assert_eq!((check.len(), &check[0].payload[..]), (1, &b"load-0"[..]));
    world.server(error(ErrorCode::NotFound, check[0].seq));
    assert_eq!(world.wrong(), 0, "{:?}", world.books.errors);
}

#[test]
fn what_is_unavailable_is_sent_again_after_a_pause_and_before_what_waits_for_it() {
    let mut world = World::with_retry();
    let first = world.ask(SUBMIT);
    assert_eq!(world.ask(SUBMIT), []);
    world.server(|out| ErrorReply::new(ErrorCode::Unavailable, Command::SUBMIT, "no").encode(out, first[0].seq));
    assert_eq!(world.news.pause_ms, Some(100));
    assert_eq!(world.got(), []);
    world.link.release();
    let again = world.got();
    assert_eq!((again.len(), again[0].key), (1, first[0].key));
    world.submitted(&again[0], 3, true);
    let account = world.books.tally.account;
    assert_eq!((account.retried, account.failed, account.wrong, account.duplicates), (1, 0, 0, 1));
    // Without --retry it has failed.
    let mut world = World::ready();
    world.send(1, SUBMIT);
    world.server(error(ErrorCode::Unavailable, 8));
    assert_eq!((world.books.tally.account.failed, world.link.sends_again()), (1, false));
}

#[test]
fn what_is_never_answered_in_the_end_has_an_unknown_fate() {
    let mut world = World::with_retry();
    world.ask(ECHO);
    world.ask(SUBMIT);
    assert_eq!(world.ask(SUBMIT), []);
    assert_eq!(world.end(End::Broken).retried, 2);
    world.with(|link, cx| link.abandon(cx));
    let account = world.books.tally.account;
    assert_eq!((account.retried, account.unknown, account.adds_up()), (0, 2, true), "{account:?}");
}
