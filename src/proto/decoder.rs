//! Bytes to frames.

use super::{Command, Extensions, HEADER_LEN, Header, MAGIC, Version};

/// One whole frame, its parts borrowed from where the bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Plain or extended.
    pub version: Version,
    /// Sequence number.
    pub seq: u32,
    /// Command.
    pub cmd: Command,
    /// The extension block; [`Extensions::NONE`] in a plain frame.
    pub extensions: Extensions<'a>,
    /// What is left of the body.
    pub payload: &'a [u8],
}

/// Why the stream can't go on. Each is the peer's fault, and final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first byte of a frame is not [`MAGIC`]: this is not our protocol.
    WrongMagic,
    /// A version that this build does not speak.
    UnsupportedVersion(Header),
    /// A body over the decoder's bound. Known at the header: no byte of the body is kept.
    TooLarge(Header),
    /// The extension block overruns the body, or an extension overruns the block.
    Malformed(Header),
}

/// Cuts a stream into frames.
///
/// Whole frames are parsed where they lie in the caller's input: no byte is copied. Only the
/// unfinished tail of a read is kept, and each byte of it is copied once, however small the pieces
/// that follow are.
///
/// Invariant: `tail[parsed..]` comes before the caller's input in the stream, and is either empty,
/// or a beginning that the last call could not complete, or input that [`FrameDecoder::keep`] was
/// given while its owner wanted no frames.
#[derive(Debug)]
pub struct FrameDecoder {
    tail: Vec<u8>,
    parsed: usize,
    max_body: usize,
}

impl FrameDecoder {
    /// A decoder that has seen nothing. Bodies over `max_body` bytes are refused at their header.
    pub fn new(max_body: usize) -> FrameDecoder {
        FrameDecoder::resume(Vec::new(), max_body)
    }

    /// Goes on from what [`FrameDecoder::into_tail`] gave.
    pub fn resume(tail: Vec<u8>, max_body: usize) -> FrameDecoder {
        FrameDecoder::resume_at(tail, 0, max_body)
    }

    /// Goes on from what [`FrameDecoder::into_parts`] gave.
    pub(crate) fn resume_at(tail: Vec<u8>, parsed: usize, max_body: usize) -> FrameDecoder {
        FrameDecoder { tail, parsed, max_body }
    }

    /// The next whole frame, taken from the front of `input`.
    ///
    /// `Ok(None)`: the stream has no further whole frame. What is left in `input` then is the
    /// beginning of one; give it to [`FrameDecoder::keep`].
    #[inline(always)] // a frame by way of memory costs more than the code that makes it
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'s>>, DecodeError> {
        if self.parsed == self.tail.len() {
            if self.parsed > 0 {
                self.tail.clear();
                self.parsed = 0;
            }
            return split_frame(input, self.max_body);
        }
        self.next_from_tail(input)
    }

    #[cold]
    fn next_from_tail<'s>(&'s mut self, input: &mut &[u8]) -> Result<Option<Frame<'s>>, DecodeError> {
        // Complete what the tail begins with: the header first, which tells how long the frame is.
        loop {
            let have = &self.tail[self.parsed..];
            let missing = match peek_header(have, self.max_body)? {
                None => HEADER_LEN - have.len(),
                Some(header) => header.frame_len().saturating_sub(have.len()),
            };
            if missing == 0 {
                break;
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (piece, rest) = input.split_at(missing.min(input.len()));
            self.tail.extend_from_slice(piece);
            *input = rest;
        }
        let mut kept = &self.tail[self.parsed..];
        let before = kept.len();
        let frame = split_frame(&mut kept, self.max_body);
        self.parsed += before - kept.len();
        frame
    }

    /// Keeps input for later: an unfinished frame, or frames that are not wanted yet.
    pub fn keep(&mut self, input: &mut &[u8]) {
        self.tail.extend_from_slice(input);
        *input = &[];
    }

    /// Whether no bytes are kept.
    pub fn is_empty(&self) -> bool {
        self.parsed == self.tail.len()
    }

    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.tail.len() - self.parsed
    }

    /// The kept bytes, and the buffer that they are in.
    pub fn into_tail(mut self) -> Vec<u8> {
        self.tail.drain(..self.parsed);
        self.tail
    }

    /// The buffer, and how many bytes at its front are done with. They are dropped only once they
    /// are more than the rest: frames that are taken one at a time from a long tail don't move the
    /// rest of it each time.
    pub(crate) fn into_parts(mut self) -> (Vec<u8>, usize) {
        if self.parsed > self.tail.len() / 2 {
            self.tail.drain(..self.parsed);
            self.parsed = 0;
        }
        (self.tail, self.parsed)
    }
}

/// The header at the front of `bytes`, or `None` if it is not whole yet. What is wrong is said as
/// early as it is known: a wrong magic at the first byte, the rest once the header is whole and
/// an ERROR can name the frame.
#[inline]
fn peek_header(bytes: &[u8], max_body: usize) -> Result<Option<Header>, DecodeError> {
    if bytes.first().is_some_and(|magic| *magic != MAGIC) {
        return Err(DecodeError::WrongMagic);
    }
    let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let header = Header::from_bytes(bytes);
    if Version::from_wire(header.version).is_none() {
        return Err(DecodeError::UnsupportedVersion(header));
    }
    if usize::from(header.length) > max_body {
        return Err(DecodeError::TooLarge(header));
    }
    Ok(Some(header))
}

/// Takes one whole frame from the front of `input`, or leaves it as it is.
#[inline(always)]
fn split_frame<'a>(input: &mut &'a [u8], max_body: usize) -> Result<Option<Frame<'a>>, DecodeError> {
    let Some(header) = peek_header(input, max_body)? else { return Ok(None) };
    let Some((bytes, rest)) = input.split_at_checked(header.frame_len()) else { return Ok(None) };
    let body = &bytes[HEADER_LEN..];
    let (version, extensions, payload) = if header.version == Version::Plain.to_wire() {
        (Version::Plain, Extensions::NONE, body)
    } else {
        let (extensions, payload) = split_extensions(body).ok_or(DecodeError::Malformed(header))?;
        (Version::Extended, extensions, payload)
    };
    *input = rest;
    Ok(Some(Frame { version, seq: header.seq, cmd: header.cmd, extensions, payload }))
}

fn split_extensions(body: &[u8]) -> Option<(Extensions<'_>, &[u8])> {
    let (ext_len, rest) = body.split_first()?;
    let (block, payload) = rest.split_at_checked(usize::from(*ext_len))?;
    Some((Extensions::validate(block)?, payload))
}
