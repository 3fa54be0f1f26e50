//! One connection: opened and checked, its prepared statements, and its time-outs.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder, Params, Statement, Value};

use super::StoreDown;
use crate::session::store::remote::{Age, Deadline, Patience};

/// What creates the tables; an operator can do so as well.
const SCHEMA: &str = include_str!("schema.sql");
/// The version of these tables.
const VERSION: u32 = 1;
/// Rows of one statement: few sizes, so that few statements are prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];
/// Bytes of one statement's values, if they are many: what a server's socket takes at once even when the
/// server does not read.
const MAX_BYTES: usize = 32 * 1024;
/// Prepared statements that are kept: all of them.
const STATEMENTS: usize = 64;
/// The largest packet: a row of a state's, and room.
const MAX_PACKET: usize = 4 << 20;

const NO_SUCH_TABLE: u16 = 1146;
const DEADLOCK: u16 = 1213;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another transaction was in the way: nothing was done, the same may be tried again.
    InTheWay(String),
    /// The connection had been lost before anything was asked.
    Stale(String),
    /// Anything else; nothing is known of what was asked, and the connection is of no more use.
    Down(String),
}

impl From<StoreDown> for Fault {
    fn from(down: StoreDown) -> Fault {
        Fault::Down(down.0)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match &error {
            Error::MySqlError(e) if [DEADLOCK, LOCK_WAIT_TIMEOUT].contains(&e.code) => Fault::InTheWay(e.to_string()),
            Error::MySqlError(e) => Fault::Down(e.to_string()),
            Error::IoError(e) => Fault::Down(in_words(e)),
            error => Fault::Down(error.to_string()),
        }
    }
}

/// A statement about any number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub head: &'static str,
    /// Of one row.
    pub row: &'static str,
    pub between: &'static str,
    pub tail: &'static str,
}

/// A connection.
pub(super) struct Link {
    conn: Conn,
    statements: HashMap<(Shape, usize), Statement>,
    pub age: Age,
}

impl Link {
    /// Connects, and creates the tables if they are not there.
    ///
    /// No single answer may take more than half of the time that an operation may, and none is asked for when more
    /// than half is over: so it keeps to its time wherever the server freezes.
    pub fn open(opts: &Opts, patience: Patience, deadline: &Deadline) -> Result<Link, Fault> {
        let part = |of: u32| Some((patience.timeout / of).max(Duration::from_millis(1)));
        let lock_wait_s = (patience.timeout / 2).as_secs().max(1);
        let opts = OptsBuilder::from_opts(opts.clone())
            .tcp_connect_timeout(part(4))
            .read_timeout(part(2))
            .write_timeout(part(2))
            .prefer_socket(false)
            .stmt_cache_size(STATEMENTS)
            .max_allowed_packet(Some(MAX_PACKET))
            .init(vec![
                // Rows are locked and gaps are not: two that write different sessions never meet.
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
                format!("SET SESSION sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = {lock_wait_s}"),
            ]);
        let conn = Conn::new(opts)?;
        let mut link = Link { conn, statements: HashMap::new(), age: Age::new() };
        link.check_schema(deadline)?;
        Ok(link)
    }

    /// Begins a transaction. The first thing to be asked of a connection that was there before.
    pub fn begin(&mut self, deadline: &Deadline) -> Result<(), Fault> {
        deadline.left()?;
        match self.conn.query_drop("START TRANSACTION") {
            Err(Error::IoError(e)) if !is_timeout(&e) => Err(Fault::Stale(in_words(&e))),
            result => Ok(result?),
        }
    }

    /// Commits it.
    pub fn commit(&mut self, deadline: &Deadline) -> Result<(), Fault> {
        self.text("COMMIT", deadline)
    }

    /// Takes back what has been done since it began.
    pub fn rollback(&mut self, deadline: &Deadline) -> Result<(), Fault> {
        self.text("ROLLBACK", deadline)
    }

    /// Carries out a statement for each of these rows, many at a time.
    pub fn each<T>(
        &mut self,
        shape: Shape,
        rows: &[T],
        deadline: &Deadline,
        values: impl Fn(&T) -> Vec<Value>,
    ) -> Result<(), Fault> {
        self.chunks(shape, rows, deadline, values, |conn, statement, params| conn.exec_drop(statement, params))
    }

