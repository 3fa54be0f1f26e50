//! What the module promises, against a scripted server. Two threads meet by frames and channels only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::testing::{PATIENCE, Peer, Server, call, spawn, wait};
use crate::client::{CallOptions, Client, ClientError, ClientOptions, Submitted, Token};
use crate::proto::message::submitted_payload;
use crate::proto::{AuthReady, Command, ErrorCode, Fallback, GoAwayReason, Version, extension_type};

mod calls;
mod endings;
mod moves;
mod simulated;
mod tokens;

const APP: Command = Command(0x20);
