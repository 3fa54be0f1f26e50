//! From a configuration to a running server: everything that can fail is built first, then spawned.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Sender, unbounded};
use mio::{Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::drain::DrainRun;
use super::inherited::{Inherited, Sockets};
use super::plan::{Drain, Notify};
use super::reload::{Hook, Reloader, Source};
use super::supervisor::Supervisor;
use super::systemd::Systemd;
use super::worker::{Report, Worker};
use super::{AuditLog, Server, Shared};
use crate::auth::Authenticator;
use crate::config::{AuthMode, Config, Steering};
use crate::limits::{MAX_WORKERS, REFUSAL_SLOTS};
use crate::proto::Command;
use crate::reactor::{
    self, Clock, Expiries, Hub, Inbox, Live, LiveCell, MAX_LISTENERS, Mailbox, Parts, Reactor, Services, WallClock,
};
use crate::service::{CutFlag, Handler, Place, Pool, Request, Responder, RouteError, Router};
use crate::session::{IdKey, SessionLimits, Sessions, StateLimits};
use crate::stats::WorkerStats;

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
    config: Config,
    router: Router,
    signals: bool,
    listeners: Vec<TcpListener>,
    clock: Clock,
    errors: Vec<RouteError>,
    source: Option<Source>,
    hooks: Vec<Hook>,
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

    /// Binds and starts.
    ///
    /// # Errors
    /// [`StartError::Config`] before anything is bound: a route or a setting is wrong, or the tokens
    /// file is. [`StartError::System`]: an address is taken, a directory can't be written, threads
    /// or descriptors have run out.
    pub fn start(self) -> Result<Server, StartError> {
        if let Some(error) = self.errors.first() {
            return Err(StartError::Config(error.to_string()));
        }
        let config = self.config;
        let inherited = Inherited::take(self.listeners, &config.sockets)?;
        check(&config, &inherited.as_ref().map_or_else(|| config.listen.clone(), Inherited::addresses))?;
        let inherited = inherited.map(|sockets| sockets.deal(config.workers)).transpose()?;
        let auth = Arc::new(Authenticator::new(&config).map_err(|e| StartError::Config(e.to_string()))?);
        let live = Live { config: Arc::new(config.clone()), auth: Arc::clone(&auth) };
        let live = Arc::new(LiveCell::new(live));
        #[cfg(feature = "admin")]
        let admin_token = crate::admin::AdminToken::new(&config.admin_auth);
        #[cfg(feature = "admin")]
        let admin_token = Arc::new(admin_token.map_err(|e| StartError::Config(e.to_string()))?);
        let audit = match &config.data_dir {
            Some(dir) => AuditLog::open(dir, &config.service_id).map_err(|e| StartError::System(e.to_string()))?,
            None => AuditLog::none(),
        };
        #[cfg(feature = "admin")]
        let admin = config.admin.map(crate::admin::Admin::bind).transpose();
        #[cfg(feature = "admin")]
        let admin = admin.map_err(|e| StartError::System(e.to_string()))?;
        let sockets = inherited.map_or_else(|| bind_all(&config), Ok)?;
        let addresses = sockets.addresses.clone();
        let system = |what: &'static str| move |e: std::io::Error| StartError::System(format!("{what}: {e}"));
        let pool = Pool::start(config.pool_threads, config.pool_queue).map_err(system("start the blocking pool"))?;
        let cut = CutFlag::default();
        let services = Services {
            router: Arc::new(self.router),
            pool: pool.sender(),
            auth,
            failures: Arc::default(),
            clock: self.clock,
            cut: cut.clone(),
        };
        let (reports, reports_in) = unbounded();
        let mut assembly = Assembly::new(&config, services.router.routes().len(), self.signals)
            .map_err(system("prepare the workers"))?;
        let began = Box::new(DrainBegan(reports.clone()));
        let drain = Arc::new(Drain::new(&config, cut, assembly.mailboxes.clone(), began));
        let shared = Arc::new(Shared {
            drain: Arc::clone(&drain),
            mailboxes: assembly.mailboxes.clone(),
            stats: assembly.stats.clone(),
            reports: reports.clone(),
            lost: (0..config.workers).map(|_| AtomicBool::new(false)).collect(),
            ids: assembly.ids.clone(),
            pool: pool.sender(),
            routes: services.router.routes().to_vec(),
            live: Arc::clone(&live),
            #[cfg(feature = "admin")]
            service_id: config.service_id.clone(),
            #[cfg(feature = "admin")]
            about: crate::admin::status::About {
                listen: addresses.clone(),
                started: std::time::SystemTime::now(),
                since: std::time::Instant::now(),
            },
        });
        let workers =
            assembly.workers(&live, sockets, &services, &drain, &reports).map_err(system("set up a worker"))?;
        drop(services);
        match audit.start() {
            Ok(None) => {}
            Ok(Some(crashed)) => {
                log::warn!("the server that started at {crashed} did not shut down: it crashed or was killed")
            }
            Err(error) => return Err(StartError::System(error.to_string())),
        }
        #[cfg(feature = "admin")]
        let admin_addr = admin.as_ref().map(crate::admin::Admin::local_addr);
        #[cfg(not(feature = "admin"))]
        let admin_addr = None;
        #[cfg(feature = "admin")]
        let admin = admin
            .map(|admin| admin.spawn(Arc::clone(&shared) as Arc<dyn crate::admin::Control>, Arc::clone(&admin_token)))
            .transpose()
            .map_err(|e| StartError::System(e.to_string()))?;
        let reloader = Reloader::new(live, Arc::clone(&drain), self.source, self.hooks);
        #[cfg(feature = "admin")]
        let reloader = reloader.with_admin_token(admin_token);
        let hangups = if self.signals { Some(hangups(reports).map_err(system("listen for SIGHUP"))?) } else { None };
        let count = workers.len();
        let threads = workers
            .into_iter()
            .map(|worker| Box::new(worker).spawn().map(Some))
            .collect::<Result<_, _>>()
            .map_err(system("start the worker threads"))?;
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            drain,
            reports: reports_in,
            threads,
            pool,
            audit,
            reloader,
            hangups,
            // A server that signals drain is the whole of its process.
            systemd: if self.signals { Systemd::from_env() } else { Systemd::none() },
            serving: vec![false; count],
            #[cfg(feature = "admin")]
            admin,
            resting: Vec::new(),
            drained: (0..count).map(|_| None).collect(),
            lost: Vec::new(),
        };
        let supervisor = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || supervisor.run())
            .map_err(system("start the supervisor"))?;
        Ok(Server { shared, supervisor: Some(supervisor), addresses, admin: admin_addr })
    }
}

