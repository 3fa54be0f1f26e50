//! Redis by URL: one server, one that Sentinels know, or a cluster.
//!
//! | form | |
//! |---|---|
//! | `redis://[USER[:PASSWORD]@]HOST[:6379][/DB]` | this server |
//! | `redis+sentinel://[USER[:PASSWORD]@]HOST[:26379],HOST…/NAME[/DB][?sentinel_user=…&sentinel_password=…]` | the master that these Sentinels call `NAME`; asked anew with each connection |
//! | `redis+cluster://[USER[:PASSWORD]@]HOST[:6379],HOST…` | the cluster that these are nodes of |
//!
//! With each, `wait=N`: a write is done when so many replicas have confirmed it.
//!
//! A call has one deadline here: the client's own pipelines wait the whole time-out for each answer, and its connections to
//! Sentinels wait for ever.

use std::time::{Duration, Instant};

use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionLike, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, Value, cmd,
};

use crate::url::Url;

/// Where a Redis is, and as whom to log in there.
#[derive(Clone)]
pub(crate) struct RedisUrl {
    pub(crate) servers: Servers,
    pub(crate) login: Login,
    pub(crate) db: i64,
    /// So many replicas have to confirm a write.
    pub(crate) wait: u64,
}

/// What the hosts of the URL are.
#[derive(Clone)]
pub(crate) enum Servers {
    /// The server.
    One(Address),
    /// Those who know the master by its name, and as whom to log in there.
    Sentinels { at: Vec<Address>, name: String, login: Login },
    /// Some of the nodes.
    Cluster(Vec<Address>),
}

/// Host and port.
pub(crate) type Address = (String, u16);

/// As whom to log in.
#[derive(Clone, Default)]
pub(crate) struct Login {
    user: Option<String>,
    password: Option<String>,
}

/// Names of the options that [`RedisUrl::of`] takes, for those who name all that there are.
pub(crate) const OPTIONS: &str = "wait=, sentinel_user=, sentinel_password=";

/// Largest `wait`.
const MAX_WAIT: u64 = 100;

/// Servers to a cluster or Sentinels that may be named.
const MAX_HOSTS: usize = 64;

impl RedisUrl {
    /// Reads what is Redis's of a URL, and takes its options out of it.
    ///
    /// # Errors
    /// What is wrong with it, in words, without a secret.
    pub(crate) fn of(url: &mut Url) -> Result<RedisUrl, String> {
        let hosts = |default: u16| -> Vec<Address> {
            url.hosts.iter().map(|(host, port)| (host.clone(), port.unwrap_or(default))).collect()
        };
        let mut path: Vec<&str> = url.parts().collect();
        let servers = match url.scheme.as_str() {
            "redis" => match hosts(6379).as_slice() {
                [one] => Servers::One(one.clone()),
                _ => return Err("redis:// has one host: redis+cluster:// and redis+sentinel:// have more".to_owned()),
            },
            "redis+sentinel" if path.is_empty() => {
                return Err(
                    "redis+sentinel://HOSTS is to be followed by /NAME, as the Sentinels call the master".to_owned()
                );
            }
            "redis+sentinel" => {
                Servers::Sentinels { at: hosts(26379), name: path.remove(0).to_owned(), login: Login::default() }
            }
            "redis+cluster" => Servers::Cluster(hosts(6379)),
            "rediss" => return Err("rediss:// is not offered: have TLS ended by a proxy beside tidegate".to_owned()),
            _ => return Err("a Redis is redis://, redis+sentinel:// or redis+cluster://".to_owned()),
        };
        let db = match (path.as_slice(), &servers) {
            ([], _) => 0,
            ([_], Servers::Cluster(_)) => {
                return Err("a cluster has one database: nothing may follow its hosts".to_owned());
            }
            ([db], _) => {
                db.parse().ok().filter(|db| (0..=i64::from(u16::MAX)).contains(db)).ok_or("the database is a number")?
            }
            _ => return Err("there is a / too many".to_owned()),
        };
        if url.hosts.len() > MAX_HOSTS {
            return Err(format!("there are more than {MAX_HOSTS} hosts"));
        }
        let login = Login { user: url.user.clone(), password: url.password.clone() };
        if login.user.is_some() && login.password.is_none() {
            return Err("there is a user and no password: a password alone is :PASSWORD@".to_owned());
        }
        let wait = url.take_number("wait", 1, MAX_WAIT)?.unwrap_or_default();
        let mut read = RedisUrl { servers, login, db, wait };
        if let Servers::Sentinels { login, .. } = &mut read.servers {
            *login = Login { user: url.take("sentinel_user")?, password: url.take("sentinel_password")? };
        }
        Ok(read)
    }
}

