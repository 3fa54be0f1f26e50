//! The sink `redis`: each message an entry of a Redis Stream.
//!
//! `redis://HOST…?stream=…&maxlen=…&approx=…&dedup=…`; with the forms of URL and the further options of `redis_link`.
//!
//! | option | | default |
//! |---|---|---|
//! | `stream` | the stream's name; `{topic}` in it stands for the message's topic | `{topic}` |
//! | `maxlen` | entries that a stream is cut down to, the oldest first; 0: none is ever cut | `0` |
//! | `approx` | `yes`: cut where it is cheap (`MAXLEN ~`); `no`: to exactly so many | `yes` |
//! | `dedup` | messages of one stream by which a repeat is recognised; 0: none is | `10000` |
//!
//! An entry's fields: `id`, `topic`, `principal`, `key` (32 hex digits), `trace_id` (likewise), `time` (RFC 3339),
//! `body` (the bytes as they came). A message without a key or a trace has no such field.
//!
//! # Not twice
//! When an answer is lost, or this process, nobody knows whether a message was added. So a script looks and adds in one
//! step: beside each stream, `{STREAM}:tidegate` holds digests of the last `dedup` messages that went into it from any
//! gateway, and a message that is among them is not added again. The digest is of everything that a message is: its id, its
//! time and its session tell it from those of other journals, be they another gateway's, begun anew, or put back from
//! a copy. That key is kept as long as the stream is written to, and for [`REMEMBERED`] after. What is older, or with
//! `dedup=0`, is at least once. In a cluster the key is on the stream's own node: a stream's name that has no hash tag
//! is made the key's, and of a topic braces are written as `%7B` and `%7D`, so that no topic has one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::{Script, cmd};
use sha2::{Digest, Sha256};

use super::{Down, Outcome, Sink};
use crate::hex::hex;
use crate::journal::Message;
use crate::redis_link::{self, Ask, Deadline, Fault, Link, RedisUrl, Reply};
use crate::time::rfc3339;
use crate::url::Url;

/// For how long after the last message a stream's messages are known by the server.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// Largest `maxlen`.
const MAX_LEN: u64 = 1 << 40;

/// Largest `dedup`: about a hundred bytes of the server's memory each.
const MAX_DEDUP: u64 = 1_000_000;

/// Bytes of a template of stream names.
const MAX_TEMPLATE: usize = 512;

/// Bytes and messages that are sent before their answers are read.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_MESSAGES: usize = 500;

/// How often commands are sent that a server sent elsewhere, or did not know, and the pause before a key that is on its way
/// between servers is asked for again.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// What a server says when the account may not run a command at all, whatever its key: it may be given the right.
const NO_RIGHT: &str = "no permissions to run";

