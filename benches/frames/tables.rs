//! What a worker keeps beside its connections: timers, mail, sessions; and who gets in.

use std::hint::black_box;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tidegate::auth::Authenticator;
use tidegate::config::{AuthMode, Config};
use tidegate::conn::Millis;
use tidegate::reactor::Deadlines;
use tidegate::reactor::bench_support::Worker;
use tidegate::service::Router;
use tidegate::session::{Claim, IdKey, Owner, Secret, SessionKey, SessionLimits, Sessions, StateLimits};

use crate::harness::{Case, Work, work};

pub const CASES: &[Case] = &[
    Case { name: "deadlines_arm", make: deadlines_arm },
    Case { name: "deadlines_none_due", make: deadlines_none_due },
    Case { name: "deadlines_all_due", make: deadlines_all_due },
    Case { name: "mailbox_letter", make: mailbox_letter },
    Case { name: "mailbox_answer", make: mailbox_answer },
    Case { name: "session_create", make: session_create },
    Case { name: "session_find", make: session_find },
    Case { name: "session_resume", make: session_resume },
    Case { name: "session_expire", make: session_expire },
    Case { name: "token_known", make: || tokens(0) },
    Case { name: "token_unknown", make: || tokens(TOKENS) },
];

/// Timers of one worker.
const SLOTS: usize = 65_536;
/// Pieces of mail to a batch.
const MAIL: u32 = 64;
/// Sessions of each batch.
const SESSIONS: u32 = 1024;
/// Lines of the tokens file.
const TOKENS: u32 = 1000;

/// All timers of a worker, and the time.
struct Timers {
    deadlines: Deadlines,
    now: Millis,
    due: Vec<usize>,
}

impl Timers {
    fn new() -> Timers {
        let mut timers =
            Timers { deadlines: Deadlines::with_capacity(SLOTS), now: Millis(1), due: Vec::with_capacity(SLOTS) };
        timers.arm();
        timers
    }

    /// Every connection has its heartbeat ahead, spread over the interval as they came.
    fn arm(&mut self) {
        for slot in 0..SLOTS {
            self.deadlines.set(slot, Some(self.now.plus(30_000 + (slot % 1024) as u32)));
        }
    }

    fn look(&mut self) -> usize {
        self.due.clear();
        self.deadlines.expired(self.now, &mut self.due);
        self.due.len()
    }
}

fn deadlines_arm() -> Box<dyn Work> {
    let run = |timers: &mut Timers| {
        timers.arm();
        SLOTS as u64
    };
    work(Timers::new(), |timers| timers.now = timers.now.plus(1), run)
}

/// A timer that would have been due was taken back: all the others are looked at for nothing.
fn deadlines_none_due() -> Box<dyn Work> {
    let prepare = |timers: &mut Timers| {
        timers.arm();
        timers.now = timers.now.plus(1_000);
        timers.deadlines.set(0, Some(timers.now));
        timers.deadlines.set(0, None);
    };
    let run = |timers: &mut Timers| {
        assert_eq!(timers.look(), 0);
        SLOTS as u64
    };
    work(Timers::new(), prepare, run)
}

fn deadlines_all_due() -> Box<dyn Work> {
    let prepare = |timers: &mut Timers| {
        timers.arm();
        timers.now = timers.now.plus(40_000);
    };
    work(Timers::new(), prepare, |timers| timers.look() as u64)
}

fn worker() -> Worker {
    Worker::new(&Config::default(), Router::new()).expect("a poll for the waker")
}

fn mailbox_letter() -> Box<dyn Work> {
    let run = |worker: &mut Worker| {
        let posted = worker.post(u64::from(MAIL));
        assert_eq!(worker.read_mail(), posted);
        posted
    };
    work(worker(), |_| {}, run)
}

/// A handler's answer from another thread, with the request in flight that waits for it.
fn mailbox_answer() -> Box<dyn Work> {
    let run = |worker: &mut Worker| {
        worker.answer(MAIL, &[7; 32]);
        worker.read_mail()
    };
    work(worker(), |_| {}, run)
}

