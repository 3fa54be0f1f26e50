use super::*;

const STAMP: Stamp = Stamp { seed: 7, batch: 3, synced: 4096 };

fn view(bytes: &[u8]) -> View<'_> {
    match View::parse(bytes, STAMP.seed, |_| true) {
        Parsed::Record(view) => view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_comes_back_as_it_was_with_any_of_its_options() {
    for bits in 0..8u8 {
        let has = |bit: u8| bits & bit != 0;
        let draft = Draft {
            topic: "grüße/1",
            principal: "anna",
            key: has(KEY).then_some([1; 16]),
            trace: has(TRACE).then_some(Trace { trace_id: [2; 16], span_id: [3; 8], flags: 1 }),
            session: has(SESSION).then_some([4; 16]),
            body: b"body",
        };
        let mut bytes = Vec::new();
        put_message(&mut bytes, STAMP, 5, 6, &draft);
        assert_eq!(Some(bytes.len()), message_len(&draft));
        let message = view(&bytes).message();
        assert_eq!((message.id, message.time_ms), (5, 6));
        let back = Draft {
            topic: &message.topic,
            principal: &message.principal,
            key: message.key,
            trace: message.trace,
            session: message.session,
            body: &message.body,
        };
        assert_eq!(format!("{back:?}"), format!("{draft:?}"));
    }
}

#[test]
fn progress_and_tables_come_back_and_too_many_ids_beyond_lose_the_highest() {
    let pattern = TopicPattern::parse("orders/#").unwrap();
    let progress = Progress { upto: 9, beyond: (11..100_000).collect() };
    let mut bytes = Vec::new();
    put_progress(&mut bytes, STAMP, 1, (&pattern, 2), &progress);
    assert_eq!(bytes.len(), progress_len(&pattern, 2, &progress));
    let (whose, back) = view(&bytes).progress().unwrap();
    assert_eq!((whose, back.upto, back.beyond.len()), ("orders/#", 9, most_ids(2)));
    assert_eq!(back.beyond, progress.beyond[..back.beyond.len()]);

    let longest = TopicPattern::parse(&"x".repeat(255)).unwrap();
    let routes: Vec<_> =
        (0..crate::limits::MAX_SINK_ROUTES).map(|i| LogRoute { pattern: longest.clone(), keeps: i % 2 == 1 }).collect();
    let mut bytes = Vec::new();
    put_table(&mut bytes, STAMP, 1, routes.iter().map(|r| (r, &progress)));
    assert!(bytes.len() <= MAX_RECORD, "{}", bytes.len());
    let table = view(&bytes).table().unwrap();
    assert!(table.iter().map(|(route, _)| route).eq(routes.iter()));
    assert!(table.iter().all(|(_, p)| p.upto == 9 && p.beyond[..] == progress.beyond[..p.beyond.len()]));
}

#[test]
fn a_record_with_any_bit_changed_or_in_another_segment_is_none() {
    let draft = Draft { topic: "t", principal: "p", key: Some([1; 16]), trace: None, session: None, body: b"b" };
    let mut bytes = Vec::new();
    put_message(&mut bytes, STAMP, 5, 6, &draft);
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(View::parse(&bad, STAMP.seed, |_| true), Parsed::Record(_)), "{bit}");
    }
    assert!(matches!(View::parse(&bytes, 8, |_| true), Parsed::Invalid(_)));
    for cut in 0..bytes.len() {
        assert!(matches!(View::parse(&bytes[..cut], STAMP.seed, |_| true), Parsed::Needs(n) if n > cut));
    }
}

#[test]
fn what_is_lost_is_replaced_to_the_byte() {
    for bytes in [HEAD, 100, MAX_RECORD, MAX_RECORD + 1, 5 * MAX_RECORD / 2] {
        let mut out = Vec::new();
        put_lost(&mut out, STAMP, 7, bytes);
        assert_eq!(out.len(), bytes);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let lost = view(rest);
            assert_eq!((lost.kind, lost.id), (Kind::Lost, 7));
            rest = &rest[lost.len()..];
        }
    }
}

#[test]
fn what_is_too_long_for_a_record_is_said_so() {
    let long = "x".repeat(MAX_BODY + 1);
    let draft = Draft { topic: "t", principal: "p", key: None, trace: None, session: None, body: b"" };
    assert_eq!(message_len(&Draft { body: long.as_bytes(), ..draft }), None);
    assert_eq!(message_len(&Draft { topic: &long[..256], ..draft }), None);
    assert_eq!(message_len(&Draft { principal: &long[..MAX_PRINCIPAL + 1], ..draft }), None);
}
