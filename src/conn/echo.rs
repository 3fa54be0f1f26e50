//! ECHO: the one service that needs nothing but the frame itself.

use super::{Connection, Cx, State};
use crate::proto::{Command, HEADER_LEN, MAGIC, Version, seq_follows};

/// The first two bytes of a plain frame.
const PLAIN: [u8; 2] = [MAGIC, Version::Plain.to_wire()];

impl Connection {
    /// Whether it is worth a look for [`Connection::serve_echoes`].
    #[inline]
    pub(super) fn may_be_echo(&self, input: &[u8]) -> bool {
        self.state == State::Ready && input.get(HEADER_LEN - 1) == Some(&Command::ECHO.0)
    }

    /// Serves the plain ECHOs at the front of `input` and takes them off; returns how many. Only on a
    /// connection that is ready.
    ///
    /// The reply to a plain ECHO has its seq, its command and its payload, and so it is that very
    /// frame: after its header is checked nothing is left to be encoded, and a run of them is one copy.
    /// Anything else, and whatever is wrong, is left to the decoder.
    pub(super) fn serve_echoes(&mut self, cx: &mut Cx<'_>, input: &mut &[u8]) -> u64 {
        debug_assert!(self.state == State::Ready, "nobody is served before");
        // The frame that goes over the mark is the last one, as it is anywhere else.
        let room = cx.rules.outbound_high.saturating_sub(self.unsent(cx));
        let (mut run, mut frames, mut last_seq) = (0, 0, self.last_seq);
        while run <= room {
            let Some(header) = input[run..].first_chunk::<HEADER_LEN>() else { break };
            let [m, v, l0, l1, s0, s1, s2, s3, cmd] = *header;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let seq = u32::from_be_bytes([s0, s1, s2, s3]);
            let end = run + HEADER_LEN + length;
            let plain_echo = [m, v] == PLAIN && cmd == Command::ECHO.0;
            if !plain_echo || length > cx.rules.max_payload || !seq_follows(last_seq, seq) || end > input.len() {
                break;
            }
            (run, last_seq) = (end, seq);
            frames += 1;
        }
        if frames > 0 {
            let (echoes, rest) = input.split_at(run);
            cx.out.extend_from_slice(echoes);
            *input = rest;
            self.last_seq = last_seq;
            cx.stats.accepted.add(frames);
            cx.stats.count_answered(Command::ECHO, frames);
        }
        frames
    }
}
