//! What the operator may set. [`Config`] is validated: whoever holds one may trust it.

mod auth;
mod core;
mod cpus;
mod cross;
mod env_file;
mod parse;
mod reload;
mod secret;
mod settings;
mod show;
mod sinks;
mod sockets;
mod table;

pub use self::auth::{AuthExpiry, AuthMode, JwtAlgorithm, JwtKeys, JwtSettings};
pub use self::core::Core;
pub use cpus::Machine;
pub use parse::{SettingError, is_name};
pub use reload::{Change, Reload};
pub use secret::{AdminAuth, Secret, is_admin_token};
pub use settings::{Origin, Settings};
pub use sinks::{SessionStoreSpec, SinkKind, SinkRoute, SinkSpec, SubmitAck};
pub use sockets::{Sockets, Steering};
pub use table::{SETTINGS, Setting, markdown_table};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every setting, checked. [`Config::default`] has the documented defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `TIDEGATE_LISTEN`: addresses that every worker listens on.
    pub listen: Vec<SocketAddr>,
    /// `TIDEGATE_ADMIN`: the admin port, or `None` for `off`.
    pub admin: Option<SocketAddr>,
    /// `TIDEGATE_ADMIN_TOKEN_FILE`, `TIDEGATE_ADMIN_TOKEN`: what an operator has to show there.
    pub admin_auth: AdminAuth,
    /// `TIDEGATE_WORKERS`: worker threads, one for each core; 1 to [`crate::limits::MAX_WORKERS`].
    pub workers: usize,
    /// `TIDEGATE_CPUS`: worker `i` is pinned to `cpus[i % cpus.len()]`; empty: not pinned.
    pub cpus: Vec<usize>,
    /// `TIDEGATE_DATA_DIR`: where the audit log is kept.
    pub data_dir: Option<PathBuf>,
    /// `TIDEGATE_SERVICE_ID`: this server's name in the audit log and in logs.
    pub service_id: String,
    /// `TIDEGATE_AUTH`, `TIDEGATE_TOKENS_FILE`, `TIDEGATE_JWT_…`: who gets in.
    pub auth: AuthMode,
    /// `TIDEGATE_JWT_LEEWAY_S`: by how much clocks may differ from that of whoever issues tokens.
    pub jwt_leeway: Duration,
    /// `TIDEGATE_AUTH_EXPIRY`: what becomes of a connection whose token has expired.
    pub auth_expiry: AuthExpiry,
    /// `TIDEGATE_AUTH_EXPIRY_GRACE_MS`: how long it is served after it was told so.
    pub auth_expiry_grace: Duration,
    /// `TIDEGATE_AUTH_FAILURES_FREE`: failed logins of one source that are answered at once.
    pub auth_failures_free: u32,
    /// `TIDEGATE_AUTH_FAILURES_DELAY_MS`: by how much the next answer is put off; 0: not at all.
    pub auth_failures_delay: Duration,
    /// `TIDEGATE_AUTH_FAILURES_MAX_DELAY_MS`: the longest such delay; one failure is forgotten in it.
    pub auth_failures_max_delay: Duration,
    /// `TIDEGATE_AUTH_FAILURES_REFUSE`: failed logins of one source from which on its tokens are not
    /// checked; 0: they always are.
    pub auth_failures_refuse: u32,
    /// `TIDEGATE_INSECURE=yes`: `none` may listen on other than loopback addresses.
    pub insecure: bool,
    /// `TIDEGATE_AUTH_TIMEOUT_MS`: time from accept to AUTH.
    pub auth_timeout: Duration,
    /// `TIDEGATE_FRAME_TIMEOUT_MS`: time from a frame's first byte to its last.
    pub frame_timeout: Duration,
    /// `TIDEGATE_HEARTBEAT_MS`: silence after which the server sends PING.
    pub heartbeat: Duration,
    /// `TIDEGATE_HEARTBEAT_MISSES`: silent intervals after the PING until IDLE.
    pub heartbeat_misses: u8,
    /// `TIDEGATE_SESSION_TTL_S`: how long a session outlives its connection.
    pub session_ttl: Duration,
    /// `TIDEGATE_SESSION_MAX_ENTRIES`: keys in one session's state.
    pub session_max_entries: usize,
    /// `TIDEGATE_SESSION_MAX_BYTES`: bytes of keys and values in one session's state.
    pub session_max_bytes: usize,
    /// `TIDEGATE_SESSION_HOP_TIMEOUT_MS`: how long an operation on a session, its resumption included,
    /// waits for the worker that it lives on.
    pub session_hop_timeout: Duration,
    /// `TIDEGATE_SESSION_STORE`: where sessions are kept.
    pub session_store: SessionStoreSpec,
    /// `TIDEGATE_SESSION_STORE_TIMEOUT_MS`: how long an operation of a session store may take.
    pub session_store_timeout: Duration,
    /// `TIDEGATE_SESSION_STORE_CONNECTIONS`: connections to a session store.
    pub session_store_connections: usize,
    /// `TIDEGATE_SESSION_STORE_IDLE_S`: how long one of them may be idle until it is closed.
    pub session_store_idle: Duration,
    /// `TIDEGATE_SESSION_STORE_LIFETIME_S`: how old one of them may become.
    pub session_store_lifetime: Duration,
    /// `TIDEGATE_SESSION_STORE_QUEUE`: operations that wait for a session store.
    pub session_store_queue: usize,
    /// `TIDEGATE_SESSION_STORE_FAILURES`: failures in a row after which a session store is taken for down.
    pub session_store_failures: u32,
    /// `TIDEGATE_SESSION_STORE_RETRY_MS`: how long it is left alone then.
    pub session_store_retry: Duration,
    /// `TIDEGATE_JOURNAL_SEGMENT_BYTES`: bytes of one file of the journal.
    pub journal_segment_bytes: u64,
    /// `TIDEGATE_JOURNAL_MAX_BYTES`: bytes of the whole journal; above, SUBMIT is OVERLOADED.
    pub journal_max_bytes: u64,
    /// `TIDEGATE_JOURNAL_MIN_FREE_BYTES`: bytes that the journal leaves free on its disk.
    pub journal_min_free_bytes: u64,
    /// `TIDEGATE_JOURNAL_QUEUE_BYTES`: bytes of messages that wait for the journal's disk.
    pub journal_queue_bytes: usize,
    /// `TIDEGATE_JOURNAL_BUSY_POLL_US`: microseconds for which the journal's thread goes on looking for messages
    /// after it had some, before it sleeps; 0: it sleeps at once.
    pub journal_busy_poll_us: u32,
    /// `TIDEGATE_JOURNAL_RETAIN_S`: how long messages without a sink are kept.
    pub journal_retain: Duration,
    /// `TIDEGATE_JOURNAL_RETAIN_BYTES`: bytes of messages without a sink that are kept.
    pub journal_retain_bytes: u64,
    /// `TIDEGATE_DEDUP_WINDOW_S`: how long an idempotency key is remembered.
    pub dedup_window: Duration,
    /// `TIDEGATE_DEDUP_MAX`: idempotency keys that are remembered.
    pub dedup_max: usize,
    /// `TIDEGATE_SINKS`: where messages go, the first route that matches.
    pub sinks: Vec<SinkRoute>,
    /// `TIDEGATE_SUBMIT_ACK`: when SUBMIT is answered.
    pub submit_ack: SubmitAck,
    /// `TIDEGATE_SINK_BATCH`: messages that a sink is given at once.
    pub sink_batch: usize,
    /// `TIDEGATE_SINK_TRIES`: how often a message that its sink refuses is tried.
    pub sink_tries: u32,
    /// `TIDEGATE_SINK_BACKOFF_MS`: how long the first pause is after a sink was down or refused a message.
    pub sink_backoff: Duration,
    /// `TIDEGATE_SINK_BACKOFF_MAX_MS`: how long the longest is.
    pub sink_backoff_max: Duration,
    /// `TIDEGATE_SINK_TIMEOUT_MS`: how long a sink may take for a batch until it is taken for down.
    pub sink_timeout: Duration,
    /// `TIDEGATE_DEAD_LETTER_TOPIC`: where messages go that their sink has refused for good.
    pub dead_letter_topic: String,
    /// `TIDEGATE_MAX_PAYLOAD`: bytes of a body.
    pub max_payload: usize,
    /// `TIDEGATE_MAX_IN_FLIGHT`: requests of one connection that are not yet answered; above, the
    /// connection is not read.
    pub max_in_flight: u16,
    /// `TIDEGATE_CORE_…`: what every worker may have.
    pub core: Core,
    /// `TIDEGATE_CORE_3_…`: what worker 3, say, may have instead. Read through [`Config::core`].
    pub cores: BTreeMap<usize, Core>,
    /// `TIDEGATE_BACKLOG`: `listen(2)`'s backlog, for each listener.
    pub backlog: u32,
    /// `TIDEGATE_SO_…`, `TIDEGATE_TCP_…`, `TIDEGATE_STEERING`: what is asked of the kernel.
    pub sockets: Sockets,
    /// `TIDEGATE_OUTBOUND_HIGH`: unsent bytes above which a connection is not read.
    pub outbound_high: usize,
    /// `TIDEGATE_OUTBOUND_LOW`: unsent bytes at which it is read again.
    pub outbound_low: usize,
    /// `TIDEGATE_OUTBOUND_MAX`: unsent bytes above which it is cut.
    pub outbound_max: usize,
    /// `TIDEGATE_SLOW_CONSUMER_MS`: how long a connection may take none of what it is sent.
    pub slow_consumer: Duration,
    /// `TIDEGATE_OUTBOUND_AGE_MS`: how long a connection may be behind with its output, though it takes
    /// some of it now and then.
    pub outbound_age: Duration,
    /// `TIDEGATE_LINGER_MS`: how long a half-closed connection is read until its EOF.
    pub linger: Duration,
    /// `TIDEGATE_POOL_THREADS`: threads for handlers that block.
    pub pool_threads: usize,
    /// `TIDEGATE_POOL_QUEUE`: requests that wait for such a thread.
    pub pool_queue: usize,
    /// `TIDEGATE_HEALTH_LIMIT_MS`: how long a worker may not have turned its loop.
    pub health_limit: Duration,
    /// `TIDEGATE_DRAIN_TIMEOUT_MS`: from the signal to the cut.
    pub drain_timeout: Duration,
    /// `TIDEGATE_DRAIN_ANNOUNCE_MS`: not ready, but still accepting.
    pub drain_announce: Duration,
    /// `TIDEGATE_DRAIN_NOTICE_MS`: from GOAWAY's notice to its final stage.
    pub drain_notice: Duration,
    /// `TIDEGATE_WATCH_MS`: how often files of secrets are looked at for a change; zero: never.
    pub watch: Duration,
    /// `TIDEGATE_LOG`: the log filter.
    pub log: String,
    /// `TIDEGATE_LOG_FORMAT`: what log lines look like.
    pub log_format: LogFormat,
    /// `TIDEGATE_LOG_BURST`: log lines from one place in the code within an interval; 0: no limit.
    pub log_burst: u32,
    /// `TIDEGATE_LOG_INTERVAL_MS`: that interval.
    pub log_interval: Duration,
    /// `TIDEGATE_ACCESS_LOG_RATE`: access lines that each worker logs in a second; 0: none.
    pub access_log_rate: u32,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As `TIDEGATE_LOG_FORMAT` has it.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// How generated tokens begin, so that one that leaked can be recognised for what it is.