    /// The rows that match any of these.
    pub fn select<T, R: mysql::prelude::FromRow>(
        &mut self,
        shape: Shape,
        rows: &[T],
        deadline: &Deadline,
        values: impl Fn(&T) -> Vec<Value>,
    ) -> Result<Vec<R>, Fault> {
        let mut found = Vec::new();
        self.chunks(shape, rows, deadline, values, |conn, statement, params| {
            for row in conn.exec_opt(statement, params)? {
                found.push(row.map_err(Error::from)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// How many rows the last statement has changed.
    pub fn affected(&self) -> usize {
        usize::try_from(self.conn.affected_rows()).unwrap_or(usize::MAX)
    }

    fn chunks<T>(
        &mut self,
        shape: Shape,
        mut rows: &[T],
        deadline: &Deadline,
        values: impl Fn(&T) -> Vec<Value>,
        mut run: impl FnMut(&mut Conn, &Statement, Params) -> mysql::Result<()>,
    ) -> Result<(), Fault> {
        while !rows.is_empty() {
            let mut all = Vec::new();
            let mut ends = Vec::new();
            let mut bytes = 0;
            for row in rows.iter().take(SIZES[0]) {
                let values = values(row);
                bytes +=
                    values.iter().map(|value| usize::try_from(value.bin_len()).unwrap_or(usize::MAX)).sum::<usize>();
                if bytes > MAX_BYTES && !ends.is_empty() {
                    break;
                }
                all.extend(values);
                ends.push(all.len());
            }
            let count = SIZES.into_iter().find(|size| *size <= ends.len()).unwrap_or(1);
            all.truncate(ends.get(count - 1).copied().unwrap_or_default());
            let statement = self.statement(shape, count, deadline)?;
            in_time(deadline)?;
            run(&mut self.conn, &statement, Params::Positional(all))?;
            rows = rows.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn statement(&mut self, shape: Shape, count: usize, deadline: &Deadline) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.get(&(shape, count)) {
            return Ok(statement.clone());
        }
        in_time(deadline)?;
        let rows = vec![shape.row; count].join(shape.between);
        let statement = self.conn.prep(format!("{}{rows}{}", shape.head, shape.tail))?;
        self.statements.insert((shape, count), statement.clone());
        Ok(statement)
    }

    fn text(&mut self, statement: &str, deadline: &Deadline) -> Result<(), Fault> {
        in_time(deadline)?;
        Ok(self.conn.query_drop(statement)?)
    }

    fn check_schema(&mut self, deadline: &Deadline) -> Result<(), Fault> {
        let found = match self.version(deadline) {
            Ok(Some(version)) => version,
            Ok(None) | Err(Error::MySqlError(mysql::MySqlError { code: NO_SUCH_TABLE, .. })) => {
                self.create_schema(deadline)?;
                self.version(deadline)?.unwrap_or_default()
            }
            Err(error) => return Err(error.into()),
        };
        if found == VERSION {
            return Ok(());
        }
        Err(Fault::Down(format!(
            "its tables (tidegate_schema) are of version {found}, and this tidegate reads version {VERSION}: run the \
             tidegate that they belong to, or give this one a database of its own"
        )))
    }

    fn version(&mut self, deadline: &Deadline) -> Result<Option<u32>, Error> {
        if deadline.is_past_half() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        let row =
            self.conn.query_first_opt::<u32, _>("SELECT MAX(version) FROM tidegate_schema HAVING COUNT(*) > 0")?;
        row.transpose().map_err(Error::from)
    }

    fn create_schema(&mut self, deadline: &Deadline) -> Result<(), Fault> {
        for statement in SCHEMA.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            self.text(statement, deadline).map_err(|fault| match fault {
                Fault::Down(why) | Fault::InTheWay(why) | Fault::Stale(why) => Fault::Down(format!(
                    "its tables are not there and can't be created ({why}): grant CREATE, REFERENCES and INSERT, or \
                     have somebody who may create them run src/session/store/mysql/schema.sql"
                )),
            })?;
        }
        log::info!("the session store's tables were created");
        Ok(())
    }
}

fn in_time(deadline: &Deadline) -> Result<(), Fault> {
    if deadline.is_past_half() { Err(deadline.over().into()) } else { Ok(()) }
}

fn is_timeout(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

fn in_words(error: &io::Error) -> String {
    if is_timeout(error) { "no answer in time".to_owned() } else { error.to_string() }
}
