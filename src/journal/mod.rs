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
//! | `intake`, `handle`, `writer` | from the workers to the disk, and back |
//! | `json` | a message as a line of JSON |
//! | `record`, `segment` | what the files look like, to the byte, and why they can be trusted |
//! | `log`, `batch`, `commit` | the log itself: staged, written and synced, or not at all |
//! | `retention`, `dedup` | what may be deleted, and which retries are known |
//! | `survey`, `recovery`, `reroute` | a start: verified, torn ends cut, what is unfinished counted |
//! | `reader` | messages in their order, while they are written |
//! | `examine`, `repair` | a look at every byte, and what the operator may do about damage |
//! | `storage`, `disk` | what a disk is, and a real one; simulated ones are in the tests |
//! | `sink` | from the journal to the user's systems |

mod batch;
mod commit;
mod dedup;
mod disk;
mod examine;
mod feed;
mod handle;
mod intake;
pub mod json;
mod log;
mod message;
mod options;
mod reader;
mod record;
mod recovery;
pub mod repair;
mod reroute;
mod retention;
mod segment;
pub mod sink;
pub mod storage;
mod survey;
#[cfg(test)]
mod testing;
mod topic;
mod writer;

pub use disk::{DIR, Disk, DiskFile};
pub(crate) use feed::JournalFeed;
pub(crate) use handle::{Journal, Settle, Settled};
pub(crate) use intake::Inlet;
pub use log::Log;
pub use message::{Draft, Key, Message};
pub use options::{CommitError, Cut, Damage, LogOptions, LogRoute, NoRoom, OpenError, Progress, Recovery, Staged};
pub use reader::{ReadError, Reader};
pub use repair::{repair, verify};
pub use topic::{TopicPattern, is_topic};
pub(crate) use writer::{OnPoison, Opened};
