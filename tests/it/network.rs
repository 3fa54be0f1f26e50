//! What the operator sets about sockets, and about a worker's way of turning.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate::config::{Config, Core, Sockets, Steering};
use tidegate::limits;
use tidegate::proto::{Command, ErrorCode, MAX_BODY, extension_type};
use tidegate::server::{Server, StartError};
use tidegate::stats::WorkerStats;

use crate::support::{Client, Got, Latch, config, extension, on_worker, start, sum, until};

/// How often a worker turns in 50 ms. Measured, not waited for.
fn turns(server: &Server, worker: usize) -> u64 {
    let ticks = &server.stats()[worker].ticks;
    let before = ticks.get();
    std::thread::park_timeout(Duration::from_millis(50));
    ticks.get() - before
}

#[test]
fn a_worker_with_the_least_of_everything_serves_all_the_same() {
    let core = Core {
        read_scratch: limits::MIN_READ_SCRATCH,
        send_scratch: limits::MIN_SEND_SCRATCH,
        read_budget: limits::MIN_READ_BUDGET,
        events: 1,
        accept_batch: 1,
        mail_batch: 1,
        mailbox: 1,
        pooled_buffers: 0,
        pooled_buffer_bytes: 0,
        timer_granularity_ms: limits::MAX_TIMER_GRANULARITY_MS,
        ..Core::default()
    };
    let (server, address) = start(Config { core, ..config() }, |b| {
        b.route_blocking(0x20, |request, responder| responder.reply(request.payload()))
    });
    let mut clients: Vec<Client> = (0..20).map(|_| Client::ready(address).0).collect();
    let large = vec![7; MAX_BODY];
    let sent: Vec<[u32; 2]> = clients
        .iter_mut()
        .map(|client| [client.request(Command(0x20), &large), client.request(Command(0x20), b"small")])
        .collect();
    for (client, seqs) in clients.iter_mut().zip(sent) {
        // Two threads of the pool may have them: they come in any order.
        let mut replies = [client.frame(), client.frame()];
        replies.sort_by_key(|reply| reply.seq);
        assert_eq!(replies.each_ref().map(|reply| reply.seq), seqs);
        assert!(replies[0].payload == large && replies[1].payload == b"small");
        assert_eq!(client.call(Command::ECHO, &large), large);
    }
    server.drain();
    for client in &mut clients {
        client.half_close();
    }
    clients.iter_mut().for_each(|client| {
        client.rest();
    });
    let ended = server.wait();
    assert!(ended.ledger.clean(), "{}", ended.ledger);
}

/// A server of one worker with this core, and what holds it up: the worker at 0x20, the pool at 0x21.
struct Held {
    server: Server,
    address: SocketAddr,
    worker: Latch,
    pool: Latch,
    /// Requests that the pool has answered.
    done: Arc<AtomicU64>,
}

const CROWD: u64 = 30;

impl Held {
    fn start(core: Core) -> Held {
        let (worker, pool, done) = (Latch::new(), Latch::new(), Arc::new(AtomicU64::new(0)));
        let (at_worker, at_pool, count) = (worker.clone(), pool.clone(), Arc::clone(&done));
        let (server, address) = start(Config { workers: 1, core, ..config() }, |b| {
            b.route(0x20, move |_, responder| {
                at_worker.pass();
                responder.reply(b"");
            })
            .route_blocking(0x21, move |_, responder| {
                at_pool.pass();
                responder.reply(b"");
                count.fetch_add(1, Ordering::SeqCst);
            })
        });
        Held { server, address, worker, pool, done }
    }

    /// How often the worker turns until all is done that came while it was held up.
    fn turns_for(&self, comes: impl FnOnce(), done: impl Fn(&WorkerStats) -> bool) -> u64 {
        let (mut holding, _) = Client::ready(self.address);
        holding.request(Command(0x20), b"");
        self.worker.wait_for(1);
        comes();
        let stats = &self.server.stats()[0];
        let before = stats.ticks.get();
        self.worker.open();
        until("all is done", || done(stats));
        stats.ticks.get() - before
    }
}

fn turns_to_read(events: usize) -> u64 {
    let held = Held::start(Core { events, ..Core::default() });
    let mut clients: Vec<Client> = (0..CROWD).map(|_| Client::ready(held.address).0).collect();
    let all_ask = || {
        for client in &mut clients {
            client.request(Command::ECHO, b"");
        }
    };
    held.turns_for(all_ask, |stats| stats.answered.get() == 2 * CROWD + 2)
}

#[test]
fn a_worker_takes_as_many_events_at_once_as_it_is_told() {
    assert!(turns_to_read(1) >= CROWD);
    let turns = turns_to_read(1_024);
    assert!(turns < CROWD / 2, "{turns} turns");
}

