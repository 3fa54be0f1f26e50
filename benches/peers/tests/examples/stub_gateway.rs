//! A gateway of few lines, for the tests of what kills gateways: it keeps what it has promised over a kill, or
//! breaks one promise on purpose (`STUB_LIE`). Its disk is the page cache, which a kill leaves alone.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use tidegate::proto::message::{parse_session_put, parse_topic, submitted_payload};
use tidegate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Extensions, Frame, FrameDecoder, MAX_BODY, SessionId, encode,
};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let data = PathBuf::from(std::env::var_os("TIDEGATE_DATA_DIR").ok_or_else(|| Error::other("no data directory"))?);
    match args.first().map(String::as_str) {
        Some("serve") => serve(&data),
        Some("journal") => std::io::stdout().write_all(&fs::read(data.join("journal.jsonl"))?),
        _ => Err(Error::other("serve, or journal cat --json")),
    }
}

/// All that outlives it, and what is rebuilt of that.
struct State {
    lie: String,
    journal: File,
    sink: Option<File>,
    puts: File,
    next_id: u64,
    keys: HashMap<String, u64>,
    sessions: HashMap<String, HashMap<String, Vec<u8>>>,
}

fn serve(data: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    let state = Arc::new(Mutex::new(State::open(data)?));
    let (listener, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    println!("stub 0 listens on {}; admin http://{}", listener.local_addr()?, admin.local_addr()?);
    let mut signals = Signals::new([SIGTERM])?;
    std::thread::spawn(move || {
        signals.forever().next();
        std::process::exit(0);
    });
    std::thread::spawn(move || {
        for mut stream in admin.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nready");
        }
    });
    for stream in listener.incoming() {
        let (stream, state) = (stream?, Arc::clone(&state));
        std::thread::spawn(move || converse(stream, &state));
    }
    Ok(())
}