/// What an embedder's [`Config`] has to hold, as one read from settings does.
fn check(config: &Config, addresses: &[SocketAddr]) -> Result<(), StartError> {
    let wrong = |text: String| Err(StartError::Config(text));
    if config.workers == 0 || config.workers > MAX_WORKERS {
        return wrong(format!("workers: {}; expected 1 to {MAX_WORKERS}", config.workers));
    }
    if addresses.is_empty() || addresses.len() > MAX_LISTENERS {
        return wrong(format!("listen: {} addresses; expected 1 to {MAX_LISTENERS}", addresses.len()));
    }
    if config.sockets.steering == Steering::Cpu && config.cpus.is_empty() {
        return wrong(
            "TIDEGATE_STEERING=cpu: set TIDEGATE_CPUS; nothing is steered to workers that run anywhere".into(),
        );
    }
    let open = addresses.iter().find(|address| !address.ip().is_loopback());
    if let (AuthMode::None, false, Some(address)) = (&config.auth, config.insecure, open) {
        return wrong(format!(
            "TIDEGATE_AUTH=none lets everybody in, and {address} is not a loopback address: \
             set TIDEGATE_AUTH=tokens, or TIDEGATE_INSECURE=yes if everybody may come in"
        ));
    }
    Ok(())
}

/// Every worker's listeners, and the addresses that they share.
fn bind_all(config: &Config) -> Result<Sockets, StartError> {
    let mut addresses = Vec::new();
    let mut listeners: Vec<Vec<TcpListener>> = (0..config.workers).map(|_| Vec::new()).collect();
    for address in &config.listen {
        let mut address = *address;
        for (worker, own) in listeners.iter_mut().enumerate() {
            let cpu = config.cpu(worker).filter(|_| config.sockets.steering == Steering::Cpu);
            let bound = reactor::bind(address, config.backlog, &config.sockets, cpu);
            let bound = bound.and_then(|l| Ok((l.local_addr()?, l)));
            let (actual, listener) = bound.map_err(|error| {
                StartError::System(format!("listen on {address}: {error}; set TIDEGATE_LISTEN to a free address"))
            })?;
            address = actual; // port 0: the first worker's choice is everybody's
            own.push(listener);
        }
        addresses.push(address);
    }
    if let Some(first) = listeners.first().and_then(|own| own.first()) {
        reactor::shortfalls(first, &config.sockets).iter().for_each(|told| log::warn!("{told}"));
    }
    Ok(Sockets { addresses, listeners, kept: false })
}

