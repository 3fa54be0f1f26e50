//! What the admin port promises, over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::build;

#[path = "operator_tests.rs"]
mod operator;

const SESSION: &str = "000102030405060708090a0b0c0d0e0f";
const TOKEN: &str = "correct-horse-battery";

#[derive(Default)]
struct Fake {
    not_ready: Mutex<Option<String>>,
    sick: Mutex<Option<String>>,
    drains: AtomicUsize,
    reloads: AtomicUsize,
    workers: Vec<Arc<WorkerStats>>,
    panics: bool,
    token: Option<&'static str>,
    bound_to: Option<&'static str>,
    /// What the workers answer, and the workers that do not.
    lists: Vec<(u16, ListPart)>,
    silent: Vec<u16>,
    gone: Option<Disconnected>,
    asked: Mutex<Vec<String>>,
}

impl Control for Fake {
    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn healthy(&self) -> Result<(), String> {
        assert!(!self.panics, "a control that panics");
        self.sick.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn reload(&self) {
        self.reloads.fetch_add(1, Ordering::SeqCst);
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::SeqCst);
    }
    fn workers(&self) -> Vec<Arc<WorkerStats>> {
        self.workers.clone()
    }
    fn overview(&self) -> Overview {
        Overview::default()
    }
    fn service_id(&self) -> &str {
        "a\"b"
    }
    fn about(&self) -> status::About {
        let since = std::time::Instant::now();
        status::About { listen: vec!["127.0.0.1:7400".parse().unwrap()], started: std::time::UNIX_EPOCH, since }
    }
    fn list(&self, principal: Option<String>, limit: usize, waker: &Arc<Waker>) -> Inquiry<ListPart> {
        self.note(format!("list {principal:?} {limit}"));
        let mut awaited: Vec<u16> = self.lists.iter().map(|(worker, _)| *worker).collect();
        awaited.extend(&self.silent);
        Inquiry::fake(self.answer_from_elsewhere(self.lists.clone(), waker), awaited)
    }
    fn disconnect(&self, session: SessionId, waker: &Arc<Waker>) -> Inquiry<Option<Disconnected>> {
        self.note(format!("disconnect {}", crate::hex::hex(&session)));
        Inquiry::fake(self.answer_from_elsewhere(vec![(1, self.gone.clone())], waker), vec![1])
    }
    fn disconnected(&self, worker: u16, _gone: &Disconnected, by: SocketAddr) {
        self.note(format!("recorded {worker} {}", by.ip()));
    }
}

impl Fake {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn noted(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Answers come from another thread, behind the question.
    fn answer_from_elsewhere<T: Send + 'static>(
        &self,
        answers: Vec<(u16, T)>,
        waker: &Arc<Waker>,
    ) -> crossbeam_channel::Receiver<(u16, T)> {
        let (to, from) = crossbeam_channel::unbounded();
        let waker = Arc::clone(waker);
        std::thread::spawn(move || {
            for answer in answers {
                let _ = to.send(answer);
                waker.wake().unwrap();
            }
        });
        from
    }
}

struct Running {
    fake: Arc<Fake>,
    address: SocketAddr,
    handle: AdminHandle,
}

fn run(fake: Fake) -> Running {
    run_with(fake, |_| {})
}

fn run_with(fake: Fake, change: impl FnOnce(&mut client::Patience)) -> Running {
    let fake = Arc::new(fake);
    let mut admin = Admin::bind(fake.bound_to.unwrap_or("127.0.0.1:0").parse().unwrap()).unwrap();
    change(&mut admin.inner.patience);
    let address = SocketAddr::from(([127, 0, 0, 1], admin.local_addr().port()));
    let token = Arc::new(AdminToken::of(fake.token));
    Running { handle: admin.spawn(fake.clone(), token).unwrap(), fake, address }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Running {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Sends `method target` and reads until the server closes.
    fn ask(&self, method: &str, target: &str, headers: &str) -> Reply {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        let mut text = String::new();
        self.send(&request).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, "")
    }
}

#[test]
fn health_and_readiness_are_200_or_503_with_the_reason() {
    let admin = run(Fake::default());
    let (health, ready) = (admin.get("/healthz"), admin.get("/readyz?verbose"));
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    *admin.fake.not_ready.lock().unwrap() = Some("draining".to_owned());
    *admin.fake.sick.lock().unwrap() = Some("worker 1 is gone".to_owned());
    let (health, ready) = (admin.get("/healthz"), admin.get("/readyz"));
    assert_eq!((health.status, health.body.as_str()), (503, "worker 1 is gone\n"));
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
}

