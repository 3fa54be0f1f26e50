//! The nine bytes in front of every frame.

use super::Command;

/// The first byte of every frame: `M`.
pub const MAGIC: u8 = 0x4D;

/// Bytes of a header.
pub const HEADER_LEN: usize = 9;

/// Most bytes a body can have: `length` is 16 bits wide.
pub const MAX_BODY: usize = u16::MAX as usize;

/// What the body starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1: the body is the payload.
    Plain,
    /// Version 2: the body is an extension block, then the payload.
    Extended,
}

impl Version {
    /// The version a header's second byte stands for, or `None` for one this build does not speak.
    pub const fn from_wire(byte: u8) -> Option<Version> {
        match byte {
            1 => Some(Version::Plain),
            2 => Some(Version::Extended),
            _ => None,
        }
    }

    /// The header's second byte.
    pub const fn to_wire(self) -> u8 {
        match self {
            Version::Plain => 1,
            Version::Extended => 2,
        }
    }
}

/// A frame's header with everything but the magic, which is always [`MAGIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version byte as received; see [`Version::from_wire`].
    pub version: u8,
    /// Bytes of body behind the header.
    pub length: u16,
    /// Sequence number.
    pub seq: u32,
    /// Command.
    pub cmd: Command,
}

impl Header {
    /// Reads a header. The caller has checked the magic.
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Header {
        let [_, version, l0, l1, s0, s1, s2, s3, cmd] = *bytes;
        Header {
            version,
            length: u16::from_be_bytes([l0, l1]),
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            cmd: Command(cmd),
        }
    }

    /// The header as it goes over the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [l0, l1] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.seq.to_be_bytes();
        [MAGIC, self.version, l0, l1, s0, s1, s2, s3, self.cmd.0]
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + usize::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_nine_packed_big_endian_bytes() {
        let header = Header { version: 2, length: 0x0102, seq: 0x0304_0506, cmd: Command(0x20) };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [0x4D, 2, 1, 2, 3, 4, 5, 6, 0x20]);
        assert_eq!(Header::from_bytes(&bytes), header);
        assert_eq!(header.frame_len(), 9 + 0x0102);
    }
}