fn turns_to_accept(accept_batch: usize) -> u64 {
    let held = Held::start(Core { accept_batch, ..Core::default() });
    let mut clients = Vec::new();
    let all_connect = || clients.extend((0..CROWD).map(|_| Client::connect(held.address)));
    held.turns_for(all_connect, |stats| stats.connections_accepted.get() == CROWD + 1)
}

#[test]
fn a_worker_accepts_as_many_at_once_as_it_is_told() {
    assert!(turns_to_accept(1) >= CROWD);
    let turns = turns_to_accept(256);
    assert!(turns < CROWD / 2, "{turns} turns");
}

fn turns_to_take_mail(mail_batch: usize) -> u64 {
    let held = Held::start(Core { mail_batch, ..Core::default() });
    let (mut client, _) = Client::ready(held.address);
    for _ in 0..CROWD {
        client.request(Command(0x21), b"");
    }
    until("the pool has all", || held.server.stats()[0].in_flight.get() == CROWD);
    let all_are_answered = || {
        held.pool.open();
        until("all are answered", || held.done.load(Ordering::SeqCst) == CROWD);
    };
    held.turns_for(all_are_answered, |stats| stats.in_flight.get() == 0)
}

#[test]
fn a_worker_takes_as_much_mail_at_once_as_it_is_told() {
    assert!(turns_to_take_mail(1) >= CROWD);
    let turns = turns_to_take_mail(4_096);
    assert!(turns < CROWD / 2, "{turns} turns");
}

#[test]
fn timers_that_are_due_within_the_granularity_fire_together() {
    let core = Core { timer_granularity_ms: 1_000, ..Core::default() };
    let config = Config { workers: 1, core, auth_timeout: Duration::from_millis(500), ..config() };
    let (_server, address) = start(config, |b| b);
    let mut first = Client::connect(address);
    std::thread::park_timeout(Duration::from_millis(20));
    let mut second = Client::connect(address);
    first.expect_end(0, ErrorCode::AuthTimeout);
    let told = Instant::now();
    second.expect_end(0, ErrorCode::AuthTimeout);
    assert!(told.elapsed() > Duration::from_millis(700), "{:?} after the first", told.elapsed());
}

#[test]
fn a_worker_that_busy_polls_spins_after_work_then_sleeps_and_its_neighbour_sleeps_at_once() {
    let spins = Core { busy_poll_us: 400_000, ..Core::default() };
    let cores = BTreeMap::from([(1, spins)]);
    let (server, _) = start(Config { cores, ..config() }, |b| b);
    let mut sleeper = on_worker(&server, 0);
    sleeper.auth(b"");
    let mut spinner = on_worker(&server, 1);
    spinner.auth(b"");
    sleeper.assert_alive();
    assert!(turns(&server, 0) < 20, "worker 0 has nothing to do");
    spinner.assert_alive();
    let spun = turns(&server, 1);
    assert!(spun > 100, "{spun} turns right after work");
    until("it sleeps when there was nothing for a while", || turns(&server, 1) < 20);
    server.drain();
    for client in [&mut sleeper, &mut spinner] {
        client.half_close();
        client.rest();
    }
    let ended = server.wait();
    assert!(ended.ledger.clean(), "{}", ended.ledger);
}

#[test]
fn timers_and_drains_come_in_time_while_a_worker_busy_polls() {
    let core = Core { busy_poll_us: limits::MAX_BUSY_POLL_US, ..Core::default() };
    let config = Config { core, auth_timeout: Duration::from_millis(100), ..config() };
    let (server, address) = start(config, |b| b);
    let mut mute = Client::connect(address);
    mute.expect_end(0, ErrorCode::AuthTimeout);
    let (mut client, _) = Client::ready(address);
    server.drain();
    let (frames, _) = client.rest();
    assert_eq!(frames.len(), 2, "notice and final GOAWAY: {frames:?}");
    drop(client);
    let ledger = server.wait().ledger;
    assert!(ledger.clean() && ledger.durations.total_ms < 5_000, "{ledger}");
}

