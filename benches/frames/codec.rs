//! Bytes to frames, and frames to bytes.

use std::hint::black_box;

use tidegate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Extensions, FrameDecoder, MAX_BODY, Trace, encode, encode_extended,
    extension_type,
};

use crate::harness::{Case, Work, work};

pub const CASES: &[Case] = &[
    Case { name: "decode_64_a_read", make: || decode(whole(stream(64, 32))) },
    Case { name: "decode_all_cut", make: || decode(all_cut(&stream(64, 32), 64)) },
    Case { name: "decode_extended", make: || decode(whole(extended(64))) },
    Case { name: "decode_4k", make: || decode(whole(stream(16, 4096))) },
    Case { name: "decode_4k_all_cut", make: || decode(all_cut(&stream(16, 4096), 16)) },
    Case { name: "encode_32", make: || encode_payload(32) },
    Case { name: "encode_4k", make: || encode_payload(4096) },
    Case { name: "encode_error", make: encode_error },
    Case { name: "encode_ready", make: encode_ready },
];

/// Frames of each batch.
const FRAMES: u64 = 1024;

/// ECHO frames, from `seq` 1.
pub fn stream(frames: u32, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seq in 1..=frames {
        assert!(encode(&mut bytes, seq, Command::ECHO, &vec![seq as u8; payload]));
    }
    bytes
}

/// The extensions of a client that traces, retries and hurries.
pub fn extension_block() -> Vec<u8> {
    let mut block = Vec::new();
    let trace = Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
    assert!(Extensions::push(&mut block, extension_type::TRACE, &trace.to_bytes()));
    assert!(Extensions::push(&mut block, extension_type::DEADLINE, &250_u32.to_be_bytes()));
    assert!(Extensions::push(&mut block, extension_type::IDEMPOTENCY, &[3; 16]));
    block
}

fn extended(frames: u32) -> Vec<u8> {
    let (mut bytes, block) = (Vec::new(), extension_block());
    for seq in 1..=frames {
        assert!(encode_extended(&mut bytes, seq, Command::ECHO, &block, &[seq as u8; 32]));
    }
    bytes
}

/// One read with all of it.
fn whole(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    vec![bytes]
}

/// Reads as long as a frame, each of which begins in the middle of one.
pub fn all_cut(bytes: &[u8], frames: usize) -> Vec<Vec<u8>> {
    let frame = bytes.len() / frames;
    let (first, rest) = bytes.split_at(frame / 2);
    [first].into_iter().chain(rest.chunks(frame)).map(<[u8]>::to_vec).collect()
}

/// Decodes the reads again and again; they hold whole frames in all.
fn decode(reads: Vec<Vec<u8>>) -> Box<dyn Work> {
    let decoder = FrameDecoder::new(MAX_BODY);
    let run = |(decoder, reads): &mut (FrameDecoder, Vec<Vec<u8>>)| {
        let (mut frames, mut seen) = (0, 0);
        while frames < FRAMES {
            for read in reads.iter() {
                let mut input = &read[..];
                while let Some(frame) = decoder.next(&mut input).expect("they are ours") {
                    frames += 1;
                    // Each part is used, and none by way of memory.
                    seen ^= frame.seq as usize ^ usize::from(frame.cmd.0) ^ frame.payload.len();
                    seen ^= usize::from(frame.extensions.is_empty());
                }
                decoder.keep(&mut input);
            }
        }
        black_box(seen);
        assert!(decoder.is_empty());
        frames
    };
    work((decoder, reads), |_| {}, run)
}

/// Encodes with `append` into a buffer that has had room for it before.
fn encode_each(mut append: impl FnMut(&mut Vec<u8>, u32) + 'static) -> Box<dyn Work> {
    let run = move |out: &mut Vec<u8>| {
        for seq in 0..FRAMES as u32 {
            append(black_box(out), seq);
        }
        FRAMES
    };
    work(Vec::new(), Vec::clear, run)
}

fn encode_payload(bytes: usize) -> Box<dyn Work> {
    let payload = vec![7; bytes];
    encode_each(move |out, seq| assert!(encode(out, seq, Command::ECHO, &payload)))
}

fn encode_error() -> Box<dyn Work> {
    encode_each(|out, seq| {
        let code = black_box(ErrorCode::Overloaded);
        ErrorReply::new(code, Command::ECHO, code.text()).encode(out, seq);
    })
}

fn encode_ready() -> Box<dyn Work> {
    let ready =
        AuthReady { session: [9; 16], resumed: false, heartbeat_ms: 30_000, max_payload: 65_535, session_ttl_s: 300 };
    encode_each(move |out, seq| black_box(&ready).encode(out, seq))
}
