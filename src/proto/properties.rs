//! What holds for any stream, however it is cut, and for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame with its parts owned, to compare.
type Owned = (Version, u32, u8, Vec<(u8, Vec<u8>)>, Vec<u8>);

fn owned(frame: &Frame<'_>) -> Owned {
    let extensions = frame.extensions.iter().map(|(kind, value)| (kind, value.to_vec())).collect();
    (frame.version, frame.seq, frame.cmd.0, extensions, frame.payload.to_vec())
}

fn encode_owned(out: &mut Vec<u8>, (version, seq, cmd, extensions, payload): &Owned) {
    let fitted = match version {
        Version::Plain => encode(out, *seq, Command(*cmd), payload),
        Version::Extended => {
            let mut block = Vec::new();
            assert!(extensions.iter().all(|(kind, value)| Extensions::push(&mut block, *kind, value)));
            encode_extended(out, *seq, Command(*cmd), &block, payload)
        }
    };
    assert!(fitted);
}

fn any_frame() -> impl Strategy<Value = Owned> {
    let payload = prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..2_000)];
    let plain = (any::<u32>(), any::<u8>(), payload.clone())
        .prop_map(|(seq, cmd, payload)| (Version::Plain, seq, cmd, Vec::new(), payload));
    // Types above the known ones may have any length.
    let extensions = vec((0x09..=0xFFu8, vec(any::<u8>(), 0..20)), 0..8);
    let extended = (any::<u32>(), any::<u8>(), extensions, payload)
        .prop_map(|(seq, cmd, extensions, payload)| (Version::Extended, seq, cmd, extensions, payload));
    prop_oneof![plain, extended]
}

/// What a piece of the stream meets on its way.
#[derive(Clone, Copy, Debug)]
enum Handover {
    /// The same decoder goes on.
    Stay,
    /// Through `into_tail` and `resume`.
    Resume,
    /// Through `into_parts` and `resume_at`, as between two reads of a connection.
    Parts,
    /// Kept unparsed, as while a connection is paused.
    Keep,
}

fn any_cuts() -> impl Strategy<Value = Vec<(usize, Handover)>> {
    let size = prop_oneof![3 => 1..4usize, 3 => 1..40usize, 1 => 1..4_000usize];
    vec(
        (size, prop_oneof![Just(Handover::Stay), Just(Handover::Resume), Just(Handover::Parts), Just(Handover::Keep)]),
        1..60,
    )
}