#[test]
fn a_resumption_whose_home_does_not_answer_is_unavailable_and_leaves_the_session_free() {
    let latch = Latch::new();
    let held = latch.clone();
    let patient = Duration::from_secs(60);
    let config = Config { session_hop_timeout: Duration::from_millis(100), auth_timeout: patient, ..config() };
    let (server, _) = start(config, |b| {
        b.route(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let mut home = on_worker(&server, 0);
    let session = home.auth(b"").session;
    drop(home);
    let mut late = on_worker(&server, 1);
    let mut again = on_worker(&server, 1);
    let mut hung = on_worker(&server, 0);
    hung.auth(b"");
    hung.request(Command(0x20), b"");
    latch.wait_for(1);
    let seq = late.request_v2(Command::AUTH, &extension(extension_type::RESUME, &session), b"");
    late.expect_end(seq, ErrorCode::Unavailable);
    assert_eq!(server.stats()[1].in_flight.get(), 0);
    late.half_close();
    until("it is gone", || server.stats()[1].connections_open.get() == 1);
    latch.open();
    // The claim was granted to nobody: whoever comes next has it, and no one is replaced.
    assert!(again.resume(b"", session).resumed);
    again.assert_alive();
    assert_eq!(sum(&server, |s| &s.sessions_expired), 0);
}

/// CPUs that this process may use.
#[cfg(target_os = "linux")]
fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// How many of 40 connections that a client on `cpu` makes land on each worker.
#[cfg(target_os = "linux")]
fn landings(server: &Server, cpu: usize) -> Vec<u64> {
    let accepted = || -> Vec<u64> { server.stats().iter().map(|s| s.connections_accepted.get()).collect() };
    let before = accepted();
    let address = server.local_addrs()[0];
    // A thread of its own: it stays where it is pinned. Over loopback the packet is taken where it is sent.
    let connecting = move || {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set).unwrap();
        (0..40).map(|_| Client::ready(address).0).collect::<Vec<_>>()
    };
    let clients = std::thread::spawn(connecting).join().unwrap();
    drop(clients);
    accepted().iter().zip(before).map(|(now, then)| now - then).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn connections_land_on_the_worker_of_the_cpu_that_took_the_packet_and_by_default_on_any() {
    let cpus = cpus();
    let [first, second] = cpus[..2.min(cpus.len())] else { return };
    let steered = |steering| {
        let sockets = Sockets { steering, ..Sockets::default() };
        start(Config { cpus: vec![second, first], sockets, ..config() }, |b| b).0
    };
    let server = steered(Steering::Cpu);
    assert_eq!(landings(&server, second), [40, 0]);
    assert_eq!(landings(&server, first), [0, 40]);
    // A worker that is started anew after a panic keeps its listener, and with it its CPU.
    server.panic_worker(0);
    until("it is back", || server.stats()[0].worker_panics.get() == 1);
    assert_eq!(landings(&server, second), [40, 0]);
    let server = steered(Steering::Kernel);
    assert!(landings(&server, second).iter().all(|landed| *landed > 0));
}

#[cfg(target_os = "linux")]
#[test]
fn what_comes_in_on_a_cpu_without_a_worker_lands_somewhere() {
    let cpus = cpus();
    let [first, second] = cpus[..2.min(cpus.len())] else { return };
    let sockets = Sockets { steering: Steering::Cpu, ..Sockets::default() };
    let server = start(Config { cpus: vec![first], sockets, ..config() }, |b| b).0;
    assert_eq!(landings(&server, second).iter().sum::<u64>(), 40);
}

#[test]
fn steering_to_workers_that_run_anywhere_is_refused_before_anything_is_bound() {
    let sockets = Sockets { steering: Steering::Cpu, ..Sockets::default() };
    let refused = Server::builder().config(Config { cpus: vec![], sockets, ..config() }).start().unwrap_err();
    assert!(matches!(&refused, StartError::Config(text) if text.contains("TIDEGATE_CPUS")), "{refused}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_says_nothing_is_not_accepted_until_it_speaks() {
    let sockets = Sockets { defer_accept_s: 30, ..Sockets::default() };
    let (server, address) = start(Config { workers: 1, sockets, ..config() }, |b| b);
    let mut mute = Client::connect(address);
    let mut other = Client::ready(address).0;
    other.assert_alive();
    assert_eq!(sum(&server, |s| &s.connections_accepted), 1, "it was first, and waits");
    mute.auth(b"");
    mute.assert_alive();
    assert_eq!(sum(&server, |s| &s.connections_accepted), 2);
    server.cut(); // and does not wait for those who have said nothing
}

#[cfg(target_os = "linux")]
#[test]
fn a_drain_lets_in_those_whom_the_kernel_keeps_waiting_and_tells_them() {
    let sockets = Sockets { defer_accept_s: 3, ..Sockets::default() };
    let (server, address) = start(Config { sockets, ..config() }, |b| b);
    // They take themselves for connected; for the server they are not there yet.
    let mut mute: Vec<Client> = (0..6).map(|_| Client::connect(address)).collect();
    let (mut served, _) = Client::ready(address);
    assert_eq!(sum(&server, |s| &s.connections_accepted), 1);
    server.drain();
    let mut speaks = mute.pop().unwrap();
    speaks.request(Command::AUTH, b"");
    for client in &mut mute {
        client.expect_end(0, ErrorCode::Draining);
    }
    let (frames, end) = speaks.rest();
    assert_eq!((frames[0].cmd, end), (Command::READY, Got::Eof), "{frames:?}");
    assert_eq!(served.rest().1, Got::Eof);
    drop((mute, speaks, served));
    let ledger = server.wait().ledger;
    assert!(ledger.clean(), "{ledger}");
    assert_eq!((ledger.connections, ledger.refused), (7, 5));
}
