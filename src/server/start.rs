//! From a configuration to a running server: what can be wrong is found first, then what can fail is
//! made, then threads are started.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::unbounded;

use super::assembly::{Assembly, DrainBegan, hangups};
use super::bind::bind_all;
use super::inherited::{Inherited, Sockets};
use super::plan::Drain;
use super::records::{self, Records};
use super::reload::Reloader;
use super::stores::{self, OpenedStore, SessionStores};
use super::supervisor::Supervisor;
use super::systemd::Systemd;
use super::worker::Report;
use super::{AuditLog, Builder, Server, Shared, StartError};
#[cfg(feature = "admin")]
use crate::admin::{Admin, AdminToken, Control, status::About};
use crate::auth::Authenticator;
use crate::config::{AuthMode, Config, Steering};
use crate::journal::Settle;
use crate::journal::sink::{Handlers, Sinks, make_all};
use crate::limits::MAX_WORKERS;
use crate::reactor::{Live, LiveCell, MAX_LISTENERS, Services};
use crate::service::{CutFlag, Pool};
use crate::session::store::MakeStore;

/// Starts what `builder` describes; see [`Builder::start`].
pub(super) fn start(builder: Builder) -> Result<Server, StartError> {
    let Builder { config, router, signals, listeners, clock, errors, source, hooks, consumers, session_store } =
        builder;
    if let Some(error) = errors.first() {
        return Err(StartError::Config(error.to_string()));
    }
    let checked = Checked::of(&config, listeners, &consumers)?;
    let opened = Opened::of(&config, checked.inherited, session_store)?;
    let addresses = opened.sockets.addresses.clone();
    let cut = CutFlag::default();
    let (auth, failures) = (Arc::clone(&checked.auth), Arc::default());
    let pool = opened.pool.sender();
    let services = Services { router: Arc::new(router), pool, auth, failures, clock, cut: cut.clone() };
    let (reports, reports_in) = unbounded();
    let routes = services.router.routes().to_vec();
    let mut assembly = Assembly::new(&config, routes.len(), signals).map_err(system("prepare the workers"))?;
    let began = Box::new(DrainBegan(reports.clone()));
    let drain = Arc::new(Drain::new(&config, cut, assembly.mailboxes.clone(), began));
    let live = Arc::new(LiveCell::new(Live { config: Arc::new(config.clone()), auth: checked.auth }));
    let settle = assembly.mailboxes.iter().map(|mailbox| Arc::clone(mailbox) as Arc<dyn Settle>).collect();
    let failed = reports.clone();
    // The supervisor has ended: there is nobody left to tell.
    let on_poison = Box::new(move |why: &str| drop(failed.send(Report::JournalFailed(why.to_owned()))));
    let records = Records::start(&config, opened.journal, checked.sinks, settle, on_poison)?;
    if opened.session_store.is_some() {
        assembly.ids = assembly.ids.adopting();
    }
    let (session_stores, couriers) = SessionStores::start(opened.session_store, &assembly.mailboxes)?;
    let shared = Arc::new(Shared {
        drain: Arc::clone(&drain),
        mailboxes: assembly.mailboxes.clone(),
        stats: assembly.stats.clone(),
        reports: reports.clone(),
        lost: (0..config.workers).map(|_| AtomicBool::new(false)).collect(),
        ids: assembly.ids.clone(),
        pool: opened.pool.sender(),
        routes,
        live: Arc::clone(&live),
        records: records.views(),
        session_stores: session_stores.clone(),
        #[cfg(feature = "admin")]
        service_id: config.service_id.clone(),
        #[cfg(feature = "admin")]
        about: About {
            listen: addresses.clone(),
            started: std::time::SystemTime::now(),
            since: std::time::Instant::now(),
        },
    });
    let journal = records.journal();
    let workers = assembly.workers(&live, opened.sockets, &services, &drain, &reports, journal);
    let mut workers = workers.map_err(system("set up a worker"))?;
    workers.iter_mut().zip(couriers).for_each(|(worker, courier)| worker.reactor.keep_sessions(courier));
    drop(services); // the pool ends with its last sender
    if let Some(crashed) = opened.audit.start().map_err(|e| StartError::System(e.to_string()))? {
        log::warn!("the server that started at {crashed} did not shut down: it crashed or was killed");
    }
    #[cfg(feature = "admin")]
    let admin_addr = opened.admin.as_ref().map(Admin::local_addr);
    #[cfg(not(feature = "admin"))]
    let admin_addr = None;
    #[cfg(feature = "admin")]
    let admin = {
        let serve =
            |admin: Admin| admin.spawn(Arc::clone(&shared) as Arc<dyn Control>, Arc::clone(&checked.admin_token));
        opened.admin.map(serve).transpose().map_err(|e| StartError::System(e.to_string()))?
    };
    let reloader = Reloader::new(live, Arc::clone(&drain), source, hooks);
    #[cfg(feature = "admin")]
    let reloader = reloader.with_admin_token(checked.admin_token);
    let hangups = if signals { Some(hangups(reports).map_err(system("listen for SIGHUP"))?) } else { None };
    let count = workers.len();
    let threads = workers.into_iter().map(|worker| Box::new(worker).spawn().map(Some)).collect::<Result<_, _>>();
    let supervisor = Supervisor {
        shared: Arc::clone(&shared),
        drain,
        reports: reports_in,
        threads: threads.map_err(system("start the worker threads"))?,
        pool: opened.pool,
        audit: opened.audit,
        records,
        session_stores,
        reloader,
        hangups,
        // A server that signals drain is the whole of its process.
        systemd: if signals { Systemd::from_env() } else { Systemd::none() },
        serving: vec![false; count],
        #[cfg(feature = "admin")]
        admin,
        resting: Vec::new(),
        drained: (0..count).map(|_| None).collect(),
        lost: Vec::new(),
    };
    let thread = std::thread::Builder::new().name("supervisor".to_owned());
    let supervisor = thread.spawn(move || supervisor.run()).map_err(system("start the supervisor"))?;
    Ok(Server { shared, supervisor: Some(supervisor), addresses, admin: admin_addr })
}