/// Whether an error that a server answered is about this command alone, its key or its script. Else the server as a whole takes
/// nothing for now, or this is not the server that it was: `LOADING`, `OOM`, `MISCONF`, `READONLY`, `CLUSTERDOWN`,
/// `NOAUTH` and the like.
pub(crate) fn is_about_command(error: &RedisError) -> bool {
    // Before Redis 7 a script's error has a code of the script's, and its own in its text.
    let says = |code: &str| error.code() == Some(code) || error.detail().is_some_and(|text| text.contains(code));
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::Extension => says("WRONGTYPE") || says("NOPERM"),
        _ => false,
    }
}

/// Connects and logs in, the latter step by step: the client itself would wait the whole time for each.
pub(crate) fn connect(address: &Address, login: &Login, db: i64, deadline: Deadline) -> RedisResult<Connection> {
    let info = ConnectionAddr::Tcp(address.0.clone(), address.1)
        .into_connection_info()?
        .set_tcp_settings(TcpSettings::default().set_nodelay(true))
        .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
    let mut connection = Client::open(info)?.get_connection_with_timeout(deadline.left()?)?;
    if let Some(password) = &login.password {
        ask(&mut connection, cmd("AUTH").arg(&login.user).arg(password), deadline)?;
    }
    if db != 0 {
        ask(&mut connection, cmd("SELECT").arg(db), deadline)?;
    }
    Ok(connection)
}

/// Calls one command. An error that the server answers is one here, too.
pub(crate) fn ask(connection: &mut Connection, command: &Cmd, deadline: Deadline) -> RedisResult<Value> {
    connection.set_write_timeout(Some(deadline.left()?))?;
    connection.set_read_timeout(Some(deadline.left()?))?;
    connection.req_command(command)?.extract_error()
}

/// Asks the Sentinels, one after the other, who the master is. Those that don't answer don't use up the time of the
/// others.
pub(crate) fn master(sentinels: &[Address], name: &str, login: &Login, deadline: Deadline) -> RedisResult<Address> {
    let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is named"));
    for (at, sentinel) in sentinels.iter().enumerate() {
        let others = u32::try_from(sentinels.len() - at).unwrap_or(u32::MAX);
        let share = Deadline::after(deadline.left()? / others.saturating_add(1));
        let asked = connect(sentinel, login, 0, share).and_then(|mut connection| {
            ask(&mut connection, cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name), share)
        });
        match asked.and_then(|answer| Ok(redis::from_redis_value::<Option<Address>>(answer)?)) {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => {
                last = RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel knows the master"))
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A Sentinel may not know yet that its master has become a replica.
pub(crate) fn is_master(connection: &mut Connection, deadline: Deadline) -> RedisResult<()> {
    let role = ask(connection, &cmd("ROLE"), deadline)?;
    match redis::from_redis_value(role)? {
        redis::Role::Primary { .. } => Ok(()),
        _ => Err(RedisError::from((ErrorKind::Io, "the master that the Sentinels named is none"))),
    }
}

/// When a call as a whole must have ended.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// So much later than now.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        let now = Instant::now();
        Deadline(now.checked_add(timeout).unwrap_or(now))
    }

    /// What is left of the time; never zero, which would stand for no end.
    pub(crate) fn left(self) -> RedisResult<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(timed_out()) } else { Ok(left.max(Duration::from_micros(100))) }
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisUrl, String> {
        let mut url = Url::parse(text)?;
        let read = RedisUrl::of(&mut url)?;
        url.finish(OPTIONS)?;
        Ok(read)
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        let one = parse("redis://me:secret@h/3").unwrap();
        assert!(matches!(one.servers, Servers::One((ref host, 6379)) if host == "h"));
        assert_eq!((one.db, one.login.user.as_deref(), one.login.password.as_deref()), (3, Some("me"), Some("secret")));
        let url = "redis+sentinel://:p@a,b:1/mymaster/2?sentinel_password=q";
        let Servers::Sentinels { at, name, login } = parse(url).unwrap().servers else { panic!("{url}") };
        assert_eq!((at.len(), &at[0], &at[1]), (2, &("a".to_owned(), 26379), &("b".to_owned(), 1)));
        assert_eq!((name.as_str(), login.user, login.password.as_deref()), ("mymaster", None, Some("q")));
        assert!(matches!(parse("redis+cluster://a,b,c").unwrap().servers, Servers::Cluster(nodes) if nodes.len() == 3));
    }

    #[test]
    fn what_could_not_be_connected_to_is_refused_beforehand() {
        for wrong in [
            "http://h",
            "rediss://h",
            "redis://a,b",
            "redis://h/x",
            "redis://h/1/2",
            "redis://h/-1",
            "redis://user@h",
            "redis+sentinel://a,b",
            "redis+cluster://a/1",
            "redis://h?sentinel_user=x",
            "redis://h?nothing=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
