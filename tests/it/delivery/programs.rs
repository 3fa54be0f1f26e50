//! Commands as sinks, and what the program says of sinks that can't be had.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{bodies, lines, submit};
use crate::support::{Client, Process, get, until};

/// A shell script in a directory of its own, which it has as `$1`.
struct Script {
    dir: TempDir,
    path: PathBuf,
}

impl Script {
    fn new(text: &str) -> Script {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("script.sh");
        fs::write(&path, text).unwrap();
        Script { dir, path }
    }

    fn sink(&self) -> String {
        format!("exec:sh '{}' '{}'", self.path.display(), self.dir.path().display())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn a_command_that_dies_now_and_then_gets_everything_in_order_and_what_it_refuses_is_a_dead_letter() {
    let script = Script::new(
        r#"
env >> "$1/env"
echo started >&2
turn=0
while read -r line; do
  id=${line#*:}; id=${id%%,*}
  case $line in *'"body":"YmFk"'*) echo "$id refused not this one"; continue ;; esac
  echo "$id" >> "$1/taken"
  turn=$((turn + 1))
  [ $turn = 10 ] && exit 3
  echo "$id"
done
echo ended >> "$1/end"
"#,
    );
    let data = script.dir.path().join("data");
    let letters = script.dir.path().join("letters.jsonl");
    let sinks = format!("dead-letter/#=file:{},*={}", letters.display(), script.sink());
    let settings = [
        ("DATA_DIR", data.to_str().unwrap()),
        ("SINKS", &sinks),
        ("SINK_TRIES", "2"),
        ("SINK_BACKOFF_MS", "1"),
        ("LOG", "debug"),
    ];
    let server = Process::serve(&settings);
    let (mut client, _) = Client::ready(server.address);
    let mut wanted = Vec::new();
    for n in 0..50 {
        if n % 10 == 5 {
            submit(&mut client, "a", "bad");
        }
        wanted.push(submit(&mut client, "a", &n.to_string()));
    }
    let taken = || -> Vec<u64> { script.read("taken").lines().map(|id| id.parse().unwrap()).collect() };
    until("everything is delivered", || taken().last() == wanted.last() && lines(&letters).len() == 5);
    // Each tenth was taken and not answered, so it came again, before any other.
    let mut once = taken();
    let all = once.len();
    once.dedup();
    assert_eq!(once, wanted);
    assert!(all > wanted.len(), "it died {} times", all - wanted.len());
    assert!(bodies(&letters).iter().all(|letter| letter.contains("\"reason\":\"not this one\"")));
    drop(client);
    server.signal(rustix::process::Signal::TERM);
    let exit = server.wait();
    assert_eq!((exit.code, script.read("end").as_str()), (Some(0), "ended\n"), "its input was closed");
    assert!(exit.stderr.contains("started"), "what it says is logged: {}", exit.stderr);
    let env = script.read("env");
    assert!(env.contains("PATH=") && !env.contains("TIDEGATE_"), "{env}");
}

#[test]
fn the_readmes_command_does_what_the_readme_says() {
    let readme = include_str!("../../../README.md");
    let block = readme.split("```sh\n").find(|block| block.contains("# exec:book-orders.sh")).unwrap();
    let script = Script::new(block.split("```").next().unwrap());
    let (data, out) = (script.dir.path().join("data"), script.dir.path().join("orders.txt"));
    let sinks = format!("orders=exec:sh {} {}", script.path.display(), out.display());
    let settings =
        [("DATA_DIR", data.to_str().unwrap()), ("SINKS", &sinks), ("SINK_TRIES", "2"), ("SINK_BACKOFF_MS", "1")];
    let server = Process::serve(&settings);
    let (mut client, _) = Client::ready(server.address);
    for text in ["one\n", "\"two\" \\n\n", "three\n"] {
        submit(&mut client, "orders", text);
    }
    until("all are there", || script.read("orders.txt") == "one\n\"two\" \\n\nthree\n");
    // Nothing can be written there any more.
    fs::remove_file(&out).unwrap();
    fs::create_dir(&out).unwrap();
    submit(&mut client, "orders", "four\n");
    let refused = || {
        get(server.admin, "/metrics").1.contains("tidegate_sink_dead_letters_total{route=\"orders\",sink=\"exec\"} 1")
    };
    until("it was refused twice", refused);
}

#[test]
fn a_sink_that_can_not_be_had_stops_the_start_with_exit_code_2_and_names_the_setting() {
    let dir = TempDir::new().unwrap();
    for (sinks, word) in [
        ("*=handler:mine", "handler:mine"),
        ("a=file:/x?color=red", "max_bytes"),
        ("a=exec:sh -c 'x", "not closed"),
        ("a=pipe:x", "kind of sink"),
    ] {
        let out = Process::command()
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .env("TIDEGATE_SINKS", sinks)
            .env("TIDEGATE_DATA_DIR", dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{sinks}: {text}");
        assert!(text.contains("TIDEGATE_SINKS") && text.contains(word), "{sinks}: {text}");
    }
}
