//! Where sessions outlive the process.
//!
//! A session's home works on its own copy, and a store follows: on threads of its own, never on a worker's.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::config::SessionStoreSpec;
use crate::proto::SessionId;

/// What a store calls a session: a digest of its id, so that whoever reads the store can resume none.
pub type StoreKey = [u8; 16];

/// Keys and values.
pub type Pairs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// The name of a session in a store.
pub fn store_key(id: &SessionId) -> StoreKey {
    let digest = Sha256::digest(id);
    std::array::from_fn(|at| digest[at])
}

/// A place where sessions outlive the process. Used by one thread, which may wait for it.
///
/// Every session there has an owner: the gateway process that last opened or claimed it. Its `fence` is a
/// number that grows with each claim; what is written under an older one is refused, so that a gateway
/// which does not know yet that it has lost a session can't change it.
pub trait SessionStore: Send {
    /// Brings writes, in order, to where they survive a crash of the store as well: as few commits as it
    /// takes. One result for each.
    ///
    /// # Errors
    /// The store is down or too slow; nothing is known of the writes, which may be tried again.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown>;

    /// Makes this process the owner of a session, if it is there, alive, and `principal`'s. Atomic: of two
    /// that claim, one is the later, and the owner.
    ///
    /// # Errors
    /// The store is down or too slow; nothing is known of the claim.
    fn claim(&mut self, key: &StoreKey, principal: &str, now_ms: u64) -> Result<Option<Stored>, StoreDown>;

    /// Forgets sessions whose time has run out, about `budget` at most. Returns how many; stores that do so by
    /// themselves have nothing to do.
    ///
    /// # Errors
    /// The store is down or too slow.
    fn sweep(&mut self, now_ms: u64, budget: usize) -> Result<usize, StoreDown>;

    /// Commits what is open, and lets go of everything.
    ///
    /// # Errors
    /// The store is down or too slow.
    fn close(self: Box<Self>) -> Result<(), StoreDown>;
}

/// A session as a store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Under which its new owner writes.
    pub fence: u64,
    /// Its keys and values.
    pub state: Pairs,
}

/// One change of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The session.
    pub key: StoreKey,
    /// The owner's fence; 0 with [`WriteOp::Open`].
    pub fence: u64,
    /// What changes.
    pub op: WriteOp,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// It begins, or is there again after the store has lost it, with this state.
    Open {
        /// Whose it is.
        principal: Box<str>,
        /// When it ends, unless it is touched before. Milliseconds since 1970.
        ends_ms: u64,
        /// Its keys and values.
        state: Pairs,
    },
    /// SESSION_PUT.
    Put(Box<[u8]>, Box<[u8]>),
    /// SESSION_DELETE.
    Delete(Box<[u8]>),
    /// It ends at this time, unless it is touched before. Milliseconds since 1970.
    Touch {
        /// When.
        ends_ms: u64,
    },
    /// BYE, or its time has run out: it is forgotten with its state.
    End,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there. Of an [`WriteOp::Open`]: under this fence.
    Done {
        /// The fence that later writes carry.
        fence: u64,
    },
    /// Another process has claimed the session: it is not ours any more.
    Lost,
    /// The store has no such session (any more). An owner that has it may open it again.
    Gone,
}

/// The store can't be used for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDown(pub String);

impl fmt::Display for StoreDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreDown {}

/// Whether a store can be had as it is written down; asked before anything is bound.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(store: &SessionStoreSpec) -> Result<(), String> {
    match store {
        SessionStoreSpec::Redis(_) if !cfg!(feature = "redis") => Err(built_without("redis")),
        SessionStoreSpec::MySql(_) if !cfg!(feature = "mysql") => Err(built_without("mysql")),
        _ => Ok(()),
    }
}

fn built_without(feature: &str) -> String {
    format!("this tidegate was built without {feature}: build it with --features {feature}")
}
