//! Answers that the workers have to be asked for. Meanwhile the port serves its other clients.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;

use super::Control;
use super::routes::{Answer, json, text};
use crate::hex::hex;
use crate::reactor::{ConnectionInfo, Connections, Disconnected, Inquiry, ListPart};

/// A question that the workers have, and what is to be made of their answers.
#[derive(Debug)]
pub(super) struct Later {
    question: Question,
    pub(super) until: Instant,
}

#[derive(Debug)]
enum Question {
    List(Inquiry<ListPart>),
    Disconnect { inquiry: Inquiry<Option<Disconnected>>, by: SocketAddr },
}

/// A list of connections, as JSON.
#[derive(Serialize)]
struct ListPage {
    /// Nothing is missing: neither of the next two.
    complete: bool,
    /// There are more, over the limit.
    truncated: bool,
    /// Workers that did not answer in time.
    silent_workers: Vec<u16>,
    connections: Vec<Row>,
}

/// One connection, as JSON.
#[derive(Serialize)]
struct Row {
    worker: u16,
    connection: String,
    session: Option<String>,
    principal: Option<String>,
    peer: Option<String>,
    state: &'static str,
    idle_s: f64,
    in_flight: u16,
    queued_bytes: usize,
    unparsed_bytes: usize,
    heartbeat_ms: u32,
    noticed: bool,
    paused: bool,
}

/// A connection that was told to go, as JSON.
#[derive(Serialize)]
struct DisconnectPage {
    /// False: it was on its way out already.
    told: bool,
    #[serde(flatten)]
    row: Row,
}

impl Later {
    /// What the workers have answered until then is the answer.
    pub(super) fn list(inquiry: Inquiry<ListPart>, until: Instant) -> Later {
        Later { question: Question::List(inquiry), until }
    }

    /// `by` is who asks.
    pub(super) fn disconnect(inquiry: Inquiry<Option<Disconnected>>, by: SocketAddr, until: Instant) -> Later {
        Later { question: Question::Disconnect { inquiry, by }, until }
    }

    /// Whether the answer is complete, or its time is up.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let complete = match &mut self.question {
            Question::List(inquiry) => inquiry.poll(),
            Question::Disconnect { inquiry, .. } => inquiry.poll(),
        };
        complete || now >= self.until
    }

    /// The answer, as far as it goes.
    pub(super) fn answer(self, control: &dyn Control) -> Answer {
        match self.question {
            Question::List(inquiry) => list(Connections::of(inquiry)),
            Question::Disconnect { inquiry, by } => disconnected(inquiry, by, control),
        }
    }
}

fn list(found: Connections) -> Answer {
    let rows = found.connections.into_iter().map(|(worker, info)| row(worker, info));
    json(
        200,
        &ListPage {
            complete: !found.truncated && found.silent.is_empty(),
            truncated: found.truncated,
            silent_workers: found.silent,
            connections: rows.collect(),
        },
    )
}

fn disconnected(inquiry: Inquiry<Option<Disconnected>>, by: SocketAddr, control: &dyn Control) -> Answer {
    match inquiry.finish().0.pop() {
        None => text(503, "its worker did not answer: it is busy, or has ended; ask again"),
        Some((_, None)) => text(404, "no live connection has this session"),
        Some((worker, Some(gone))) => {
            if !gone.was_leaving {
                control.disconnected(worker, &gone, by);
            }
            json(202, &DisconnectPage { told: !gone.was_leaving, row: row(worker, gone.info) })
        }
    }
}

fn row(worker: u16, info: ConnectionInfo) -> Row {
    let view = info.view;
    Row {
        worker,
        connection: format!("{:x}", info.connection),
        session: info.session.map(|id| hex(&id)),
        principal: info.principal,
        peer: info.peer.map(|peer| peer.to_string()),
        state: view.state,
        idle_s: f64::from(view.idle_ms) / 1000.0,
        in_flight: view.in_flight,
        queued_bytes: view.queued,
        unparsed_bytes: view.unparsed,
        heartbeat_ms: view.heartbeat_ms,
        noticed: view.noticed,
        paused: view.paused,
    }
}
