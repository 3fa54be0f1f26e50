//! `tidegate call`: one request from the command line.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tidegate::client::{CallOptions, Client, ClientError, ClientOptions, Reply, Token};
use tidegate::journal::is_topic;
use tidegate::proto::message::{parse_submitted, session_put_payload, topic_payload};
use tidegate::proto::{Command, SessionId};

use super::secret;

/// Send a request to a server and print its reply
///
/// The token comes from --token-file or from the environment variable TIDEGATE_TOKEN.
/// Exit codes: 0 every call got a reply, 1 an ERROR or a failure, 2 wrong usage.
#[derive(Args, Clone, Debug)]
pub struct CallArgs {
    /// Command, by name (ECHO) or number (0x20)
    #[arg(value_name = "CMD", value_parser = parse_command)]
    cmd: Command,
    /// Payload as text, none if left out; for SESSION_PUT: key=value; for SUBMIT: topic=body
    #[arg(value_name = "PAYLOAD", conflicts_with = "file")]
    payload: Option<String>,
    /// PAYLOAD is hex, and the reply is printed as hex
    #[arg(long)]
    hex: bool,
    /// Read the payload from FILE as it is; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Idempotency key of a SUBMIT, 32 hex digits: with the same key a message is stored once [default: a random one]
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    key: Option<[u8; 16]>,
    /// Send the request N times, one after the other, and report the latency
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// Server to connect to
    #[arg(long, value_name = "HOST:PORT", env = "TIDEGATE_CONNECT", default_value = "127.0.0.1:7400")]
    connect: String,
    /// File that holds the token; read anew for each connection
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Milliseconds that connecting, and each call, may take; retries included
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    deadline_ms: u32,
    /// Session to resume, 32 hex digits
    #[arg(long, value_name = "HEX", value_parser = parse_session)]
    session: Option<SessionId>,
    /// Print the session's id to stderr, for a later --session
    #[arg(long)]
    print_session: bool,
    /// End the session afterwards; without this it lives on until its ttl
    #[arg(long)]
    bye: bool,
}

/// Why there is no exit code 0.
enum Failure {
    /// The arguments, or what they name, can't be used.
    Usage(String),
    /// A call failed.
    Call(ClientError),
    /// A reply could not be printed.
    Output(io::Error),
}

