//! SHELL: the only mio code on the data path. One `Reactor` a worker; no locks, no sharing.
//!
//! | file | what it keeps |
//! |---|---|
//! | `tick` | the worker's loop body, and everything that a worker owns |
//! | `turn` | one connection's turn: read, serve, write |
//! | `gate`, `listener`, `options` | accepting, and not accepting |
//! | `serve`, `hub` | what requests meet: services, sessions, other workers |
//! | `mail`, `mailbox` | what comes from other threads |
//! | `stored` | what a session store is told, and who waits for it |
//! | `pending` | requests in flight |
//! | `deadlines` | all timers of the worker |
//! | `held`, `expiry` | failed logins, and tokens that expire |
//! | `transport`, `outq` | the stream under a connection |
//! | `about`, `access` | whom log lines are about, and a line for a request |
//! | `live` | what may change while it runs |
//! | `leave` | what a drain asks for |
//! | `inquiry`, `inspect` | what an operator asks for: lists of connections, and the end of one |
//! | `submit` | SUBMIT, to the journal and back |
//! | `steps` | where the time of a tick goes |
//! | `token` | names of event sources |
//! | `bench_support` | what micro benchmarks reach of all this |

mod about;
mod access;
#[doc(hidden)]
pub mod bench_support;
mod clock;
mod deadlines;
mod expiry;
mod gate;
mod held;
mod hub;
mod inquiry;
mod inspect;
mod leave;
#[cfg(test)]
mod linger_tests;
mod listener;
mod live;
mod mail;
mod mailbox;
mod options;
mod outq;
mod pending;
mod serve;
mod steps;
mod stored;
mod submit;
mod tick;
mod token;
mod transport;
mod turn;

pub use access::ACCESS_TARGET;
pub(crate) use clock::{Clock, WallClock};
pub use deadlines::Deadlines;
pub(crate) use expiry::Expiries;
pub(crate) use hub::Hub;
pub use inquiry::{Connections, Inquiry};
pub use inspect::{ConnectionInfo, Disconnected, ListPart, ListQuery};
pub(crate) use leave::CutConnection;
pub(crate) use listener::bind;
pub(crate) use live::{Live, LiveCell};
pub(crate) use mailbox::{Inbox, Letter, Mailbox, mailbox};
pub(crate) use options::shortfalls;
pub(crate) use serve::Services;
pub(crate) use stored::Leftover;
pub(crate) use tick::{Parts, Reactor};
pub(crate) use token::{MAX_LISTENERS, WAKER};
