//! From SUBMIT to the sinks of a real server: files, commands, consumers.

mod consumers;
mod ends;
mod programs;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate::proto::Command;
use tidegate::proto::message::{parse_submitted, topic_payload};

use crate::support::Client;

/// Stores a message; its id.
fn submit(client: &mut Client, topic: &str, body: &str) -> u64 {
    let reply = client.call(Command::SUBMIT, &topic_payload(topic.as_bytes(), body.as_bytes()).unwrap());
    parse_submitted(&reply).expect("an id and flags").0
}

/// The whole lines of a sink's file.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Their bodies.
fn bodies(path: &Path) -> Vec<String> {
    lines(path).iter().map(body).collect()
}

/// A message's body.
fn body(line: &Value) -> String {
    String::from_utf8(STANDARD.decode(line["body"].as_str().unwrap()).unwrap()).unwrap()
}