/// Adds messages to a stream, except those that it knows: `KEYS` the stream and what is known of it, `ARGV` how many are to be
/// known and for how many milliseconds, how many arguments of `XADD` follow and those, and then for each message its
/// digest, the number of its fields and values, and those.
const ADD: &str = r"
local stream, known, keep = KEYS[1], KEYS[2], tonumber(ARGV[1])
local at = 4 + tonumber(ARGV[3])
local head = {}
for i = 4, at - 1 do head[#head + 1] = ARGV[i] end
local added, last = 0, 0
if keep > 0 then last = tonumber(redis.call('ZREVRANGE', known, 0, 0, 'WITHSCORES')[2]) or 0 end
while ARGV[at] do
  local digest, count = ARGV[at], tonumber(ARGV[at + 1])
  if keep == 0 or not redis.call('ZSCORE', known, digest) then
    local entry = {'XADD', stream, unpack(head)}
    for i = at + 2, at + 1 + count do entry[#entry + 1] = ARGV[i] end
    redis.call(unpack(entry))
    added = added + 1
    if keep > 0 then redis.call('ZADD', known, last + added, digest) end
  end
  at = at + 2 + count
end
if keep > 0 then
  redis.call('ZREMRANGEBYRANK', known, 0, -1 - keep)
  redis.call('PEXPIRE', known, ARGV[2])
end
return added
";

/// What a `redis` sink is told.
#[derive(Clone)]
pub struct Options {
    server: RedisUrl,
    stream: Template,
    maxlen: u64,
    approx: bool,
    dedup: u64,
}

impl Options {
    /// Reads what follows `redis:` in `TIDEGATE_SINKS`: a URL, with or without its scheme.
    ///
    /// # Errors
    /// What is wrong with it, in words, without a secret.
    pub fn parse(argument: &str) -> Result<Options, String> {
        let mut url = match argument.strip_prefix("//") {
            Some(rest) => Url::parse(&format!("redis://{rest}"))?,
            None => Url::parse(argument)?,
        };
        let server = RedisUrl::of(&mut url)?;
        let stream = Template::parse(&url.take("stream")?.unwrap_or_else(|| "{topic}".to_owned()))?;
        let maxlen = url.take_number("maxlen", 0, MAX_LEN)?.unwrap_or(0);
        let approx = match url.take("approx")?.as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(_) => return Err("approx= is to be yes or no".to_owned()),
        };
        let dedup = url.take_number("dedup", 0, MAX_DEDUP)?.unwrap_or(10_000);
        url.finish(&format!("stream=, maxlen=, approx=, dedup=, {}", redis_link::OPTIONS))?;
        Ok(Options { server, stream, maxlen, approx, dedup })
    }
}

/// Redis Streams.
pub struct RedisSink {
    options: Options,
    timeout: Duration,
    script: Script,
    link: Option<Link>,
}

impl RedisSink {
    /// Connects to nothing yet. Connecting, and each batch, may take `timeout`.
    pub fn new(options: Options, timeout: Duration) -> RedisSink {
        RedisSink { options, timeout, script: Script::new(ADD), link: None }
    }

    fn link(&self, deadline: Deadline) -> Result<Link, Fault> {
        Link::open(&self.options.server, &[ADD], deadline)
    }

    /// Has these commands carried out, one for each stream.
    fn perform(&mut self, asks: &[Ask], deadline: Deadline) -> Result<Vec<Reply>, Fault> {
        // Taken out: after a fault it is not used again.
        let Some(mut link) = self.link.take() else { return Err(Fault::of("it is not connected")) };
        let mut replies = match link.exchange(asks, deadline) {
            // The server was started anew since, perhaps long ago.
            Err(fault) if !fault.timeout => {
                link = self.link(deadline)?;
                link.exchange(asks, deadline)?
            }
            replies => replies?,
        };
        for _ in 0..TRIES {
            let open = |reply: &Reply| matches!(reply, Reply::Again | Reply::Later);
            let again: Vec<usize> = (0..replies.len()).filter(|at| replies.get(*at).is_some_and(open)).collect();
            if again.is_empty() {
                self.link = Some(link);
                return Ok(replies);
            }
            if replies.iter().any(|reply| matches!(reply, Reply::Later)) {
                std::thread::sleep(PAUSE);
            }
            let asks: Vec<Ask> = again.iter().filter_map(|at| asks.get(*at).cloned()).collect();
            for (at, reply) in again.into_iter().zip(link.exchange(&asks, deadline)?) {
                if let Some(place) = replies.get_mut(at) {
                    *place = reply;
                }
            }
        }
        Err(Fault::of("commands are sent elsewhere again and again: the cluster does not settle"))
    }

    /// Delivers as many messages as are sent before their answers are read, and pushes their outcomes.
    fn chunk(
        &mut self,
        messages: &[&Message],
        refused: &mut HashSet<String>,
        outcomes: &mut Vec<Outcome>,
        deadline: Deadline,
    ) -> Result<(), Fault> {
        let groups = self.options.grouped(messages, refused);
        let asks: Vec<Ask> =
            groups.iter().map(|group| self.options.ask(group, self.script.get_hash(), messages)).collect();
        let mut results = vec![Outcome::Untried; messages.len()];
        for (group, reply) in groups.iter().zip(self.perform(&asks, deadline)?) {
            let outcome = match reply {
                Reply::Refused(why) if why.contains(NO_RIGHT) => return Err(Fault::of(&why)),
                Reply::Refused(why) => Outcome::Refused(format!("stream {:?}: {why}", group.stream)),
                _ => Outcome::Delivered,
            };
            for &at in &group.members {
                if let Some(result) = results.get_mut(at) {
                    *result = outcome.clone();
                }
            }
        }
        for (message, result) in messages.iter().zip(results) {
            outcomes.push(match result {
                Outcome::Refused(_) if !refused.insert(message.topic.clone()) => Outcome::Untried,
                outcome => outcome,
            });
        }
        Ok(())
    }
}

impl Sink for RedisSink {
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        self.link = None;
        let deadline = Deadline::after(self.timeout);
        let mut link = self.link(deadline).map_err(down)?;
        // A server that is still reading its data accepts connections, too.
        let key = self.options.stream.expand("topic").into_bytes();
        let packed = cmd("EXISTS").arg(&key).get_packed_command();
        link.exchange(&[Ask { key, packed }], deadline).map_err(down)?;
        self.link = Some(link);
        Ok(done)
    }

    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        let deadline = Deadline::after(self.timeout);
        let mut refused = HashSet::new();
        let mut rest = messages;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(CHUNK_MESSAGES).take_while(|message| {
                bytes += message.size();
                bytes <= CHUNK_BYTES
            });
            let (chunk, after) = rest.split_at(fits.count().max(1).min(rest.len()));
            self.chunk(chunk, &mut refused, outcomes, deadline).map_err(down)?;
            rest = after;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Down> {
        // Whatever it has was answered for.
        self.link = None;
        Ok(())
    }
}