/// What a configuration comes to, and nothing is bound yet.
struct Checked {
    auth: Arc<Authenticator>,
    inherited: Option<Sockets>,
    sinks: Sinks,
    #[cfg(feature = "admin")]
    admin_token: Arc<AdminToken>,
}

impl Checked {
    fn of(config: &Config, listeners: Vec<TcpListener>, consumers: &Handlers) -> Result<Checked, StartError> {
        let inherited = Inherited::take(listeners, &config.sockets)?;
        check(config, &inherited.as_ref().map_or_else(|| config.listen.clone(), Inherited::addresses))?;
        Ok(Checked {
            inherited: inherited.map(|sockets| sockets.deal(config.workers)).transpose()?,
            sinks: make_all(config, consumers).map_err(StartError::Config)?,
            auth: Arc::new(Authenticator::new(config).map_err(|e| StartError::Config(e.to_string()))?),
            #[cfg(feature = "admin")]
            admin_token: Arc::new(AdminToken::new(&config.admin_auth).map_err(|e| StartError::Config(e.to_string()))?),
        })
    }
}

/// What the system gave: all of it is given back where the start ends early.
struct Opened {
    audit: AuditLog,
    /// Behind the audit log, whose lock says that nobody else has the directory.
    journal: Option<records::OpenedJournal>,
    session_store: Option<OpenedStore>,
    sockets: Sockets,
    pool: Pool,
    #[cfg(feature = "admin")]
    admin: Option<Admin>,
}

impl Opened {
    fn of(config: &Config, inherited: Option<Sockets>, session_store: Option<MakeStore>) -> Result<Opened, StartError> {
        let audit = match &config.data_dir {
            Some(dir) => AuditLog::open(dir, &config.service_id).map_err(|e| StartError::System(e.to_string()))?,
            None => AuditLog::none(),
        };
        let journal = config.data_dir.as_deref().map(|dir| records::open(dir, config)).transpose()?;
        Ok(Opened {
            audit,
            journal,
            session_store: stores::open(config, session_store)?,
            #[cfg(feature = "admin")]
            admin: config.admin.map(Admin::bind).transpose().map_err(|e| StartError::System(e.to_string()))?,
            sockets: inherited.map_or_else(|| bind_all(config), Ok)?,
            pool: Pool::start(config.pool_threads, config.pool_queue).map_err(system("start the blocking pool"))?,
        })
    }
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError::System(format!("{what}: {error}"))
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