pub const TOKEN_PREFIX: &str = "tg_";

impl Config {
    /// Files, and directories of files, that hold secrets or digests of them: what is read again when
    /// it changes.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let admin = match &self.admin_auth {
            AdminAuth::File(path) => Some(path.as_path()),
            AdminAuth::None | AdminAuth::Token(_) => None,
        };
        self.auth.files().into_iter().chain(admin).map(Path::to_owned).collect()
    }

    /// The CPU that `worker` is pinned to; `None`: it runs anywhere.
    pub fn cpu(&self, worker: usize) -> Option<usize> {
        self.cpus.get(worker % self.cpus.len().max(1)).copied()
    }

    /// What `worker` may have.
    pub fn core(&self, worker: usize) -> &Core {
        self.cores.get(&worker).unwrap_or(&self.core)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7400))],
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7401))),
            admin_auth: AdminAuth::None,
            workers: std::thread::available_parallelism().map_or(1, |n| n.get().min(crate::limits::MAX_WORKERS)),
            cpus: Vec::new(),
            data_dir: None,
            service_id: "tidegate".to_owned(),
            auth: AuthMode::None,
            jwt_leeway: Duration::from_secs(60),
            auth_expiry: AuthExpiry::Close,
            auth_expiry_grace: Duration::from_secs(10),
            auth_failures_free: 10,
            auth_failures_delay: Duration::from_millis(250),
            auth_failures_max_delay: Duration::from_secs(4),
            auth_failures_refuse: 100,
            insecure: false,
            auth_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
            heartbeat_misses: 2,
            session_ttl: Duration::from_secs(300),
            session_max_entries: 64,
            session_max_bytes: 16 * 1024,
            session_hop_timeout: Duration::from_secs(5),
            session_store: SessionStoreSpec::Auto,
            session_store_timeout: Duration::from_secs(2),
            session_store_connections: 4,
            session_store_idle: Duration::from_secs(300),
            session_store_lifetime: Duration::from_secs(1_800),
            session_store_queue: 65_536,
            session_store_failures: 5,
            session_store_retry: Duration::from_secs(1),
            journal_segment_bytes: 64 << 20,
            journal_max_bytes: 8 << 30,
            journal_min_free_bytes: 256 << 20,
            journal_queue_bytes: 64 << 20,
            journal_busy_poll_us: 0,
            journal_retain: Duration::from_secs(7 * 86_400),
            journal_retain_bytes: 4 << 30,
            dedup_window: Duration::from_secs(600),
            dedup_max: 1_000_000,
            sinks: vec![SinkRoute::keep_all()],
            submit_ack: SubmitAck::Journal,
            sink_batch: 500,
            sink_tries: 5,
            sink_backoff: Duration::from_millis(100),
            sink_backoff_max: Duration::from_secs(30),
            sink_timeout: Duration::from_secs(10),
            dead_letter_topic: "dead-letter".to_owned(),
            max_payload: crate::proto::MAX_BODY,
            max_in_flight: 64,
            core: Core::default(),
            cores: BTreeMap::new(),
            backlog: 4_096,
            sockets: Sockets::default(),
            outbound_high: 256 * 1024,
            outbound_low: 64 * 1024,
            outbound_max: 1024 * 1024,
            slow_consumer: Duration::from_secs(10),
            outbound_age: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            pool_threads: 16,
            pool_queue: 1_024,
            health_limit: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
            drain_announce: Duration::ZERO,
            drain_notice: Duration::from_secs(1),
            watch: Duration::from_secs(5),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            log_burst: 100,
            log_interval: Duration::from_secs(10),
            access_log_rate: 0,
        }
    }
}