/// Decodes the stream in the given pieces (over and over), checking the bounds after each.
fn decode_cut(
    stream: &[u8],
    cuts: &[(usize, Handover)],
    max_body: usize,
) -> (Vec<Owned>, Option<DecodeError>, Vec<u8>) {
    let mut decoder = FrameDecoder::new(max_body);
    let mut frames = Vec::new();
    let (mut rest, mut kept_unparsed) = (stream, 0);
    for (size, mut handover) in cuts.iter().cycle().copied() {
        if rest.is_empty() {
            handover = Handover::Stay; // what was kept last is to be parsed too
        }
        let mut piece;
        (piece, rest) = rest.split_at(size.min(rest.len()));
        if matches!(handover, Handover::Keep) {
            kept_unparsed += piece.len();
            decoder.keep(&mut piece);
            continue;
        }
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => frames.push(owned(&frame)),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), decoder.into_tail()),
            }
        }
        decoder.keep(&mut piece);
        assert!(decoder.len() < HEADER_LEN + max_body, "only an unfinished frame is left");
        if matches!(handover, Handover::Resume) {
            let tail = decoder.into_tail();
            let bound = 2 * (HEADER_LEN + max_body + kept_unparsed);
            assert!(tail.capacity() <= bound.max(64), "{} bytes allocated, {bound} allowed", tail.capacity());
            decoder = FrameDecoder::resume(tail, max_body);
        }
        if matches!(handover, Handover::Parts) {
            let (tail, parsed) = decoder.into_parts();
            assert!(parsed <= tail.len() / 2, "what is done with is the smaller part");
            decoder = FrameDecoder::resume_at(tail, parsed, max_body);
        }
        if rest.is_empty() && matches!(handover, Handover::Stay) {
            break;
        }
    }
    (frames, None, decoder.into_tail())
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_decodes_to_the_same_frames(
        frames in vec(any_frame(), 0..20), cuts in any_cuts(), spare in 0..9usize,
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| encode_owned(&mut stream, frame));
        let mut beginning = Vec::new();
        assert!(encode(&mut beginning, 1, Command::ECHO, b"never finished"));
        stream.extend_from_slice(&beginning[..spare]);
        let (decoded, error, tail) = decode_cut(&stream, &cuts, MAX_BODY);
        prop_assert_eq!(error, None);
        prop_assert_eq!(decoded, frames);
        prop_assert_eq!(&tail[..], &beginning[..spare]);
    }

    #[test]
    fn any_bytes_decode_alike_however_they_are_cut_and_stay_within_the_bound(
        noise in vec(prop_oneof![Just(MAGIC), Just(1), Just(2), Just(0), any::<u8>()], 0..300),
        prefix in vec(any_frame(), 0..3), cuts in any_cuts(), max_body in 0..600usize,
    ) {
        let mut stream = Vec::new();
        prefix.iter().for_each(|frame| encode_owned(&mut stream, frame));
        stream.extend_from_slice(&noise);
        let whole = decode_cut(&stream, &[(stream.len().max(1), Handover::Stay)], max_body);
        let cut = decode_cut(&stream, &cuts, max_body);
        prop_assert_eq!((&whole.0, whole.1), (&cut.0, cut.1));
    }

    #[test]
    fn a_wrong_first_byte_is_known_at_that_byte(
        frames in vec(any_frame(), 0..5), wrong in any::<u8>().prop_filter("wrong", |b| *b != MAGIC), cuts in any_cuts(),
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| encode_owned(&mut stream, frame));
        stream.push(wrong);
        let (decoded, error, _) = decode_cut(&stream, &cuts, MAX_BODY);
        prop_assert_eq!(decoded, frames);
        prop_assert_eq!(error, Some(DecodeError::WrongMagic));
    }

    #[test]
    fn a_body_over_the_bound_is_refused_at_its_header_and_none_of_it_is_kept(
        over in 1..2_000usize, max_body in 0..2_000usize, cut in 0..HEADER_LEN, body in 0..100usize,
    ) {
        let header = Header { version: 1, length: (max_body + over) as u16, seq: 5, cmd: Command::ECHO };
        let mut stream = header.to_bytes().to_vec();
        stream.resize(HEADER_LEN + body, 7);
        let mut decoder = FrameDecoder::new(max_body);
        let mut first = &stream[..cut];
        prop_assert_eq!(decoder.next(&mut first), Ok(None));
        decoder.keep(&mut first);
        let mut second = &stream[cut..];
        for _ in 0..2 {
            prop_assert_eq!(decoder.next(&mut second), Err(DecodeError::TooLarge(header)), "and it repeats");
        }
        prop_assert!(decoder.len() <= HEADER_LEN);
        prop_assert!(second.len() >= body, "the body is left where it lies");
    }

    #[test]
    fn a_whole_frame_is_borrowed_from_the_input_and_not_copied(
        frames in vec(any_frame(), 1..10), split in any::<prop::sample::Index>(),
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| encode_owned(&mut stream, frame));
        let split = split.index(stream.len());
        let mut decoder = FrameDecoder::new(MAX_BODY);
        let (mut first, mut second) = stream.split_at(split);
        let mut at = 0;
        let mut check = |frame: &Frame<'_>, input: &[u8], from: usize| {
            let mut bytes = Vec::new();
            encode_owned(&mut bytes, &owned(frame));
            let whole_in_input = at >= from;
            at += bytes.len();
            let (outer, inner) = (input.as_ptr_range(), frame.payload.as_ptr_range());
            assert_eq!(outer.start <= inner.start && inner.end <= outer.end, whole_in_input);
        };
        let one = first;
        while let Some(frame) = decoder.next(&mut first).unwrap() {
            check(&frame, one, 0);
        }
        decoder.keep(&mut first);
        let two = second;
        while let Some(frame) = decoder.next(&mut second).unwrap() {
            check(&frame, two, split);
        }
        prop_assert_eq!(at, stream.len());
    }

    #[test]
    fn an_extension_block_that_overruns_the_body_is_malformed(
        body in vec(any::<u8>(), 0..60), excess in 1..100usize,
    ) {
        let ext_len = u8::try_from(body.len() + excess).unwrap();
        let header = Header { version: 2, length: 1 + body.len() as u16, seq: 1, cmd: Command::ECHO };
        let stream = [&header.to_bytes()[..], &[ext_len], &body].concat();
        let mut decoder = FrameDecoder::new(MAX_BODY);
        prop_assert_eq!(decoder.next(&mut &stream[..]), Err(DecodeError::Malformed(header)));
    }

    #[test]
    fn an_extension_that_overruns_its_block_is_malformed(
        kind in 0x09..=0xFFu8, value in vec(any::<u8>(), 0..60), excess in 1..100usize, payload in vec(any::<u8>(), 200),
    ) {
        let mut block = vec![kind, u8::try_from(value.len() + excess).unwrap()];
        block.extend_from_slice(&value);
        let mut stream = Vec::new();
        assert!(encode_extended(&mut stream, 1, Command::ECHO, &block, &payload));
        let error = FrameDecoder::new(MAX_BODY).next(&mut &stream[..]).unwrap_err();
        prop_assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
    }

    #[test]
    fn a_version_other_than_1_and_2_is_known_at_the_header(version in any::<u8>(), seq in any::<u32>()) {
        let header = Header { version, length: 4, seq, cmd: Command::ECHO };
        let bytes = header.to_bytes();
        let mut decoder = FrameDecoder::new(MAX_BODY);
        let result = decoder.next(&mut &bytes[..]);
        let spoken = matches!(version, 1 | 2);
        prop_assert_eq!(result, if spoken { Ok(None) } else { Err(DecodeError::UnsupportedVersion(header)) });
    }

    #[test]
    fn ready_reads_back(
        session in any::<SessionId>(), resumed in any::<bool>(),
        heartbeat_ms in any::<u32>(), max_payload in any::<u32>(), session_ttl_s in any::<u32>(), seq in any::<u32>(),
    ) {
        let ready = AuthReady { session, resumed, heartbeat_ms, max_payload, session_ttl_s };
        let mut out = Vec::new();
        ready.encode(&mut out, seq);
        let frame = decode_one(&out);
        prop_assert_eq!((frame.cmd, frame.seq), (Command::READY, seq));
        prop_assert_eq!(AuthReady::parse(frame.payload), Ok(ready));
    }

    #[test]
    fn goaway_reads_back(
        last in any::<bool>(), reason in 0..6u8, numbers in any::<[u32; 3]>(), addresses in vec("[a-zé0-9.:]{0,40}", 0..256),
    ) {
        let stage = if last { GoAwayStage::Final } else { GoAwayStage::Notice };
        let [last_seq, deadline_ms, reconnect_after_ms] = numbers;
        let reason = GoAwayReason::from_wire(reason).unwrap();
        let goaway = GoAway { stage, reason, last_seq, deadline_ms, reconnect_after_ms, addresses };
        let mut out = Vec::new();
        goaway.encode(&mut out);
        let frame = decode_one(&out);
        prop_assert_eq!((frame.cmd, frame.seq), (Command::GOAWAY, 0));
        if goaway.addresses.len() <= 255 {
            prop_assert_eq!(GoAway::parse(frame.payload), Ok(goaway));
        }
    }

    #[test]
    fn an_error_reads_back_with_its_text_cut_at_1024_bytes(
        code in any::<u16>(), cmd in any::<u8>(), retry_after_ms in any::<u32>(), text in "[aé€😀]{0,500}", seq in any::<u32>(),
    ) {
        let mut out = Vec::new();
        ErrorReply { code, cmd, retry_after_ms, text: &text }.encode(&mut out, seq);
        let frame = decode_one(&out);
        let back = ErrorReply::parse(frame.payload).unwrap();
        prop_assert_eq!((frame.seq, back.code, back.cmd, back.retry_after_ms), (seq, code, cmd, retry_after_ms));
        prop_assert!(text.starts_with(back.text) && (back.text == text || back.text.len() > 1020));
    }

    #[test]
    fn any_payload_parses_or_is_malformed_and_never_panics(payload in vec(any::<u8>(), 0..80)) {
        let _ = AuthReady::parse(&payload);
        let _ = GoAway::parse(&payload);
        let _ = ErrorReply::parse(&payload);
        if let Some((key, value)) = message::parse_session_put(&payload) {
            prop_assert_eq!(message::session_put_payload(key, value), Some(payload.clone()));
        }
        if let Some(extensions) = Extensions::validate(&payload) {
            let whole: usize = extensions.iter().map(|(_, value)| 2 + value.len()).sum();
            prop_assert_eq!(whole, payload.len());
            let _ = (extensions.trace(), extensions.deadline_ms(), extensions.idempotency(), extensions.resume());
            let _ = (extensions.heartbeat_ms(), extensions.fallback(), extensions.unknown_critical());
        }
    }

    #[test]
    fn seq_order_is_that_of_rfc_1982(a in any::<u32>(), add in 1..1u32 << 31) {
        prop_assert!(seq_follows(a, a.wrapping_add(add)));
        prop_assert!(!seq_follows(a.wrapping_add(add), a));
        prop_assert!(!seq_follows(a, a));
        prop_assert!(!seq_follows(a, a.wrapping_add(1 << 31)), "no order in the RFC");
    }
}

fn decode_one(bytes: &[u8]) -> Frame<'_> {
    let mut input = bytes;
    // A whole frame is borrowed from the input, so it may outlive the decoder only by a copy.
    let mut decoder = FrameDecoder::new(MAX_BODY);
    let frame = decoder.next(&mut input).unwrap().unwrap();
    let payload = &bytes[bytes.len() - frame.payload.len()..];
    Frame { version: frame.version, seq: frame.seq, cmd: frame.cmd, extensions: Extensions::NONE, payload }
}
