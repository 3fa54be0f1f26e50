use std::fs;

use tempfile::TempDir;

use super::super::testing::message;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A sink of a shell script, which has `$1` as its directory.
fn sink(dir: &TempDir, script: &str, timeout: Duration) -> ExecSink {
    let path = dir.path().join("script.sh");
    fs::write(&path, script).unwrap();
    let argument = format!("sh '{}' \"{}\"", path.display(), dir.path().display());
    ExecSink::new(Options::parse(&argument).unwrap(), timeout)
}

fn deliver(sink: &mut ExecSink, messages: &[Message]) -> (Result<(), Down>, Vec<Outcome>) {
    let mut outcomes = Vec::new();
    let result = sink.deliver(&messages.iter().collect::<Vec<_>>(), &mut outcomes);
    (result, outcomes)
}

fn lines(dir: &TempDir, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Answers for each line, and keeps its id.
const TAKES: &str = r#"
while read -r line; do
  id=${line#*:}; id=${id%%,*}
  echo "$id" >> "$1/taken"
  echo "$id"
done
echo closed >> "$1/end"
"#;

/// Refuses what is of the topic `bad`.
const REFUSES: &str = r#"
while read -r line; do
  id=${line#*:}; id=${id%%,*}
  case $line in
    *'"topic":"bad"'*) echo "$id refused no such table" ;;
    *) echo "$id" >> "$1/taken"; echo "$id" ;;
  esac
done
"#;

#[test]
fn a_command_gets_every_message_in_order_and_says_what_it_has_done() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, TAKES, PATIENCE);
    sink.open(0).unwrap();
    for begin in [1, 101] {
        let mut left: Vec<Message> = (begin..begin + 100).map(|id| message(id, "a", "x")).collect();
        while !left.is_empty() {
            let (result, outcomes) = deliver(&mut sink, &left);
            result.unwrap();
            let done = outcomes.iter().take_while(|outcome| **outcome == Outcome::Delivered).count();
            assert!(done > 0 && outcomes[done..].iter().all(|outcome| *outcome == Outcome::Untried));
            left.drain(..done);
        }
    }
    assert_eq!(lines(&dir, "taken"), (1..=200).collect::<Vec<u64>>());
    sink.close().unwrap();
    assert!(dir.path().join("end").exists(), "it ended by its input's end");
}

#[test]
fn of_a_topic_whose_message_was_refused_it_is_given_no_more() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, REFUSES, PATIENCE);
    sink.open(0).unwrap();
    let topics = ["good", "bad", "bad", "good", "other", "bad"];
    let messages: Vec<Message> = topics.iter().enumerate().map(|(n, topic)| message(n as u64, topic, "x")).collect();
    let (result, outcomes) = deliver(&mut sink, &messages);
    result.unwrap();
    let refused = Outcome::Refused("no such table".to_owned());
    let (delivered, untried) = (Outcome::Delivered, Outcome::Untried);
    assert_eq!(outcomes, [delivered.clone(), refused, untried.clone(), delivered.clone(), delivered, untried]);
}

