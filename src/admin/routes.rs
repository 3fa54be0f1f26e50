//! From a request to an answer: no socket here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Control, metrics};

/// What the routes look at of a request.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// The request's target as sent: a path, and perhaps a query.
    pub(super) target: &'a str,
    /// A browser sent it for a web page: it carries `Origin` or `Sec-Fetch-Site`.
    pub(super) from_page: bool,
}

/// An answer; for HEAD the transport leaves the body out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// The `Allow` header of a 405.
    pub(super) allow: Option<&'static str>,
    pub(super) body: String,
}

/// Names of the headers that tell a browser's request from others'. Any case.
pub(super) const BROWSER_HEADERS: [&str; 2] = ["Origin", "Sec-Fetch-Site"];

/// Answers a request. A panic of `control` is a 500, and not the end of the admin port.
pub(super) fn answer(ask: &Ask<'_>, control: &dyn Control) -> Answer {
    catch_unwind(AssertUnwindSafe(|| route(ask, control))).unwrap_or_else(|_| text(500, "this is a bug in tidegate"))
}

fn route(ask: &Ask<'_>, control: &dyn Control) -> Answer {
    let path = ask.target.split(['?', '#']).next().unwrap_or_default();
    let read = matches!(ask.method, "GET" | "HEAD");
    match path {
        "/healthz" if read => state(control.healthy(), "ok"),
        "/readyz" if read => state(control.ready(), "ready"),
        "/metrics" if read => metrics(control),
        "/drain" if ask.method == "POST" => drain(ask, control),
        "/healthz" | "/readyz" | "/metrics" => not_allowed("GET, HEAD"),
        "/drain" => not_allowed("POST"),
        _ => text(404, "there are /healthz, /readyz, /metrics and /drain"),
    }
}

fn drain(ask: &Ask<'_>, control: &dyn Control) -> Answer {
    // Any web page may make its visitor's browser post to a loopback address.
    if ask.from_page {
        return text(403, "a drain is not begun from a browser");
    }
    control.drain();
    text(202, "draining: what was accepted is answered, then the server exits and its ledger says what became of it")
}

fn metrics(control: &dyn Control) -> Answer {
    match metrics::render(control) {
        Ok(body) => Answer { status: 200, content_type: metrics::CONTENT_TYPE, allow: None, body },
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
    Answer { allow: Some(allow), ..text(405, &format!("allowed here: {allow}")) }
}

pub(super) fn text(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", allow: None, body: format!("{body}\n") }
}
