//! Connections to one server, to the one that sentinels name, or to those of a cluster that have the keys.
//!
//! A cluster is asked here and not by the crate's own client for it: that waits anew for each command of a server
//! that does not answer.

use std::collections::HashMap;

use redis::{Connection, RedisError, ServerErrorKind, Value};

use super::slot::slot;
use super::url::{Address, Deadline, RedisUrl, Servers, ask, connect, is_about_command, is_master, master};

/// Replies between two looks at the clock.
const LOOK: usize = 64;

/// A command about one key, ready to be sent.
#[derive(Clone)]
pub(crate) struct Ask {
    pub key: Vec<u8>,
    pub packed: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An answer.
    Value(Value),
    /// Not done: an error that is about this command's key, and of no consequence for others.
    Refused(String),
    /// Not done: to be sent again, now that the script is loaded or the key's server is known.
    Again,
    /// Not done: the key is on its way from one server to another.
    Later,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Fault {
    pub why: String,
    /// Whether time has run out.
    pub timeout: bool,
}

impl Fault {
    /// That is none of time.
    pub fn of(why: &str) -> Fault {
        Fault { why: why.to_owned(), timeout: false }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Fault {
        let timeout = error.is_timeout();
        Fault { why: if timeout { "no answer in time".to_owned() } else { error.to_string() }, timeout }
    }
}

/// The connections. After a fault they are in an unknown state: to be let go of.
pub(crate) struct Link {
    url: RedisUrl,
    scripts: &'static [&'static str],
    nodes: HashMap<Address, Connection>,
    routes: Routes,
}

enum Routes {
    All(Address),
    /// Slots from the first to the last; what a server said later comes first.
    Slots(Vec<(u16, u16, Address)>, HashMap<u16, Address>, HashMap<Vec<u8>, Address>),
}

impl Link {
    /// Connects. The scripts are those that commands call by their digest: servers are told of them when they ask.
    ///
    /// # Errors
    /// No server can be had.
    pub fn open(url: &RedisUrl, scripts: &'static [&'static str], deadline: Deadline) -> Result<Link, Fault> {
        let (first, routes) = match &url.servers {
            Servers::One(address) => {
                ((address.clone(), connect(address, &url.login, url.db, deadline)?), Routes::All(address.clone()))
            }
            Servers::Sentinels { at, name, login } => {
                let address = master(at, name, login, deadline)?;
                let mut connection = connect(&address, &url.login, url.db, deadline)?;
                is_master(&mut connection, deadline)?;
                ((address.clone(), connection), Routes::All(address))
            }
            Servers::Cluster(seeds) => open_cluster(url, seeds, deadline)?,
        };
        Ok(Link { url: url.clone(), scripts, nodes: HashMap::from([first]), routes })
    }

    /// Sends all of them, each to the server that has its key, and then reads the replies: one round trip. They are to
    /// be of a size that a server takes while nobody reads what it answers: some megabytes.
    ///
    /// # Errors
    /// Nothing is known of any of them.
    pub fn exchange(&mut self, asks: &[Ask], deadline: Deadline) -> Result<Vec<Reply>, Fault> {
        let groups = self.group(asks)?;
        for (address, (_, bytes)) in &groups {
            let connection = self.node(address, deadline)?;
            connection.set_write_timeout(Some(deadline.left()?))?;
            connection.send_packed_command(bytes)?;
        }
        if let Routes::Slots(_, _, asking) = &mut self.routes {
            asking.clear();
        }
        let mut replies: Vec<Reply> = asks.iter().map(|_| Reply::Later).collect();
        let mut unknown = false;
        for (address, (entries, _)) in groups {
            for (count, entry) in entries.into_iter().enumerate() {
                let connection = self.node(&address, deadline)?;
                if count % LOOK == 0 {
                    connection.set_read_timeout(Some(deadline.left()?))?;
                }
                let value = connection.recv_response()?;
                let Some((at, ask)) = entry.and_then(|at| Some((at, asks.get(at)?))) else { continue };
                let reply = self.understand(ask, value, &mut unknown)?;
                if let Some(place) = replies.get_mut(at) {
                    *place = reply;
                }
            }
            self.await_replicas(&address, deadline)?;
        }
        if unknown {
            self.load(deadline)?;
        }
        Ok(replies)
    }

    /// What goes to which server: the places of the commands, and the bytes. A place that is none is that of an
    /// ASKING, whose reply is of no interest.
    #[allow(clippy::type_complexity)]
    fn group(&self, asks: &[Ask]) -> Result<HashMap<Address, (Vec<Option<usize>>, Vec<u8>)>, Fault> {
        let mut groups: HashMap<Address, (Vec<Option<usize>>, Vec<u8>)> = HashMap::new();
        for (at, ask) in asks.iter().enumerate() {
            let (address, asking) = self.route(&ask.key)?;
            let (entries, bytes) = match groups.get_mut(address) {
                Some(group) => group,
                None => groups.entry(address.clone()).or_default(),
            };
            if asking {
                entries.push(None);
                bytes.extend(redis::cmd("ASKING").get_packed_command());
            }
            entries.push(Some(at));
            bytes.extend(&ask.packed);
        }
        Ok(groups)
    }