fn append(path: &Path) -> Result<File> {
    // What a kill has left unfinished was never promised.
    let text = fs::read(path).unwrap_or_default();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    fs::write(path, &text[..whole])?;
    OpenOptions::new().append(true).open(path)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    Ok(fs::read_to_string(path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

impl State {
    fn open(data: &Path) -> Result<State> {
        let sinks = std::env::var("TIDEGATE_SINKS").unwrap_or_default();
        let sink_path = sinks.split(',').find_map(|route| route.strip_prefix("sunk/#=file:")).map(PathBuf::from);
        let (journal, puts) = (append(&data.join("journal.jsonl"))?, append(&data.join("puts.jsonl"))?);
        let mut sink = sink_path.as_ref().map(|path| append(path)).transpose()?;
        let (mut next_id, mut keys, mut sessions) = (1, HashMap::new(), HashMap::<_, HashMap<_, _>>::new());
        let delivered = sink_path.map_or(Ok(Vec::new()), |path| lines(&path))?;
        let delivered = delivered.iter().filter_map(|line| line["id"].as_u64()).max().unwrap_or(0);
        for line in lines(&data.join("journal.jsonl"))? {
            let id = line["id"].as_u64().unwrap_or(0);
            next_id = id + 1;
            keys.insert(line["key"].to_string(), id);
            if let Some(sink) = sink.as_mut().filter(|_| id > delivered && is_sunk(&line)) {
                writeln!(sink, "{line}")?;
            }
        }
        for line in lines(&data.join("puts.jsonl"))? {
            let value = STANDARD.decode(line["value"].as_str().unwrap_or_default()).unwrap_or_default();
            sessions.entry(line["session"].to_string()).or_default().insert(line["key"].to_string(), value);
        }
        let lie = std::env::var("STUB_LIE").unwrap_or_default();
        Ok(State { lie, journal, sink, puts, next_id, keys, sessions })
    }

    /// Gives the answer; what is to be written only behind it, if this one lies so, is left to the caller.
    fn submit(&mut self, key: &[u8], payload: &[u8]) -> Result<(u64, bool, Value)> {
        let (topic, body) = parse_topic(payload).ok_or_else(|| Error::other("no topic"))?;
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = self.keys.get(&json!(key).to_string()).copied();
        if let Some(id) = known.filter(|_| self.lie != "no-dedup") {
            return Ok((id, true, Value::Null));
        }
        let id = self.next_id;
        self.next_id += 1;
        self.keys.insert(json!(key).to_string(), id);
        let topic = String::from_utf8_lossy(topic);
        Ok((id, false, json!({"id": id, "topic": topic, "key": key, "body": STANDARD.encode(body)})))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        self.journal.write_all(format!("{line}\n").as_bytes())?;
        match self.sink.as_mut().filter(|_| is_sunk(line)) {
            Some(sink) => sink.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

fn is_sunk(line: &Value) -> bool {
    line["topic"].as_str().is_some_and(|topic| topic.starts_with("sunk/"))
}

fn converse(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut scratch, mut tail) = (vec![0; 64 * 1024], Vec::new());
    let mut session: SessionId = [0; 16];
    loop {
        let n = stream.read(&mut scratch)?;
        if n == 0 {
            return Ok(());
        }
        let mut decoder = FrameDecoder::resume(tail, MAX_BODY);
        let mut input = &scratch[..n];
        while let Some(frame) = decoder.next(&mut input).map_err(|_| Error::other("no frame"))? {
            answer(&frame, &mut session, &mut stream, state)?;
        }
        decoder.keep(&mut input);
        tail = decoder.into_tail();
    }
}

fn answer(frame: &Frame<'_>, session: &mut SessionId, stream: &mut TcpStream, state: &Mutex<State>) -> Result<()> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = Vec::new();
    let mut late = Value::Null;
    let name = |session: &SessionId| json!(u128::from_be_bytes(*session).to_string());
    let fitted = match frame.cmd {
        Command::AUTH => {
            let known = extensions(frame).resume().filter(|id| state.sessions.contains_key(&name(id).to_string()));
            *session = known.unwrap_or_else(|| fastrand::u128(1..).to_be_bytes());
            state.sessions.entry(name(session).to_string()).or_default();
            let (heartbeat_ms, max_payload, session_ttl_s) = (30_000, 65_535, 300);
            let ready =
                AuthReady { session: *session, resumed: known.is_some(), heartbeat_ms, max_payload, session_ttl_s };
            ready.encode(&mut out, frame.seq);
            true
        }
        Command::SESSION_PUT => {
            let (key, value) = parse_session_put(frame.payload).ok_or_else(|| Error::other("no key"))?;
            let key = json!(String::from_utf8_lossy(key));
            if state.lie != "puts-in-memory" {
                let line = json!({"session": name(session), "key": key, "value": STANDARD.encode(value)});
                state.puts.write_all(format!("{line}\n").as_bytes())?;
            }
            state.sessions.entry(name(session).to_string()).or_default().insert(key.to_string(), value.to_vec());
            encode(&mut out, frame.seq, frame.cmd, b"")
        }
        Command::SESSION_GET => {
            let key = json!(String::from_utf8_lossy(frame.payload)).to_string();
            match state.sessions.get(&name(session).to_string()).and_then(|keys| keys.get(&key)) {
                Some(value) => encode(&mut out, frame.seq, frame.cmd, value),
                None => {
                    ErrorReply::new(ErrorCode::NotFound, frame.cmd, "").encode(&mut out, frame.seq);
                    true
                }
            }
        }
        Command::SUBMIT => {
            let key = extensions(frame).idempotency().unwrap_or_default();
            let (id, duplicate, line) = state.submit(&key, frame.payload)?;
            if state.lie == "early-ack" {
                late = line;
            } else if !line.is_null() {
                state.write(&line)?;
            }
            encode(&mut out, frame.seq, frame.cmd, &submitted_payload(id, duplicate))
        }
        _ => encode(&mut out, frame.seq, frame.cmd, frame.payload),
    };
    debug_assert!(fitted, "as long as what came");
    stream.write_all(&out)?;
    if !late.is_null() {
        std::thread::sleep(Duration::from_millis(2));
        state.write(&late)?;
    }
    Ok(())
}

fn extensions<'a>(frame: &Frame<'a>) -> Extensions<'a> {
    frame.extensions
}
