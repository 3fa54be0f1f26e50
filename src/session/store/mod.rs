//! Where sessions outlive the process.
//!
//! A session's home works on its own copy, and a store follows: on threads of its own, never on a worker's.

mod breaker;
pub mod embedded;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "redis", feature = "mysql"))]
pub mod remote;
pub mod runner;
mod thread;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::{Config, SessionStoreSpec};
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
/// Every session there has an owner: the gateway process that last opened or claimed it. The `fence` tells
/// owners apart: 1 for the one that opened the session, and one more with each claim. A write under a smaller
/// one than the session has there is [`Written::Lost`], so that a gateway which does not know yet that it has
/// lost a session can't change it. One under a greater one is done, and leaves that one there: a store that
/// has forgotten its last claim learns it again.
///
/// After an error the store is dropped, and made anew for the next operation.
pub trait SessionStore: Send {
    /// Brings writes, in order, to where they survive a crash of the store as well: as few commits as it
    /// takes, at most [`crate::limits::MAX_STORE_COMMIT`] writes at once. One result for each.
    ///
    /// # Errors
    /// The store is down or too slow; nothing is known of the writes, which may be tried again.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown>;

    /// Makes this process the owner of sessions: of each that is there, alive at `now_ms` (milliseconds since
    /// 1970), and its principal's. Each is atomic: of two that claim, one is the later, and the owner. How long
    /// it lives stays as it was: the new owner touches it. At most [`crate::limits::MAX_STORE_CLAIMS`] at once,
    /// one answer for each, `None`: not to be had.
    ///
    /// # Errors
    /// The store is down or too slow; nothing is known of the claims, which may be tried again.
    fn claim(&mut self, wanted: &[Wanted], now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown>;

    /// Forgets sessions whose time has run out, about `budget` at most. Returns how many. Called about once a
    /// second, also to see whether a store that nobody uses is still there: one that forgets by itself asks for
    /// a sign of life.
    ///
    /// # Errors
    /// The store is down or too slow.
    fn sweep(&mut self, now_ms: u64, budget: usize) -> Result<usize, StoreDown>;

    /// Nothing has been asked of it for a while: lets go of what it need not keep.
    fn rest(&mut self) {}

    /// Commits what is open, and lets go of everything.
    ///
    /// # Errors
    /// The store is down or too slow.
    fn close(self: Box<Self>) -> Result<(), StoreDown>;
}

/// Makes a store, on the thread that uses it: at the start, and again after an error.
pub type MakeStore = Arc<dyn Fn() -> Result<Box<dyn SessionStore>, StoreDown> + Send + Sync>;

/// When a session ends that lives as long as its owner's process, and its time to live after that. Only a
/// store that can tell when that process has ended is given it: the embedded one.
pub const WITH_ITS_OWNER: u64 = u64::MAX;

/// A session that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The session.
    pub key: StoreKey,
    /// Whose it has to be.
    pub principal: Box<str>,
}

/// A session as a store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Under which its new owner writes: one more than its last owner's.
    pub fence: u64,
    /// Its keys and values.
    pub state: Pairs,
}

/// One change of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The session.
    pub key: StoreKey,
    /// The owner's fence: 1, or what its claim gave.
    pub fence: u64,
    /// What changes.
    pub op: WriteOp,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// It begins, or is there again after the store has lost it, with this state and this write's fence. If it
    /// is there after all (a try whose outcome was not known was done), all of it is replaced.
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
    /// It is there. An [`WriteOp::End`] of what is not there is done as well.
    Done,
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
        #[cfg(feature = "redis")]
        SessionStoreSpec::Redis(url) => redis::Options::parse(url).map(drop),
        #[cfg(feature = "mysql")]
        SessionStoreSpec::MySql(url) => mysql::Options::parse(url).map(drop),
        #[cfg(not(feature = "redis"))]
        SessionStoreSpec::Redis(_) => Err(built_without("redis")),
        #[cfg(not(feature = "mysql"))]
        SessionStoreSpec::MySql(_) => Err(built_without("mysql")),
        SessionStoreSpec::Auto | SessionStoreSpec::Memory | SessionStoreSpec::Embedded => Ok(()),
    }
}

/// What makes stores, and their kind, if sessions are kept in a server elsewhere. Connects to nothing.
///
/// # Errors
/// What is wrong with the URL, in words; or the operating system gives no random bytes.
pub fn elsewhere(config: &Config) -> Result<Option<(&'static str, MakeStore)>, String> {
    match &config.session_store {
        #[cfg(feature = "redis")]
        SessionStoreSpec::Redis(url) => {
            let (options, patience) = (redis::Options::parse(url)?, remote::Patience::of(config));
            let gateway = remote::Gateway::new()?;
            let make = move || -> Result<Box<dyn SessionStore>, StoreDown> {
                Ok(Box::new(redis::Redis::new(options.clone(), patience, gateway.clone())))
            };
            Ok(Some(("redis", Arc::new(make))))
        }
        #[cfg(feature = "mysql")]
        SessionStoreSpec::MySql(url) => {
            let (options, patience) = (mysql::Options::parse(url)?, remote::Patience::of(config));
            let gateway = remote::Gateway::new()?;
            let make = move || -> Result<Box<dyn SessionStore>, StoreDown> {
                Ok(Box::new(mysql::MySql::new(options.clone(), patience, gateway.clone())))
            };
            Ok(Some(("mysql", Arc::new(make))))
        }
        spec => check(spec).map(|()| None),
    }
}

#[cfg(not(all(feature = "redis", feature = "mysql")))]
fn built_without(feature: &str) -> String {
    format!("this tidegate was built without {feature}: build it with --features {feature}")
}
