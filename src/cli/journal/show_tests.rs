//! What people see.

use tidegate::journal::{Damage, LogRoute, Progress, TopicPattern};

use super::*;

fn message(topic: &str, body: &[u8]) -> Message {
    Message {
        id: 17,
        time_ms: 1_000_000_000_250,
        topic: topic.to_owned(),
        principal: "me".to_owned(),
        key: None,
        trace: None,
        session: None,
        body: body.to_vec(),
    }
}

fn shown(topic: &str, body: &[u8]) -> String {
    let mut out = Vec::new();
    line(&mut out, &message(topic, body));
    String::from_utf8(out).unwrap()
}

fn segment_of(n: u64) -> SegmentReport {
    SegmentReport {
        file: format!("{n:020}.log"),
        len: 67_108_864,
        used: 1_234,
        messages: 10 * n,
        first_id: 10 * n,
        last_id: 20 * n,
        first_ms: 0,
        last_ms: 1_000,
    }
}

fn damaged() -> Report {
    let damage = Damage { file: "1.log".to_owned(), offset: 77, what: "a wrong checksum".to_owned() };
    Report {
        segments: vec![segment_of(0), segment_of(1)],
        losses: vec![Loss { damage, bytes: 1_500, ids: Some((5, 9)) }],
        torn: 1,
        ..Report::default()
    }
}

#[test]
fn a_message_is_a_line_with_its_columns_in_their_places() {
    assert_eq!(
        shown("orders/eu", b"hello = \xc3\xbc"),
        "      17  2001-09-09T01:46:40.250Z  orders/eu             me            hello = ü\n"
    );
    assert!(shown("t", b"").ends_with("  (empty)\n"));
}

#[test]
fn a_body_that_is_no_text_is_hex_and_a_long_one_is_cut_with_its_length() {
    assert!(shown("t", &[0, 255]).ends_with("  0x00ff (2 bytes)\n"));
    assert!(shown("t", &[0; 40]).ends_with(&format!("  0x{}… (40 bytes)\n", "00".repeat(32))));
    assert!(shown("t", "ü".repeat(201).as_bytes()).ends_with("üü… (402 bytes)\n"));
    assert!(shown("t", "ü".repeat(200).as_bytes()).ends_with("üü\n"));
}

#[test]
fn nothing_that_is_shown_commands_a_terminal_or_breaks_a_line() {
    for text in ["\u{1b}[2J", "a\nb", "a\u{202e}b", "\u{9b}2J", "a\u{2028}b"] {
        let line = shown(text, text.as_bytes());
        assert!(line.trim_end_matches('\n').chars().all(is_shown) && line.contains("0x"), "{line:?}");
    }
}

#[test]
fn the_listing_has_segments_their_sum_and_each_routes_progress() {
    let route = |pattern: &str, keeps, beyond: &[u64], unfinished| RouteReport {
        route: LogRoute { pattern: TopicPattern::parse(pattern).unwrap(), keeps },
        progress: Progress { upto: 1_000, beyond: beyond.to_vec() },
        unfinished,
    };
    let report = Report {
        segments: vec![segment_of(0), segment_of(100)],
        routes: vec![route("orders/#", false, &[1_002, 1_004], 12_345), route("*", true, &[], 0)],
        ..Report::default()
    };
    let text = listing(&report);
    let wanted = "\
segment                         bytes   used  messages  first id  last id  from                      to
00000000000000000000.log   67,108,864  1,234         0         –        –  –                         –
00000000000000000100.log   67,108,864  1,234     1,000      1000     2000  1970-01-01T00:00:00.000Z  1970-01-01T00:00:01.000Z
2 in all                  134,217,728  2,468     1,000

route        done up to id  unfinished
orders/#  1000 and 2 above      12,345
*                        –   kept here
";
    assert_eq!(text, wanted, "\n{text}");
}

#[test]
fn damage_is_told_with_its_place_and_what_is_missing() {
    let text = verdict(&damaged());
    let wanted = "\
DAMAGED: 2 segments, 10 messages, ids 10 to 20, 2,468 bytes
the end has 1 byte of an unfinished record, never acknowledged: a start cuts it
1.log is damaged at byte 77: a wrong checksum; 1,500 bytes without a valid record; messages from 5 to 9 may be missing
`tidegate journal repair` keeps every valid record and puts the damaged files aside
";
    assert_eq!(text, wanted, "\n{text}");
    assert!(listing(&damaged()).contains("1.log is damaged at byte 77"));
    let sound = Report { losses: Vec::new(), torn: 0, ..damaged() };
    assert_eq!(verdict(&sound), "sound: 2 segments, 10 messages, ids 10 to 20, 2,468 bytes\n");
    assert_eq!(verdict(&Report::default()), "sound: 0 segments, 0 messages, 0 bytes\n");
}

#[test]
fn a_repair_says_what_is_lost_what_was_put_aside_and_what_was_kept() {
    let report = Report { aside: vec!["1.log.damaged".to_owned()], ..damaged() };
    let text = repaired(&report);
    let wanted = "\
1.log is damaged at byte 77: a wrong checksum; 1,500 bytes without a valid record; messages from 5 to 9 are lost, as far as they were there
put aside: 1.log.damaged
kept: 10 messages in 2 segments; the server can be started
";
    assert_eq!(text, wanted, "\n{text}");
    let sound = Report { losses: Vec::new(), ..damaged() };
    assert_eq!(repaired(&sound), "nothing to repair: 10 messages in 2 segments\n");
}