/// Reports every SIGHUP, until the handle is closed.
fn hangups(reports: Sender<Report>) -> std::io::Result<signal_hook::iterator::Handle> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP])?;
    let handle = signals.handle();
    let forward = move || {
        for _ in &mut signals {
            // The supervisor has ended, and so will this thread.
            let _ = reports.send(Report::Reload("signal:SIGHUP".to_owned()));
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(handle)
}

#[derive(Debug)]
struct DrainBegan(Sender<Report>);

impl Notify for DrainBegan {
    fn notify(&self) {
        // The supervisor has ended: there is nothing left to drain.
        let _ = self.0.send(Report::DrainBegan);
    }
}

/// The workers' parts that know of each other, before there are workers.
struct Assembly {
    polls: Vec<(Poll, Inbox, Option<Signals>)>,
    mailboxes: Vec<Arc<Mailbox>>,
    stats: Vec<Arc<WorkerStats>>,
    ids: IdKey,
}

impl Assembly {
    fn new(config: &Config, routes: usize, signals: bool) -> std::io::Result<Assembly> {
        let mut assembly = Assembly { polls: Vec::new(), mailboxes: Vec::new(), stats: Vec::new(), ids: IdKey::new() };
        for worker in 0..config.workers {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), reactor::WAKER)?;
            let (mailbox, inbox) = reactor::mailbox(config.core(worker).mailbox, waker);
            let signals = signals.then(|| Signals::new([SIGTERM, SIGINT])).transpose()?;
            assembly.polls.push((poll, inbox, signals));
            assembly.mailboxes.push(mailbox);
            assembly.stats.push(Arc::new(WorkerStats::for_routes(routes)));
        }
        Ok(assembly)
    }

    fn workers(
        &mut self,
        live: &Arc<LiveCell>,
        sockets: Sockets,
        services: &Services,
        drain: &Arc<Drain>,
        reports: &Sender<Report>,
    ) -> std::io::Result<Vec<Worker>> {
        let config = &*live.get().config;
        let state = StateLimits { entries: config.session_max_entries, bytes: config.session_max_bytes };
        let ttl_s = config.session_ttl.as_secs().min(u64::from(u32::MAX)) as u32;
        let polls = std::mem::take(&mut self.polls);
        let mut workers = Vec::with_capacity(config.workers);
        for (index, ((poll, inbox, signals), listeners)) in polls.into_iter().zip(sockets.listeners).enumerate() {
            let core = config.core(index);
            let limits = SessionLimits { sessions: core.max_sessions, state, ttl_s };
            let hub = Hub::new(
                index as u16,
                Sessions::new(index as u16, self.ids.clone(), limits),
                self.ids.clone(),
                self.mailboxes.clone(),
                core.max_pending,
                Arc::clone(&self.stats[index]),
                Expiries::new(config, index, core.max_connections + REFUSAL_SLOTS),
            );
            let live = Arc::clone(live);
            let services = services.clone();
            let parts =
                Parts { poll, listeners, listeners_are_kept: sockets.kept, signals, hub, inbox, services, live };
            workers.push(Worker {
                index,
                reactor: Reactor::new(config, parts)?,
                events: core.events,
                cpu: config.cpu(index),
                drain: Arc::clone(drain),
                run: DrainRun::new(index, config.workers),
                reports: reports.clone(),
                signals_seen: 0,
                deaths: 0,
                died: None,
            });
        }
        Ok(workers)
    }
}
