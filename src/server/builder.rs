//! What a server is made of, before it is started.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use super::Server;
use super::reload::{Hook, Source};
use crate::config::Config;
use crate::journal::sink::{Consumer, Handlers};
use crate::proto::Command;
use crate::reactor::{Clock, WallClock};
use crate::service::{Handler, Place, Request, Responder, RouteError, Router};
use crate::session::store::MakeStore;

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong; nothing was bound.
    Config(String),
    /// The system did not give what it takes.
    System(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StartError::Config(text) | StartError::System(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for StartError {}

/// Puts a server together.
#[derive(Default)]
pub struct Builder {
    pub(super) config: Config,
    pub(super) router: Router,
    pub(super) signals: bool,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) clock: Clock,
    pub(super) errors: Vec<RouteError>,
    pub(super) source: Option<Source>,
    pub(super) hooks: Vec<Hook>,
    pub(super) session_store: Option<MakeStore>,
    pub(super) consumers: Handlers,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).field("router", &self.router).finish_non_exhaustive()
    }
}

impl Builder {
    /// The settings; without, the documented defaults.
    #[must_use]
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// Where a reload finds the configuration that is wanted by then; the error says in lines what is
    /// wrong with it. Without, a reload reads the files again that the configuration names.
    #[must_use]
    pub fn reload_from(mut self, source: impl Fn() -> Result<Config, Vec<String>> + Send + 'static) -> Builder {
        self.source = Some(Box::new(source));
        self
    }

    /// Is called, on the supervisor's thread, with every configuration that a reload puts into effect.
    #[must_use]
    pub fn on_reload(mut self, hook: impl Fn(&Config) + Send + 'static) -> Builder {
        self.hooks.push(Box::new(hook));
        self
    }

    /// Whether SIGTERM and SIGINT drain this server, and SIGHUP reloads it. Off by default: an embedding process has
    /// signals of its own.
    #[must_use]
    pub fn signals(mut self, on: bool) -> Builder {
        self.signals = on;
        self
    }

    /// Sockets that listen already, and that are used in place of binding [`Config::listen`]: those
    /// that systemd opened, for one (sd_listen_fds(3)). Several may listen on one address, with
    /// SO_REUSEPORT: as many as there are workers is best.
    ///
    /// Whoever gives them keeps them: a drain closes our descriptors and leaves those who connect from
    /// then on in the backlog, for the process that comes next.
    #[must_use]
    pub fn listeners(mut self, sockets: Vec<TcpListener>) -> Builder {
        self.listeners = sockets;
        self
    }

    /// Takes `wall` for the wall clock, for tests of what happens when time has passed.
    #[doc(hidden)]
    #[must_use]
    pub fn wall_clock(mut self, wall: WallClock) -> Builder {
        self.clock = Clock::new(wall);
        self
    }

    /// Serves a command, 0x20 to 0xFF, on the worker that received it. The handler must not block:
    /// a whole core waits for it.
    #[must_use]
    pub fn route<F>(self, cmd: u8, handler: F) -> Builder
    where
        F: Fn(&Request<'_>, Responder<'_>) + Send + Sync + 'static,
    {
        self.mount(cmd, Place::Worker, Arc::new(handler))
    }

    /// Serves a command, 0x20 to 0xFF, on the blocking pool. When all its threads are busy and its
    /// queue is full, requests get OVERLOADED.
    #[must_use]
    pub fn route_blocking<F>(self, cmd: u8, handler: F) -> Builder
    where
        F: Fn(&Request<'_>, Responder<'_>) + Send + Sync + 'static,
    {
        self.mount(cmd, Place::Pool, Arc::new(handler))
    }

    /// Serves a command with a [`Handler`].
    #[must_use]
    pub fn mount(mut self, cmd: u8, place: Place, handler: Arc<dyn Handler>) -> Builder {
        if let Err(error) = self.router.add(Command(cmd), place, handler) {
            self.errors.push(error);
        }
        self
    }

    /// Where `handler:NAME` in `TIDEGATE_SINKS` leads: messages go to this consumer, on a thread of its own.
    #[must_use]
    pub fn sink(mut self, name: &str, consumer: impl Consumer) -> Builder {
        self.consumers.add(name, Arc::new(consumer));
        self
    }

    /// Keeps sessions in a store of one's own, in place of that of [`Config::session_store`].
    #[must_use]
    pub fn session_store(mut self, make: MakeStore) -> Builder {
        self.session_store = Some(make);
        self
    }

    /// Binds and starts.
    ///
    /// # Errors
    /// [`StartError::Config`] before anything is bound: a route or a setting is wrong, or the tokens
    /// file is. [`StartError::System`]: an address is taken, a directory can't be written, threads
    /// or descriptors have run out.
    pub fn start(self) -> Result<Server, StartError> {
        super::start::start(self)
    }
}
