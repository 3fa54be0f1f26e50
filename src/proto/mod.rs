//! Frames and bytes. PURE: no socket, thread, clock or file.
//!
//! The wire of MCP, the *Modular Communication Protocol* (not the Model Context Protocol): a
//! 9-byte header, then `length` bytes of body. All integers are big-endian.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | `magic` | [`MAGIC`] |
//! | 1 | 1 | `version` | 1 = plain, 2 = the body starts with an extension block |
//! | 2 | 2 | `length` | bytes after the header, 0 to 65,535 |
//! | 4 | 4 | `seq` | matches a reply to its request |
//! | 8 | 1 | `cmd` | [`Command`] |
//!
//! Bytes become frames in [`FrameDecoder`]; frames become bytes in [`encode`] and in the `encode`
//! of each [`message`].

mod command;
mod decoder;
mod encoder;
mod error;
mod extension;
mod header;
pub mod message;
#[cfg(test)]
mod properties;
mod seq;

pub use command::Command;
pub use decoder::{DecodeError, Frame, FrameDecoder};
pub use encoder::{encode, encode_extended, encode_with};
pub use error::ErrorCode;
pub use extension::{Extensions, Fallback, Trace, extension_type};
pub use header::{HEADER_LEN, Header, MAGIC, MAX_BODY, Version};
pub use message::{AuthReady, ErrorReply, GoAway, GoAwayReason, GoAwayStage, MalformedMessage};
pub use seq::seq_follows;

/// A session's 128-bit identity on the wire.
pub type SessionId = [u8; 16];

/// Bytes that a PING may carry, and its PONG gives back.
pub const MAX_PING: usize = 125;