fn down(fault: Fault) -> Down {
    Down(fault.why)
}

/// Messages of one stream.
struct Group {
    stream: String,
    members: Vec<usize>,
}

impl Options {
    /// Messages by their streams, except those of topics of which one was refused.
    fn grouped(&self, messages: &[&Message], refused: &HashSet<String>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (at, message) in messages.iter().enumerate().filter(|(_, message)| !refused.contains(&message.topic)) {
            let stream = self.stream.expand(&message.topic);
            let group = *known.entry(stream).or_insert_with_key(|stream| {
                groups.push(Group { stream: stream.clone(), members: Vec::new() });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(group) {
                group.members.push(at);
            }
        }
        groups
    }

    /// Adds the messages of a group.
    fn ask(&self, group: &Group, script: &str, messages: &[&Message]) -> Ask {
        let mut head: Vec<String> = Vec::new();
        if self.maxlen > 0 {
            head.extend(["MAXLEN", if self.approx { "~" } else { "=" }].map(str::to_owned));
            head.push(self.maxlen.to_string());
        }
        head.push("*".to_owned());
        let mut command = cmd("EVALSHA");
        command.arg(script).arg(2).arg(&group.stream).arg(known_key(&group.stream));
        command.arg(self.dedup).arg(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
        command.arg(head.len()).arg(&head);
        for message in group.members.iter().filter_map(|at| messages.get(*at)) {
            let fields = fields(message);
            command.arg(&digest(message)).arg(2 * fields.len());
            for (name, value) in &fields {
                command.arg(name).arg(value.as_slice());
            }
        }
        Ask { key: group.stream.clone().into_bytes(), packed: command.get_packed_command() }
    }
}

fn fields(message: &Message) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = vec![
        ("id", message.id.to_string().into_bytes()),
        ("topic", message.topic.clone().into_bytes()),
        ("principal", message.principal.clone().into_bytes()),
    ];
    fields.extend(message.key.map(|key| ("key", hex(&key).into_bytes())));
    fields.extend(message.trace.map(|trace| ("trace_id", hex(&trace.trace_id).into_bytes())));
    fields.push(("time", rfc3339(message.time()).into_bytes()));
    fields.push(("body", message.body.clone()));
    fields
}

/// By what a message is recognised. Each part is preceded by its length, so that none can be taken for another.
fn digest(message: &Message) -> [u8; 16] {
    let Message { id, time_ms, topic, principal, key, trace, session, body } = message;
    let trace = trace.map(crate::proto::Trace::to_bytes);
    let parts = [
        &id.to_be_bytes()[..],
        &time_ms.to_be_bytes(),
        topic.as_bytes(),
        principal.as_bytes(),
        key.as_ref().map_or(&[], |key| &key[..]),
        trace.as_ref().map_or(&[], |trace| &trace[..]),
        session.as_ref().map_or(&[], |session| &session[..]),
        body,
    ];
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    let whole = sha.finalize();
    std::array::from_fn(|at| whole[at])
}

/// Where it is written down what a stream has: in a cluster, in the stream's slot.
fn known_key(stream: &str) -> String {
    match hash_tag(stream) {
        Some(tag) => format!("{{{tag}}}:tidegate:{stream}"),
        None => format!("{{{stream}}}:tidegate"),
    }
}

/// The part of a key that alone decides on its slot: what stands between the first `{` and the next `}`.
fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// A stream's name, `{topic}` and all.
#[derive(Clone, Debug)]
struct Template(Vec<String>);

impl Template {
    fn parse(text: &str) -> Result<Template, String> {
        if text.is_empty() || text.len() > MAX_TEMPLATE {
            return Err(format!("stream= is to be 1 to {MAX_TEMPLATE} bytes"));
        }
        let template = Template(text.split("{topic}").map(str::to_owned).collect());
        let expanded = template.expand("topic");
        match expanded.contains(['{', '}']) && hash_tag(&expanded).is_none() {
            true => Err("the braces in stream= are neither {topic} nor a hash tag".to_owned()),
            false => Ok(template),
        }
    }

    fn expand(&self, topic: &str) -> String {
        match topic.contains(['{', '}']) {
            true => self.0.join(&topic.replace('{', "%7B").replace('}', "%7D")),
            false => self.0.join(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_link::slot;

    #[test]
    fn a_stream_and_what_is_known_of_it_are_in_one_slot() {
        for (template, topic, stream, known) in [
            ("{topic}", "a/b", "a/b", "{a/b}:tidegate"),
            ("{topic}", "a{b}c", "a%7Bb%7Dc", "{a%7Bb%7Dc}:tidegate"),
            ("all", "a", "all", "{all}:tidegate"),
            ("{x}:{topic}", "a", "{x}:a", "{x}:tidegate:{x}:a"),
            ("{{topic}}", "a", "{a}", "{a}:tidegate:{a}"),
        ] {
            let expanded = Template::parse(template).unwrap().expand(topic);
            assert_eq!((expanded.as_str(), known_key(&expanded).as_str()), (stream, known));
            assert_eq!(slot(expanded.as_bytes()), slot(known_key(&expanded).as_bytes()));
        }
        for wrong in ["", "{}", "}a{", "{other", "a}{topic}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_read_in_every_form_and_mistakes_are_named() {
        for right in ["redis://h", "//h:1/2?stream=all&maxlen=5", "redis+cluster://a;b?approx=no&dedup=0"] {
            Options::parse(right).unwrap_or_else(|e| panic!("{right}: {e}"));
        }
        for (wrong, part) in [
            ("h:1", "SCHEME"),
            ("redis://h?maxlen=-1", "maxlen="),
            ("redis://h?approx=true", "approx="),
            ("redis://h?dedup=9999999", "dedup="),
            ("redis://h?strem=a", "\"strem\""),
            ("redis://h?stream={", "stream="),
        ] {
            let error = Options::parse(wrong).err().unwrap();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }
}