#[test]
fn a_command_that_ends_is_down_and_gets_again_what_it_has_not_answered() {
    let dir = TempDir::new().unwrap();
    let script = r#"
for turn in 1 2; do
  read -r line
  id=${line#*:}; id=${id%%,*}
  echo "$id" >> "$1/taken"
  echo "$id"
done
read -r line
exit 7
"#;
    let mut sink = sink(&dir, script, PATIENCE);
    let messages: Vec<Message> = (1..=5).map(|id| message(id, "a", "x")).collect();
    sink.open(0).unwrap();
    let (result, outcomes) = deliver(&mut sink, &messages);
    let why = result.unwrap_err().0;
    assert!(why.contains("has ended") && why.contains('7'), "{why}");
    let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
    assert_eq!((done, &outcomes[2]), (2, &Outcome::Untried));
    assert!(deliver(&mut sink, &messages[2..]).0.is_err(), "not before it is opened again");
    sink.open(2).unwrap();
    assert!(deliver(&mut sink, &messages[2..]).0.is_err());
    assert_eq!(lines(&dir, "taken"), [1, 2, 3, 4]);
}

#[test]
fn a_command_that_does_not_answer_or_does_not_read_is_ended_within_its_time() {
    let dir = TempDir::new().unwrap();
    let body = "x".repeat(60_000);
    let messages: Vec<Message> = (1..=40).map(|id| message(id, &format!("t{id}"), &body)).collect();
    for script in ["while read -r line; do :; done", "trap '' TERM; while :; do sleep 1; done", "exec sleep 1000"] {
        let mut sink = sink(&dir, script, Duration::from_millis(100));
        sink.open(0).unwrap();
        let begun = Instant::now();
        let (result, outcomes) = deliver(&mut sink, &messages);
        let why = result.unwrap_err().0;
        assert!(why.contains("answered nothing for 100 ms"), "{why}");
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Untried));
        assert!(begun.elapsed() < PATIENCE, "{script}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_command_that_goes_on_after_its_inputs_end_is_ended_with_all_of_its_group() {
    let dir = TempDir::new().unwrap();
    let script = "trap '' TERM; sleep 1000 & echo $! > \"$1/child\"; wait; while :; do sleep 1000; done";
    let mut sink = sink(&dir, script, Duration::from_millis(50));
    sink.open(0).unwrap();
    let child = dir.path().join("child");
    let until = Instant::now() + PATIENCE;
    let pid = loop {
        match fs::read_to_string(&child).map(|text| text.trim().to_owned()) {
            Ok(pid) if !pid.is_empty() => break pid,
            _ => assert!(Instant::now() < until, "it starts"),
        }
        std::thread::park_timeout(Duration::from_millis(1));
    };
    assert_eq!(sink.close(), Ok(()));
    let gone = || !fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.contains("sleep"));
    while !gone() {
        assert!(Instant::now() < until, "its child lives on");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn what_is_no_answer_is_passed_over_and_an_endless_one_is_the_end() {
    let dir = TempDir::new().unwrap();
    let script = r#"
echo hello; echo 77; echo "1 maybe"; echo; printf '\377\n'
read -r line
echo 1
while read -r line; do head -c 100000 /dev/zero; done
"#;
    let mut sink = sink(&dir, script, PATIENCE);
    sink.open(0).unwrap();
    let (result, outcomes) = deliver(&mut sink, &[message(1, "a", "x")]);
    assert_eq!((result, outcomes), (Ok(()), vec![Outcome::Delivered]));
    let why = deliver(&mut sink, &[message(2, "a", "x")]).0.unwrap_err().0;
    assert!(why.contains("does not end"), "{why}");
}

#[test]
fn a_command_that_is_not_there_is_down_and_not_the_end_of_the_server() {
    let options = Options::parse("/not/there --now").unwrap();
    let why = ExecSink::new(options, PATIENCE).open(0).unwrap_err().0;
    assert!(why.contains("/not/there"), "{why}");
}

#[test]
fn words_are_split_as_a_shell_would_and_open_quotes_are_told() {
    for (text, words) in [
        ("a  b\tc", &["a", "b", "c"][..]),
        (r#"sh -c 'echo "$1" \n' "x y" '' a\ b"#, &["sh", "-c", r#"echo "$1" \n"#, "x y", "", "a b"]),
        (r#"a"b\"c"d 'it'\''s'"#, &["ab\"cd", "it's"]),
    ] {
        assert_eq!(split(text).unwrap(), words, "{text}");
    }
    for (wrong, word) in [
        ("a 'b", "' is not closed"),
        ("a \"b", "\" is not closed"),
        ("a \\", "backslash"),
        (" ", "wanted"),
        ("''", "wanted"),
    ] {
        let why = Options::parse(wrong).unwrap_err();
        assert!(why.contains(word), "{wrong}: {why}");
    }
}
