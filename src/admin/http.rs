//! The admin port's transport, over tiny_http.
//!
//! That library reads each connection on a thread of its own, without a time-out, and its requests
//! may block when they are answered or dropped: by a client that does not read, or that announced a
//! body and does not send it. So each request is answered on a thread of its own too, and a stuck
//! client does not keep the admin thread.
//!
//! What can't be cured from outside the library: nothing bounds its clients, their time and the
//! length of their headers; many stuck ones that connect at once can leave a further one waiting
//! (its pool counts a thread as idle until it has woken); running out of descriptors within accept
//! can end its accepting unnoticed. Serve the admin port to trusted networks only.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tiny_http::{Header, Method, Request, Response, Server};

use super::Control;
use super::routes::{Answer, Ask, BROWSER_HEADERS, answer};

/// The largest body that a request may announce. Bytes. tiny_http allocates what is announced, when
/// the request is dropped, and ends the process if there is not that much.
const MAX_BODY: usize = 64 * 1024;

/// How long to wait before accepting again, when the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(crate::limits::ACCEPT_PAUSE_MS as u64);

/// A listener, before anything is accepted.
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    server: Arc<Server>,
}

impl Bound {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Bound> {
        let listener = TcpListener::bind(address)?;
        Ok(Bound { address: listener.local_addr()?, server: serve(&listener)?, listener })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn spawn(self, control: Arc<dyn Control>) -> io::Result<AdminHandle> {
        let shared = Arc::new(Shared { stopped: AtomicBool::new(false), server: Mutex::new(self.server) });
        let (accept, listener) = (shared.clone(), self.listener);
        let thread =
            thread::Builder::new().name("admin".to_owned()).spawn(move || accept_loop(&accept, &listener, &control))?;
        Ok(AdminHandle { shared, thread: Some(thread) })
    }
}

/// The running admin port. Dropping it stops it.
pub struct AdminHandle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// Takes no more requests, and joins the thread. Answers that are under way may still go out.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.server().unblock();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught where they happen; there is nothing to tell about one here.
            let _ = thread.join();
        }
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for AdminHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminHandle")
    }
}

struct Shared {
    stopped: AtomicBool,
    server: Mutex<Arc<Server>>,
}

impl Shared {
    fn server(&self) -> Arc<Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn accept_loop(shared: &Shared, listener: &TcpListener, control: &Arc<dyn Control>) {
    while !shared.stopped.load(Ordering::SeqCst) {
        match shared.server().recv() {
            Ok(request) => dispatch(request, control),
            Err(_) if shared.stopped.load(Ordering::SeqCst) => return,
            Err(error) => {
                // tiny_http gives up at the first error of accept, such as EMFILE: begin anew.
                log::warn!("admin port: {error}; accepting again in {PAUSE:?}");
                thread::sleep(PAUSE);
                if let Ok(server) = serve(listener) {
                    *shared.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
                }
            }
        }
    }
}

fn dispatch(request: Request, control: &Arc<dyn Control>) {
    if request.body_length().is_some_and(|length| length > MAX_BODY) {
        log::warn!("admin port: a request with a body over {MAX_BODY} bytes is left unanswered");
        // See MAX_BODY: dropping it is what must not happen.
        std::mem::forget(request);
        return;
    }
    let from_page = |name| request.headers().iter().any(|header| header.field.equiv(name));
    let from_page = BROWSER_HEADERS.into_iter().any(from_page);
    let ask = Ask { method: request.method().as_str(), target: request.url(), from_page };
    let answer = answer(&ask, &**control);
    let reply = move || {
        if let Err(error) = respond(request, answer) {
            log::debug!("admin port: an answer was not sent: {error}");
        }
    };
    if let Err(error) = thread::Builder::new().name("admin-reply".to_owned()).spawn(reply) {
        log::warn!("admin port: a request goes unanswered for want of a thread: {error}");
    }
}

fn respond(request: Request, answer: Answer) -> io::Result<()> {
    let body = if *request.method() == Method::Head { String::new() } else { answer.body.clone() };
    let mut response = Response::from_string(body)
        .with_status_code(answer.status)
        // Always with its length.
        .with_chunked_threshold(usize::MAX);
    let headers =
        [("Content-Type", Some(answer.content_type)), ("Allow", answer.allow), ("Cache-Control", Some("no-store"))];
    for (name, value) in headers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    request.respond(response)
}

fn serve(listener: &TcpListener) -> io::Result<Arc<Server>> {
    Server::from_listener(listener.try_clone()?, None).map(Arc::new).map_err(io::Error::other)
}
