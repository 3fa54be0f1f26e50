//! The journal: every message whose SUBMIT was answered, on stable storage before the answer leaves.
//!
//! ```text
//! worker 0 ──┐ what a tick has accepted                      ┌──► worker 0: what is durable, one wake-up
//! worker 1 ──┼──► writer thread: one write, one fdatasync ───┤
//! worker N ──┘       the next batch fills meanwhile          └──► delivery threads, one a route: sinks
//! ```
//!
//! | file | what it keeps |
//! |---|---|
//! | `message`, `topic` | what is stored, and where it goes |
//! | `storage` | what a disk is: real ones, and simulated ones in tests |
//! | `sink` | from the journal to the user's systems |

mod message;
pub mod sink;
pub mod storage;
mod topic;

pub use message::{Draft, Key, Message};
pub use topic::{TopicPattern, is_topic};