/// Runs the subcommand. Replies go to stdout, everything else to stderr.
pub fn run(args: CallArgs) -> ExitCode {
    match call(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => fail(2, &format!("USAGE: {text}")),
        Err(Failure::Call(error @ ClientError::Invalid(_))) => fail(2, &error.to_string()),
        Err(Failure::Call(error)) => fail(1, &error.to_string()),
        // Whoever read the replies has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(Failure::Output(error)) => fail(1, &format!("IO: the reply could not be written to stdout: {error}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "error: {text}");
    ExitCode::from(code)
}

fn call(args: &CallArgs) -> Result<(), Failure> {
    let payload = payload(args).map_err(Failure::Usage)?;
    if args.key.is_some() && args.cmd != Command::SUBMIT {
        return Err(Failure::Usage(format!("--key is for SUBMIT, not for {}", args.cmd)));
    }
    let token = secret::token(args.token_file.as_deref()).map_err(Failure::Usage)?;
    // It was looked at once, for the message; it is read again for each connection, because it may expire.
    let token = match &args.token_file {
        Some(file) => Some(Token::from_file(file)),
        None => token.map(Token::new),
    };
    let deadline = Duration::from_millis(args.deadline_ms.into());
    let client = Client::connect(ClientOptions {
        token,
        connect_timeout: deadline,
        deadline,
        session: args.session,
        ..ClientOptions::new([args.connect.clone()])
    })
    .map_err(Failure::Call)?;
    if args.print_session {
        let kind = if client.resumed() { "resumed" } else { "new" };
        let _ = writeln!(io::stderr(), "session: {} ({kind})", to_hex(&client.session_id()));
    }
    let called = call_each(args, &client, &payload, deadline);
    let ended = if args.bye { client.bye() } else { client.close() };
    called?;
    ended.map_err(Failure::Call)
}

/// Calls as often as was asked. An ERROR does not keep the rest from being made; a call that gets no
/// answer at all is the last. The last failure is returned, the ones before it are printed.
fn call_each(args: &CallArgs, client: &Client, payload: &[u8], deadline: Duration) -> Result<(), Failure> {
    let mut options = CallOptions { deadline: Some(deadline), idempotency: args.key, ..CallOptions::default() };
    let mut latencies = Vec::new();
    let mut failed = None;
    for _ in 0..args.repeat {
        if args.cmd == Command::SUBMIT && args.key.is_none() {
            // So that what is sent again after a lost connection is stored once; each is a message of its own.
            options.idempotency = Some(random_key()?);
        }
        let begun = Instant::now();
        let result = client.call_with(args.cmd, payload, &options);
        let latency = begun.elapsed();
        match result {
            Ok(reply) => {
                latencies.push(latency);
                print(args, &reply).map_err(Failure::Output)?;
            }
            Err(error) => {
                let answered = matches!(error, ClientError::Server(_));
                if let Some(before) = failed.replace(error) {
                    let _ = writeln!(io::stderr(), "error: {before}");
                }
                if !answered {
                    break;
                }
            }
        }
    }
    if args.repeat > 1 {
        let _ = writeln!(io::stderr(), "{}", summary(args.repeat, &mut latencies));
    }
    failed.map_or(Ok(()), |error| Err(Failure::Call(error)))
}

/// `3 of 3 calls answered, latency min 0.101 ms, median 0.120 ms, max 0.350 ms`.
fn summary(calls: u64, latencies: &mut [Duration]) -> String {
    latencies.sort_unstable();
    let mut text = format!("{} of {calls} calls answered", latencies.len());
    if let (Some(min), Some(median), Some(max)) =
        (latencies.first(), latencies.get(latencies.len() / 2), latencies.last())
    {
        let ms = |latency: &Duration| latency.as_secs_f64() * 1000.0;
        text += &format!(", latency min {:.3} ms, median {:.3} ms, max {:.3} ms", ms(min), ms(median), ms(max));
    }
    text
}

/// Text with a newline for a person; for a program the bytes, exactly.
fn print(args: &CallArgs, reply: &Reply) -> io::Result<()> {
    if let Some(fallback) = reply.fallback {
        let _ = writeln!(io::stderr(), "note: a fallback produced this reply ({fallback:?})");
    }
    let mut stdout = io::stdout().lock();
    let submitted = parse_submitted(&reply.payload).filter(|_| args.cmd == Command::SUBMIT && !args.hex);
    if let Some((id, duplicate)) = submitted {
        writeln!(stdout, "id {id}{}", if duplicate { ", duplicate" } else { "" })?;
    } else if args.hex {
        writeln!(stdout, "{}", to_hex(&reply.payload))?;
    } else {
        stdout.write_all(&reply.payload)?;
        if stdout.is_terminal() && std::str::from_utf8(&reply.payload).is_ok() {
            stdout.write_all(b"\n")?;
        }
    }
    stdout.flush()
}

fn payload(args: &CallArgs) -> Result<Vec<u8>, String> {
    if let Some(file) = &args.file {
        return read(file).map_err(|error| format!("the payload can't be read from {}: {error}", file.display()));
    }
    let text = args.payload.as_deref().unwrap_or("");
    if args.hex {
        return from_hex(text);
    }
    if args.cmd == Command::SUBMIT {
        let (topic, body) = text.split_once('=').ok_or("SUBMIT takes topic=body, or a payload by --hex or --file")?;
        return is_topic(topic.as_bytes())
            .and_then(|topic| topic_payload(topic.as_bytes(), body.as_bytes()))
            .ok_or_else(|| format!("a topic has 1 to 255 bytes without control characters, not {topic:?}"));
    }
    if args.cmd != Command::SESSION_PUT {
        return Ok(text.as_bytes().to_vec());
    }
    let (key, value) = text.split_once('=').ok_or("SESSION_PUT takes key=value, or a payload by --hex or --file")?;
    session_put_payload(key.as_bytes(), value.as_bytes())
        .ok_or_else(|| format!("a key has 1 to 255 bytes, this one {}", key.len()))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return fs::read(file);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
}

fn parse_command(text: &str) -> Result<Command, String> {
    match Command::parse(text) {
        Some(Command::BYE) => Err("the session is ended with --bye".to_owned()),
        Some(cmd) if cmd.is_control() && cmd != Command::PING => Err(format!("{cmd} is not sent by hand")),
        Some(cmd) => Ok(cmd),
        None => {
            let named = Command::NAMED.iter().filter(|cmd| !cmd.is_control() || **cmd == Command::PING);
            let names: Vec<String> = named.map(ToString::to_string).collect();
            Err(format!("neither a number from 0x10 to 0xFF nor one of {}", names.join(", ")))
        }
    }
}

fn random_key() -> Result<[u8; 16], Failure> {
    let mut key = [0; 16];
    let failed =
        |error| Failure::Usage(format!("no random bytes for an idempotency key: {error}; give one with --key"));
    getrandom::fill(&mut key).map_err(failed)?;
    Ok(key)
}

fn parse_key(text: &str) -> Result<[u8; 16], String> {
    let bytes = from_hex(text)?;
    let len = bytes.len();
    bytes.try_into().map_err(|_| format!("an idempotency key has 32 hex digits, this one {}", 2 * len))
}

fn parse_session(text: &str) -> Result<SessionId, String> {
    let bytes = from_hex(text)?;
    let len = bytes.len();
    bytes.try_into().map_err(|_| format!("a session id has 32 hex digits, this one {}", 2 * len))
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| {
            c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(|| format!("{c:?} is no hex digit"))
        })
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(format!("hex digits come in pairs, there are {}", digits.len()));
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        call: CallArgs,
    }

    fn args(words: &[&str]) -> Result<CallArgs, clap::Error> {
        Cli::try_parse_from(["call"].iter().chain(words)).map(|cli| cli.call)
    }

    fn payload_of(words: &[&str]) -> Result<Vec<u8>, String> {
        payload(&args(words).unwrap())
    }

    #[test]
    fn a_payload_is_text_hex_or_key_and_value() {
        assert_eq!(payload_of(&["ECHO", "hi"]), Ok(b"hi".to_vec()));
        assert_eq!(payload_of(&["ping"]), Ok(Vec::new()));
        assert_eq!(payload_of(&["0x20", "--hex", "00 fF"]), Ok(vec![0, 255]));
        assert_eq!(payload_of(&["SESSION_PUT", "k=v=w"]), Ok(b"\x01kv=w".to_vec()));
        assert_eq!(payload_of(&["SESSION_PUT", "--hex", "016b76"]), Ok(b"\x01kv".to_vec()));
        assert_eq!(payload_of(&["SUBMIT", "a/b=c=d"]), Ok(b"\x03a/bc=d".to_vec()));
        assert_eq!(payload_of(&["SUBMIT", "--hex", "016b76"]), Ok(b"\x01kv".to_vec()));
        assert!(payload_of(&["SUBMIT", "topic"]).is_err());
        assert!(payload_of(&["SUBMIT", "=body"]).is_err());
        assert!(payload_of(&["SESSION_PUT", "key"]).is_err());
        assert!(payload_of(&["SESSION_PUT", "=v"]).is_err());
        assert!(payload_of(&["ECHO", "--hex", "0"]).is_err());
        assert!(payload_of(&["ECHO", "--hex", "zz"]).is_err());
        assert!(payload_of(&["ECHO", "--hex", "é0"]).is_err());
    }

    #[test]
    fn a_payload_comes_from_a_file_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("payload");
        fs::write(&file, [0, 255, b'\n']).unwrap();
        assert_eq!(payload_of(&["SESSION_PUT", "--file", file.to_str().unwrap()]), Ok(vec![0, 255, b'\n']));
        assert!(payload_of(&["ECHO", "--file", "/nowhere/at/all"]).is_err());
        assert!(args(&["ECHO", "text", "--file", "-"]).is_err(), "one payload, not two");
    }

    #[test]
    fn commands_that_are_not_sent_by_hand_and_wrong_numbers_are_usage_errors() {
        for cmd in ["AUTH", "BYE", "GOAWAY", "0x05", "256", "NONSENSE"] {
            let Err(error) = args(&[cmd]) else { panic!("{cmd} was taken") };
            assert_eq!(error.exit_code(), 2, "{cmd}");
        }
        assert!(args(&["ECHO", "--repeat", "0"]).is_err());
        assert!(args(&["ECHO", "--session", "00"]).is_err());
        assert!(args(&["SUBMIT", "t=b", "--key", "00"]).is_err());
        let echo = args(&["ECHO", "--key", &"0a".repeat(16)]).unwrap();
        assert!(matches!(call(&echo), Err(Failure::Usage(_))), "a key is for SUBMIT");
        assert_eq!(args(&["ECHO", "--session", &"0a".repeat(16)]).unwrap().session, Some([10; 16]));
    }

    #[test]
    fn the_secret_has_no_flag() {
        assert!(args(&["ECHO", "--token", "secret"]).is_err());
    }

    #[test]
    fn the_summary_names_count_min_median_and_max() {
        let mut latencies = [3, 1, 2].map(Duration::from_millis);
        assert_eq!(
            summary(4, &mut latencies),
            "3 of 4 calls answered, latency min 1.000 ms, median 2.000 ms, max 3.000 ms"
        );
        assert_eq!(summary(2, &mut []), "0 of 2 calls answered");
    }
}
