//! Frames to bytes, appended to a caller's buffer.

use super::{Command, HEADER_LEN, Header, MAX_BODY, Version};

/// Appends one plain (version 1) frame.
///
/// Returns whether it fitted: a payload over [`MAX_BODY`] appends nothing.
#[must_use]
#[inline]
pub fn encode(out: &mut Vec<u8>, seq: u32, cmd: Command, payload: &[u8]) -> bool {
    let Ok(length) = u16::try_from(payload.len()) else { return false };
    let header = Header { version: Version::Plain.to_wire(), length, seq, cmd };
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
    true
}

/// Appends one version-2 frame with an extension block (see [`super::Extensions::push`]).
///
/// Returns whether it fitted: a block over 255 bytes, or a body over [`MAX_BODY`], appends nothing.
#[must_use]
pub fn encode_extended(out: &mut Vec<u8>, seq: u32, cmd: Command, extensions: &[u8], payload: &[u8]) -> bool {
    let Ok(ext_len) = u8::try_from(extensions.len()) else { return false };
    let Ok(length) = u16::try_from(1 + extensions.len() + payload.len()) else { return false };
    let header = Header { version: Version::Extended.to_wire(), length, seq, cmd };
    out.reserve(header.frame_len());
    out.extend_from_slice(&header.to_bytes());
    out.push(ext_len);
    out.extend_from_slice(extensions);
    out.extend_from_slice(payload);
    true
}

/// Appends one plain frame whose payload `write` appends, without a copy in between.
///
/// Returns whether it fitted: a payload over [`MAX_BODY`] leaves `out` as it was.
#[must_use]
pub fn encode_with(out: &mut Vec<u8>, seq: u32, cmd: Command, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    let header = Header { version: Version::Plain.to_wire(), length: 0, seq, cmd };
    out.extend_from_slice(&header.to_bytes());
    write(out);
    let length = out.len() - start - HEADER_LEN;
    if length > MAX_BODY {
        out.truncate(start);
        return false;
    }
    out[start + 2..start + 4].copy_from_slice(&(length as u16).to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_appends_nothing() {
        let mut out = vec![7];
        let big = vec![0; MAX_BODY + 1];
        assert!(!encode(&mut out, 1, Command::ECHO, &big));
        assert!(!encode_extended(&mut out, 1, Command::ECHO, &[], &big[1..]));
        assert!(!encode_extended(&mut out, 1, Command::ECHO, &big[..256], &[]));
        assert!(!encode_with(&mut out, 1, Command::ECHO, |out| out.extend_from_slice(&big)));
        assert_eq!(out, [7]);
    }

    #[test]
    fn encode_with_writes_what_encode_writes() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        assert!(encode(&mut a, 9, Command::PONG, b"hello"));
        assert!(encode_with(&mut b, 9, Command::PONG, |out| out.extend_from_slice(b"hello")));
        assert_eq!(a, b);
    }
}
