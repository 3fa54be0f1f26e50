//! What the operator sets about sockets, and about a worker's way of turning.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::config::{Config, Core};
use tidegate::limits;
use tidegate::proto::{Command, ErrorCode, MAX_BODY, extension_type};
use tidegate::server::Server;

use crate::support::{Client, Latch, config, extension, on_worker, start, sum, until};

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