#[test]
fn a_drain_is_begun_by_a_post_and_by_nothing_else() {
    let admin = run(Fake::default());
    for method in ["GET", "HEAD", "PUT"] {
        let reply = admin.ask(method, "/drain", "");
        assert_eq!(reply.status, 405);
        assert!(reply.head.contains("\r\nallow: post"), "{}", reply.head);
    }
    assert_eq!(admin.fake.drains.load(Ordering::SeqCst), 0);
    let reply = admin.ask("POST", "/drain", "");
    assert_eq!((reply.status, admin.fake.drains.load(Ordering::SeqCst)), (202, 1));
    assert!(reply.body.starts_with("draining: "), "{}", reply.body);
    let with_a_body = admin.ask("POST", "/drain", "Content-Length: 0\r\n");
    assert_eq!((with_a_body.status, admin.fake.drains.load(Ordering::SeqCst)), (202, 2));
}

#[test]
fn a_reload_is_asked_for_by_a_post_and_not_by_a_web_page() {
    let admin = run(Fake::default());
    assert_eq!(admin.ask("GET", "/reload", "").status, 405);
    assert_eq!(admin.ask("POST", "/reload", "Origin: http://127.0.0.1\r\n").status, 403);
    assert_eq!(admin.fake.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(admin.ask("POST", "/reload", "").status, 202);
    assert_eq!(admin.fake.reloads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_web_page_cannot_begin_a_drain() {
    let admin = run(Fake::default());
    for header in ["Origin: https://example.org\r\n", "origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(admin.ask("POST", "/drain", header).status, 403);
        assert_eq!(admin.ask("POST", &format!("/disconnect/{SESSION}"), header).status, 403);
    }
    assert_eq!((admin.fake.drains.load(Ordering::SeqCst), admin.fake.noted()), (0, vec![]));
}

#[test]
fn other_paths_are_404_and_other_methods_405() {
    let admin = run(Fake::default());
    for path in ["/healthz/", "//healthz", "/metrics.json", "*"] {
        assert_eq!(admin.get(path).status, 404, "{path}");
    }
    for path in ["/", "/healthz", "/readyz", "/metrics", "/status", "/connections"] {
        let reply = admin.ask("POST", path, "");
        assert_eq!(reply.status, 405);
        assert!(reply.head.contains("\r\nallow: get, head"), "{}", reply.head);
    }
}

#[test]
fn head_is_get_without_the_body() {
    let admin = run(Fake::default());
    for (path, status) in
        [("/healthz", 200), ("/metrics", 200), ("/", 200), ("/status", 200), ("/connections", 200), ("/nowhere", 404)]
    {
        let reply = admin.ask("HEAD", path, "");
        assert_eq!((reply.status, reply.body.as_str()), (status, ""));
    }
}

#[test]
fn metrics_show_every_stat_of_every_worker() {
    let workers: Vec<_> = (0..3).map(|_| Arc::new(WorkerStats::default())).collect();
    workers[1].accepted.add(41);
    workers[2].connections_open.add(7);
    let admin = run(Fake { workers: workers.clone(), ..Fake::default() });
    let reply = admin.get("/metrics");
    let content_type = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(reply.head.contains(content_type), "{}", reply.head);
    let lines: Vec<&str> = reply.body.lines().collect();
    let unshown = ["answered", "failed"]; // they may go down: tidegate_requests_total has them
    for (name, kind, help, _) in workers[0].each().filter(|(name, ..)| !unshown.contains(name)) {
        let at = lines.iter().position(|line| line.starts_with("# HELP tidegate_") && line.ends_with(help));
        let at = at.unwrap_or_else(|| panic!("{name}: {}", reply.body));
        let family = lines[at].split(' ').nth(2).unwrap();
        let (kind, suffix) =
            if kind == crate::stats::StatKind::Counter { ("counter", "_total") } else { ("gauge", "") };
        assert_eq!(lines[at + 1], format!("# TYPE {family} {kind}"));
        let samples = &lines[at + 2..];
        let samples = if samples[0].starts_with("# UNIT") { &samples[1..] } else { samples };
        for (worker, sample) in samples[..3].iter().enumerate() {
            assert!(sample.starts_with(&format!("{family}{suffix}{{worker=\"{worker}\"}} ")), "{sample}");
        }
    }
    assert!(lines.contains(&"tidegate_requests_accepted_total{worker=\"1\"} 41"));
    assert!(lines.contains(&"tidegate_connections_open{worker=\"2\"} 7"));
    assert_eq!(lines.last(), Some(&"# EOF"));
}

#[test]
fn metrics_say_what_is_running_and_whether_it_is_ready() {
    let admin = run(Fake::default());
    let page = admin.get("/metrics").body;
    let info = page.lines().find(|line| line.starts_with("tidegate_build_info{")).unwrap();
    let [version, commit] = [build::VERSION, build::COMMIT];
    assert!(info.starts_with(&format!("tidegate_build_info{{version=\"{version}\",commit=\"{commit}\",features=\"")));
    assert!(info.ends_with(",service_id=\"a\\\"b\"} 1"), "{info}");
    assert!(page.contains("\ntidegate_healthy 1\n") && page.contains("\ntidegate_ready 1\n"), "{page}");
    *admin.fake.not_ready.lock().unwrap() = Some("draining".to_owned());
    assert!(admin.get("/metrics").body.contains("\ntidegate_ready 0\n"));
}

#[test]
fn one_connection_may_ask_many_times() {
    let admin = run(Fake::default());
    let mut stream = admin.connect();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        while line != "ok\n" {
            line.clear();
            assert_ne!(replies.read_line(&mut line).unwrap(), 0, "the server closed");
        }
    }
}

#[test]
fn silent_clients_and_halves_of_requests_keep_nobody_waiting() {
    let admin = run(Fake::default());
    let silent: Vec<TcpStream> = (0..100).map(|_| admin.connect()).collect();
    let halves: Vec<TcpStream> = (0..100).map(|_| admin.send("GET /healthz HTTP/1.1\r\nHos")).collect();
    let bodies: Vec<TcpStream> = (0..100)
        .map(|_| admin.send("POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\nno more"))
        .collect();
    assert_eq!(admin.get("/healthz").status, 200);
    admin.handle.stop();
    drop((silent, halves, bodies));
}

#[test]
fn a_client_that_reads_no_answer_keeps_nobody_waiting() {
    // A page that no socket buffer holds, many times.
    let workers = (0..1024).map(|_| Arc::new(WorkerStats::default())).collect();
    let admin = run(Fake { workers, ..Fake::default() });
    let deaf: Vec<TcpStream> =
        (0..3).map(|_| admin.send(&"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8))).collect();
    assert_eq!(admin.get("/healthz").status, 200);
    admin.handle.stop();
    drop(deaf);
}

#[test]
fn a_body_of_any_announced_length_does_no_harm() {
    let admin = run(Fake::default());
    let lengths = ["1025", "65537", "9000000000000000000", "18446744073709551615", "99999999999999999999", "-1", "x"];
    let streams: Vec<TcpStream> = lengths
        .iter()
        .map(|length| admin.send(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")))
        .collect();
    let chunked =
        admin.send("POST /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n");
    assert_eq!(admin.get("/healthz").status, 200);
    drop((streams, chunked));
}

#[test]
fn nonsense_is_refused_and_the_next_client_is_served() {
    let admin = run(Fake::default());
    for nonsense in ["GET\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET /healthz HTTP/9.9\r\n\r\n", "M\u{1}\r\n\r\n"] {
        let mut answer = Vec::new();
        // Closed or reset, it is over for this client.
        let _ = admin.send(nonsense).read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    assert_eq!(admin.get("/healthz").status, 200);
}

#[test]
fn a_head_without_end_is_refused_and_not_kept() {
    let admin = run(Fake::default());
    let mut stream = admin.connect();
    let mut replies = stream.try_clone().unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let head = std::iter::once("GET /healthz HTTP/1.1\r\n").chain(std::iter::repeat_n(line.as_str(), 9));
    head.for_each(|line| stream.write_all(line.as_bytes()).unwrap());
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    replies.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_the_last_answer_is_not_reset() {
    let admin = run(Fake::default());
    let mut requests = "GET /healthz HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\n".repeat(100);
    requests += "GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\nand what is not read any more";
    let mut answers = String::new();
    admin.send(&requests).read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, [["200", "404"].repeat(100), vec!["200"]].concat());
}

#[test]
fn a_silent_client_is_given_up() {
    let mut admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let short = std::time::Duration::from_millis(1);
    admin.inner.patience = client::Patience { begun: short, idle: short, inquiry: short };
    let address = admin.local_addr();
    let _handle = admin.spawn(Arc::new(Fake::default()), Arc::new(AdminToken::of(None))).unwrap();
    for sent in ["", "GET /healthz HTTP/1.1\r\nHos"] {
        let mut stream = TcpStream::connect(address).unwrap();
        // Given up before it was written, or after: either way it ends.
        let _ = stream.write_all(sent.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

#[test]
fn stopping_closes_the_port() {
    let admin = run(Fake::default());
    admin.handle.stop();
    assert!(TcpStream::connect(admin.address).is_err());
}

#[test]
fn a_control_that_panics_costs_one_answer() {
    let admin = run(Fake { panics: true, ..Fake::default() });
    assert_eq!(admin.get("/healthz").status, 500);
    assert_eq!(admin.get("/readyz").status, 200);
}

#[test]
fn an_address_that_is_taken_is_refused_before_anything_is_served() {
    let admin = run(Fake::default());
    let error = Admin::bind(admin.address).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot serve the admin port on {}: ", admin.address)), "{error}");
}

#[test]
fn dropping_the_handle_ends_the_thread_and_lets_go_of_the_control() {
    let Running { fake, handle, .. } = run(Fake::default());
    assert_eq!(Arc::strong_count(&fake), 2);
    drop(handle);
    assert_eq!(Arc::strong_count(&fake), 1);
}