/// A worker's sessions, each on a connection with a token of its own number.
struct Table {
    sessions: Sessions,
    keys: Vec<SessionKey>,
    ids: Vec<[u8; 16]>,
    now_s: u32,
}

const PRINCIPAL: &str = "device-4711";

impl Table {
    fn new() -> Table {
        let state = StateLimits { entries: 64, bytes: 16 * 1024 };
        let limits = SessionLimits { sessions: 1_000_000, state, ttl_s: 300 };
        let mut table = Table {
            sessions: Sessions::new(0, IdKey::new(), limits),
            keys: Vec::with_capacity(SESSIONS as usize),
            ids: Vec::new(),
            now_s: 0,
        };
        // One that stays, so that the principal does.
        table.create(SESSIONS);
        table
    }

    fn owner(number: u32) -> Owner {
        Owner { worker: 0, token: u64::from(number) }
    }

    fn create(&mut self, number: u32) -> SessionKey {
        let mut secret = Secret::default();
        secret[..4].copy_from_slice(&number.to_be_bytes());
        self.sessions.create(PRINCIPAL, Table::owner(number), secret).expect("room")
    }

    fn fill(&mut self) {
        for number in 0..SESSIONS {
            let key = self.create(number);
            self.keys.push(key);
        }
    }

    fn name(&mut self) {
        self.ids = self.keys.iter().map(|key| self.sessions.id(*key)).collect();
    }

    /// Their connections are gone.
    fn release(&mut self) {
        for (number, key) in (0..).zip(&self.keys) {
            self.sessions.release(*key, Table::owner(number), self.now_s);
        }
    }

    fn expire(&mut self) -> u64 {
        self.now_s += self.sessions.limits().ttl_s;
        self.keys.clear();
        self.sessions.sweep(self.now_s, usize::MAX) as u64
    }
}

fn session_create() -> Box<dyn Work> {
    let prepare = |table: &mut Table| {
        table.release();
        table.expire();
    };
    let run = |table: &mut Table| {
        table.fill();
        table.keys.len() as u64
    };
    work(Table::new(), prepare, run)
}

fn session_find() -> Box<dyn Work> {
    let mut table = Table::new();
    table.fill();
    table.name();
    let run = |table: &mut Table| table.ids.iter().filter(|id| table.sessions.find(id).is_some()).count() as u64;
    work(table, |_| {}, run)
}

fn session_resume() -> Box<dyn Work> {
    let prepare = |table: &mut Table| {
        table.release();
        table.expire();
        table.fill();
        table.name();
        table.release();
    };
    let run = |table: &mut Table| {
        let mut granted = 0;
        for (number, id) in (0..).zip(&table.ids) {
            let claim = table.sessions.claim(id, PRINCIPAL, Table::owner(number), table.now_s);
            granted += u64::from(matches!(claim, Claim::Granted { .. }));
        }
        granted
    };
    work(Table::new(), prepare, run)
}

fn session_expire() -> Box<dyn Work> {
    let prepare = |table: &mut Table| {
        table.fill();
        table.release();
    };
    work(Table::new(), prepare, Table::expire)
}

/// AUTH's token is looked up among those of a file; from number `first` on, and [`TOKENS`] are in it.
fn tokens(first: u32) -> Box<dyn Work> {
    let token = |number: u32| format!("tidegate-{number:032x}");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    for number in 0..TOKENS {
        let digest: String = Sha256::digest(token(number)).iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, "device-{number} sha256:{digest}").expect("room for the tokens file");
    }
    let config = Config { auth: AuthMode::Tokens(file.path().to_owned()), ..Config::default() };
    let authenticator = Authenticator::new(&config).expect("the tokens file is right");
    let presented: Vec<String> = (first..first + TOKENS).map(token).collect();
    work(
        (authenticator, presented),
        |_| {},
        move |(authenticator, presented)| {
            for token in presented.iter() {
                let found = authenticator.authenticate(token.as_bytes(), std::time::SystemTime::now);
                assert_eq!(black_box(found).is_ok(), first < TOKENS);
            }
            presented.len() as u64
        },
    )
}
