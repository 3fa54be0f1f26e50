//! Frames and bytes. PURE: no socket, thread, clock or file.
//!
//! The wire of MCP, the *Modular Communication Protocol* (not the Model Context Protocol).
//!
//! Bytes become frames in [`FrameDecoder`]; frames become bytes in [`encode`] and in the `encode`
//! of each [`message`]. Every format here is in the contract below.
//!
#![doc = include_str!("wire.md")]

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
