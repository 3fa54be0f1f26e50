//! From a request to an answer: no socket here.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Waker;
use serde::Serialize;

use super::access::{Access, Need};
use super::later::Later;
use super::{Control, metrics, page, query, status};
use crate::hex::unhex;

/// Questions to the workers that may be open at a time: each may hold a long list.
const MAX_LATER: usize = 4;

/// What the routes look at of a request.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// The request's target as sent: a path, and perhaps a query.
    pub(super) target: &'a str,
    pub(super) host: Option<&'a [u8]>,
    /// `Origin` is there: a browser sent it for a web page.
    pub(super) origin: bool,
    /// `Sec-Fetch-Site`: a browser sent it, and this is whose page wanted it.
    pub(super) fetch_site: Option<&'a [u8]>,
    pub(super) authorization: Option<&'a [u8]>,
    /// The client's address.
    pub(super) from: SocketAddr,
}

/// What the routes have to answer with.
pub(super) struct Desk<'a> {
    pub(super) control: &'a dyn Control,
    pub(super) access: &'a mut Access,
    /// Woken by workers when they have answered.
    pub(super) waker: &'a Arc<Waker>,
    /// Questions to the workers that are open.
    pub(super) open: usize,
    /// How long the workers have for an answer.
    pub(super) patience: Duration,
    pub(super) now: Instant,
}

/// An answer, or the promise of one.
pub(super) enum Reply {
    Now(Answer),
    Later(Later),
}

/// An answer; for HEAD the transport leaves the body out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Beside those that every answer has.
    pub(super) headers: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) body: String,
}

impl Answer {
    /// With one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers a request. A panic of `control` is a 500, and not the end of the admin port.
pub(super) fn answer(ask: &Ask<'_>, desk: &mut Desk<'_>) -> Reply {
    catch_unwind(AssertUnwindSafe(|| route(ask, desk))).unwrap_or_else(|_| Reply::Now(bug()))
}

/// The answer of a question whose time has come; the same of a panic.
pub(super) fn answer_later(later: Later, control: &dyn Control) -> Answer {
    catch_unwind(AssertUnwindSafe(|| later.answer(control))).unwrap_or_else(|_| bug())
}

fn bug() -> Answer {
    text(500, "this is a bug in tidegate")
}

/// Where a request leads.
enum Route<'a> {
    Page,
    Health,
    Ready,
    Metrics,
    Status,
    Connections,
    Disconnect(&'a str),
    Drain,
    Reload,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Route<'a>> {
        Some(match path {
            "/" => Route::Page,
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/status" => Route::Status,
            "/connections" => Route::Connections,
            "/drain" => Route::Drain,
            "/reload" => Route::Reload,
            other => Route::Disconnect(other.strip_prefix("/disconnect/")?),
        })
    }

    fn need(&self) -> Need {
        match self {
            Route::Health | Route::Ready | Route::Metrics => Need::Nothing,
            Route::Page => Need::OwnPage,
            Route::Status | Route::Connections => Need::Operator,
            Route::Disconnect(_) | Route::Drain | Route::Reload => Need::OperatorOnly,
        }
    }

    fn methods(&self) -> &'static str {
        if self.need() == Need::OperatorOnly { "POST" } else { "GET, HEAD" }
    }
}

fn route(ask: &Ask<'_>, desk: &mut Desk<'_>) -> Reply {
    let target = ask.target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(route) = Route::of(path) else {
        let there =
            "there are /, /healthz, /readyz, /metrics, /status, /connections, /disconnect/SESSION, /reload and /drain";
        return Reply::Now(text(404, there));
    };
    if !route.methods().split(", ").any(|method| method == ask.method) {
        return Reply::Now(not_allowed(route.methods()));
    }
    if let Err(refused) = desk.access.check(ask, route.need(), desk.now) {
        return Reply::Now(refused);
    }
    Reply::Now(match route {
        Route::Page => page::answer(),
        Route::Health => state(desk.control.healthy(), "ok"),
        Route::Ready => state(desk.control.ready(), "ready"),
        Route::Metrics => metrics(desk.control),
        Route::Status => json(200, &status::Status::of(desk.control)),
        Route::Drain => drain(desk.control),
        Route::Reload => reload(desk.control),
        Route::Connections => return connections(query, desk),
        Route::Disconnect(session) => return disconnect(session, ask, desk),
    })
}

fn connections(query: &str, desk: &Desk<'_>) -> Reply {
    let parameters = match query::list_parameters(query) {
        Ok(parameters) => parameters,
        Err(wrong) => return Reply::Now(text(400, &wrong)),
    };
    if desk.open >= MAX_LATER {
        return Reply::Now(busy());
    }
    let inquiry = desk.control.list(parameters.principal, parameters.limit, desk.waker);
    Reply::Later(Later::list(inquiry, desk.now + desk.patience))
}

fn disconnect(session: &str, ask: &Ask<'_>, desk: &Desk<'_>) -> Reply {
    let Some(session) = unhex(session) else {
        return Reply::Now(text(400, "expected /disconnect/ and a session id of 32 hex digits"));
    };
    if desk.open >= MAX_LATER {
        return Reply::Now(busy());
    }
    let inquiry = desk.control.disconnect(session, desk.waker);
    Reply::Later(Later::disconnect(inquiry, ask.from, desk.now + desk.patience))
}

fn busy() -> Answer {
    text(503, "the workers have enough such questions to answer: ask again").with("Retry-After", "1")
}

fn drain(control: &dyn Control) -> Answer {
    control.drain();
    text(202, "draining: what was accepted is answered, then the server exits and its ledger says what became of it")
}

fn reload(control: &dyn Control) -> Answer {
    control.reload();
    text(202, "reading settings, tokens and keys again: the log and the audit log say what has changed, or is wrong")
}

fn metrics(control: &dyn Control) -> Answer {
    match metrics::render(control) {
        Ok(body) => Answer { status: 200, content_type: metrics::CONTENT_TYPE, headers: Vec::new(), body },
        Err(_) => text(500, "the metrics could not be written"),
    }
}

fn state(state: Result<(), String>, good: &str) -> Answer {
    match state {
        Ok(()) => text(200, good),
        Err(why) => text(503, &why),
    }
}

fn not_allowed(allow: &'static str) -> Answer {
    text(405, &format!("allowed here: {allow}")).with("Allow", allow)
}

pub(super) fn text(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", headers: Vec::new(), body: format!("{body}\n") }
}

/// JSON for programs, indented for people.
pub(super) fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(body) => Answer { status, content_type: "application/json", headers: Vec::new(), body: body + "\n" },
        Err(error) => text(500, &format!("the answer can't be written as JSON: {error}")),
    }
}
