//! Any bytes, cut anywhere, decode as they do in one piece, within the bound on memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::proto::{DecodeError, FrameDecoder, HEADER_LEN};

type Outcome = (Vec<(u32, u8, Vec<(u8, Vec<u8>)>, Vec<u8>)>, Option<DecodeError>);

/// Decodes what is left of `input`, and keeps the rest.
fn drain(decoder: &mut FrameDecoder, mut input: &[u8], outcome: &mut Outcome) {
    let given = input.len();
    while outcome.1.is_none() {
        match decoder.next(&mut input) {
            Ok(Some(frame)) => {
                let extensions = frame.extensions.iter().map(|(kind, value)| (kind, value.to_vec())).collect();
                assert!(frame.payload.len() <= u16::MAX.into());
                outcome.0.push((frame.seq, frame.cmd.0, extensions, frame.payload.to_vec()));
            }
            Ok(None) => return decoder.keep(&mut input),
            Err(error) => outcome.1 = Some(error),
        }
    }
    assert!(input.len() <= given);
}

fuzz_target!(|data: &[u8]| {
    let [bound_high, bound_low, cuts, data @ ..] = data else { return };
    let max_body = usize::from(u16::from_be_bytes([*bound_high, *bound_low]));
    let (cuts, stream) = data.split_at(usize::from(*cuts).min(data.len()));

    let mut whole = Outcome::default();
    drain(&mut FrameDecoder::new(max_body), stream, &mut whole);

    // Each byte of `cuts` is a piece: its length, and what the decoder goes through behind it.
    let mut cut = Outcome::default();
    let mut decoder = FrameDecoder::new(max_body);
    let (mut rest, mut unparsed) = (stream, 0);
    for piece in cuts {
        let (mut bytes, behind) = rest.split_at(usize::from(piece >> 2).min(rest.len()));
        rest = behind;
        if piece & 3 == 3 {
            unparsed += bytes.len();
            decoder.keep(&mut bytes);
            continue;
        }
        drain(&mut decoder, bytes, &mut cut);
        if cut.1.is_some() {
            break;
        }
        assert!(decoder.len() < HEADER_LEN + max_body, "more is kept than an unfinished frame");
        if piece & 3 == 2 {
            let tail = decoder.into_tail();
            assert!(tail.capacity() <= 64.max(2 * (HEADER_LEN + max_body + unparsed)), "more memory than the bound");
            decoder = FrameDecoder::resume(tail, max_body);
        }
    }
    if cut.1.is_none() {
        drain(&mut decoder, rest, &mut cut);
    }
    assert_eq!(whole, cut);
});