    fn route(&self, key: &[u8]) -> Result<(&Address, bool), Fault> {
        let (ranges, moved, asking) = match &self.routes {
            Routes::All(address) => return Ok((address, false)),
            Routes::Slots(ranges, moved, asking) => (ranges, moved, asking),
        };
        if let Some(address) = asking.get(key) {
            return Ok((address, true));
        }
        let slot = slot(key);
        let range = || ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|range| &range.2);
        let address = moved.get(&slot).or_else(range);
        Ok((address.ok_or_else(|| Fault::of(&format!("no server of the cluster has slot {slot}")))?, false))
    }

    fn node(&mut self, address: &Address, deadline: Deadline) -> Result<&mut Connection, Fault> {
        if !self.nodes.contains_key(address) {
            let connection = connect(address, &self.url.login, self.url.db, deadline)?;
            self.nodes.insert(address.clone(), connection);
        }
        self.nodes.get_mut(address).ok_or_else(|| Fault::of("a connection is lost"))
    }

    fn understand(&mut self, ask: &Ask, value: Value, unknown: &mut bool) -> Result<Reply, Fault> {
        let Value::ServerError(error) = value else { return Ok(Reply::Value(value)) };
        let target = || address(error.details().unwrap_or_default().split_whitespace().nth(1)?);
        match (error.kind(), &mut self.routes) {
            (Some(ServerErrorKind::NoScript), _) => {
                *unknown = true;
                Ok(Reply::Again)
            }
            (Some(ServerErrorKind::Moved), Routes::Slots(_, moved, _)) => {
                moved.insert(slot(&ask.key), target().ok_or_else(|| Fault::of("MOVED to nowhere"))?);
                Ok(Reply::Again)
            }
            (Some(ServerErrorKind::Ask), Routes::Slots(_, _, asking)) => {
                asking.insert(ask.key.clone(), target().ok_or_else(|| Fault::of("ASK of nobody"))?);
                Ok(Reply::Again)
            }
            (Some(ServerErrorKind::TryAgain), Routes::Slots(..)) => Ok(Reply::Later),
            _ => {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                if is_about_command(&error.into()) { Ok(Reply::Refused(text)) } else { Err(Fault::of(&text)) }
            }
        }
    }

    /// Waits until as many replicas have all that this connection has written as the URL asks for.
    fn await_replicas(&mut self, address: &Address, deadline: Deadline) -> Result<(), Fault> {
        let wanted = self.url.wait;
        if wanted == 0 {
            return Ok(());
        }
        let half_ms = u64::try_from((deadline.left()? / 2).as_millis()).unwrap_or(u64::MAX).max(1);
        let connection = self.node(address, deadline)?;
        match ask(connection, redis::cmd("WAIT").arg(wanted).arg(half_ms), deadline)? {
            Value::Int(have) if u64::try_from(have).is_ok_and(|have| have >= wanted) => Ok(()),
            Value::Int(have) => Err(Fault::of(&format!("{have} of {wanted} replicas have confirmed the write"))),
            other => Err(Fault::of(&format!("WAIT was answered {other:?}"))),
        }
    }

    /// Loads the scripts into every server that is connected.
    fn load(&mut self, deadline: Deadline) -> Result<(), Fault> {
        for connection in self.nodes.values_mut() {
            for script in self.scripts {
                ask(connection, redis::cmd("SCRIPT").arg("LOAD").arg(*script), deadline)?;
            }
        }
        Ok(())
    }
}

/// Asks one after the other which node has which slots. Those that don't answer don't use up the time of the others.
fn open_cluster(
    url: &RedisUrl,
    seeds: &[Address],
    deadline: Deadline,
) -> Result<((Address, Connection), Routes), Fault> {
    let mut last = Fault::of("no node is named");
    for (at, seed) in seeds.iter().enumerate() {
        let others = u32::try_from(seeds.len() - at).unwrap_or(u32::MAX);
        let share =
            if seeds.len() == 1 { deadline } else { Deadline::after(deadline.left()? / others.saturating_add(1)) };
        let asked = connect(seed, &url.login, url.db, share).and_then(|mut connection| {
            let slots = ask(&mut connection, redis::cmd("CLUSTER").arg("SLOTS"), share)?;
            Ok((connection, slots))
        });
        match asked {
            Ok((connection, slots)) => {
                let routes = Routes::Slots(read_slots(slots, seed), HashMap::new(), HashMap::new());
                return Ok(((seed.clone(), connection), routes));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn read_slots(value: Value, asked: &Address) -> Vec<(u16, u16, Address)> {
    let range = |value| {
        let mut items = items(value).into_iter();
        let (Value::Int(first), Value::Int(last)) = (items.next()?, items.next()?) else { return None };
        let mut master = self::items(items.next()?).into_iter();
        let host = match master.next()? {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host).ok()?,
            // A server that does not know its own name: it is the one that was asked.
            _ => asked.0.clone(),
        };
        let Value::Int(port) = master.next()? else { return None };
        Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?, (host, u16::try_from(port).ok()?)))
    };
    items(value).into_iter().filter_map(range).collect()
}

fn items(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}

/// `host:port`, where the host may be an IPv6 address without brackets.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::url::Url;

    #[test]
    fn a_server_that_accepts_and_never_answers_is_given_up_in_time() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        for url in [
            format!("redis://127.0.0.1:{port}"),
            format!("redis://:p@127.0.0.1:{port}/1"),
            format!("redis+sentinel://127.0.0.1:{port},127.0.0.1:{port}/m"),
            format!("redis+cluster://127.0.0.1:{port},127.0.0.1:{port}"),
        ] {
            let (begun, timeout) = (Instant::now(), Duration::from_millis(200));
            let deadline = Deadline::after(timeout);
            let mut parts = Url::parse(&url).unwrap();
            let asks = ["a", "b", "c"].map(|key| Ask {
                key: key.as_bytes().to_vec(),
                packed: redis::cmd("GET").arg(key).get_packed_command(),
            });
            let linked = Link::open(&RedisUrl::of(&mut parts).unwrap(), &[], deadline);
            let asked = linked.and_then(|mut link| link.exchange(&asks, deadline));
            assert!(asked.is_err(), "{url}");
            assert!(begun.elapsed() < 2 * timeout, "{url}: {:?}", begun.elapsed());
        }
    }
}
