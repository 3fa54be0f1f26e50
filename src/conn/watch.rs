//! A request that somebody looks at: found in what is about to be served.

use super::{Connection, Cx, State};
use crate::proto::{Command, DecodeError, Frame, FrameDecoder, HEADER_LEN, Header, Trace};

/// A request that came in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its command.
    pub cmd: Command,
    /// Its sequence number.
    pub seq: u32,
    /// Its trace context.
    pub trace: Option<Trace>,
    /// Bytes of its frame, header included.
    pub bytes: usize,
}

impl Connection {
    /// The request that [`Connection::handle_input`] would serve first of `bytes`, and how many of them
    /// belong to it. `None`: the first frame is no request, is not whole, or would not be served now.
    ///
    /// Copies the frame: for one of many.
    pub fn first_request(&self, cx: &Cx<'_>, bytes: &[u8]) -> Option<(Watched, usize)> {
        if !matches!(self.state, State::Auth | State::Ready) || self.is_paused() {
            return None;
        }
        let mut first = self.tail.map_or_else(Vec::new, |id| {
            let kept = cx.buffers.get(id);
            kept.bytes[kept.done..].to_vec()
        });
        let kept = first.len();
        first.extend_from_slice(&bytes[..bytes.len().min(HEADER_LEN.saturating_sub(kept))]);
        let header = Header::from_bytes(first.first_chunk::<HEADER_LEN>()?);
        // Above the limit no more of it than its header will be looked at.
        let whole = if usize::from(header.length) > cx.rules.max_payload { HEADER_LEN } else { header.frame_len() };
        let own = whole.saturating_sub(kept);
        first.truncate(kept);
        first.extend_from_slice(bytes.get(..own)?);
        let watched = match FrameDecoder::new(cx.rules.max_payload).next(&mut &first[..]) {
            Ok(frame) => Watched::of(&frame?, first.len()),
            Err(error) => Watched::broken(error, first.len())?,
        };
        (own > 0 && watched.cmd.is_request()).then_some((watched, own))
    }
}

impl Watched {
    fn of(frame: &Frame<'_>, bytes: usize) -> Watched {
        Watched { cmd: frame.cmd, seq: frame.seq, trace: frame.extensions.trace(), bytes }
    }

    fn broken(error: DecodeError, bytes: usize) -> Option<Watched> {
        use DecodeError::{Malformed, TooLarge, UnsupportedVersion, WrongMagic};
        match error {
            WrongMagic => None,
            UnsupportedVersion(header) | TooLarge(header) | Malformed(header) => {
                Some(Watched { cmd: header.cmd, seq: header.seq, trace: None, bytes })
            }
        }
    }
}
