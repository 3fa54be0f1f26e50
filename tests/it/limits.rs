//! What one client can take from the others, and from the machine.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tidegate::config::{Config, Core};
use tidegate::proto::{Command, ErrorCode, ErrorReply, GoAwayReason, GoAwayStage, MAX_BODY};

use crate::support::{Client, Got, Latch, PATIENCE, Persistent, Process, config, frame, get, pour, start, sum, until};

#[test]
fn a_slow_readers_output_is_bounded_and_then_it_is_cut_and_told() {
    let high = 64 * 1024;
    let config = Config {
        workers: 1,
        outbound_low: 1_024,
        outbound_high: high,
        outbound_max: 1 << 20,
        slow_consumer: Duration::from_secs(5),
        linger: Duration::from_secs(10),
        ..config()
    };
    let (server, address) = start(config, |b| b);
    let (mut slow, _) = Client::ready(address);
    let (mut neighbour, _) = Client::ready(address);
    pour(&slow, 4_087);
    // Read and answered, but not yet taken by the kernel: the server holds no more than it may.
    let answered = sum(&server, |s| &s.answered) - 2;
    let held = answered * 4_096 - (sum(&server, |s| &s.bytes_out) - 2 * 38);
    assert!(held > 0 && held <= (high + 4_096) as u64, "{held} bytes are held");
    neighbour.assert_alive();
    until("it is cut", || sum(&server, |s| &s.connections_cut) == 1);
    // Reading at last, it gets whole frames, why, and an orderly end.
    let (frames, end) = slow.rest();
    let last = frames.last().unwrap();
    assert_eq!((last.cmd, last.seq, end), (Command::ERROR, 0, Got::Eof));
    assert_eq!(ErrorReply::parse(&last.payload).unwrap().known_code(), Some(ErrorCode::SlowConsumer));
    assert!(frames.len() as u64 <= answered + 1);
    neighbour.assert_alive();
}

#[test]
fn a_slow_reader_that_reads_on_in_time_gets_everything() {
    let config = Config { workers: 1, outbound_low: 1_024, outbound_high: 64 * 1024, ..config() };
    let (_server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    let mut writer = client.stream.try_clone().unwrap();
    let payload = vec![5; 16_000];
    let sent = payload.clone();
    let writing = std::thread::spawn(move || {
        for seq in 2..1_502 {
            writer.write_all(&frame(seq, Command::ECHO, &sent)).unwrap();
        }
    });
    for seq in 2..1_502 {
        assert_eq!(client.expect_reply(seq, Command::ECHO), payload);
    }
    writing.join().unwrap();
}

#[test]
fn neighbours_replies_keep_flowing_while_one_connection_pours_megabytes() {
    const NEIGHBOURS: usize = 8;
    const ROUND_TRIPS: u64 = 25;
    const POURED: u64 = 64 << 20;
    const QUICKLY: u64 = 1_000 * 60_009;
    let config = Config { workers: 1, core: Core { read_budget: 64 * 1024, ..Core::default() }, ..config() };
    // Some work for each request, so that the server and not the client is the one to wait for.
    let (server, address) = start(config, |b| {
        b.route(0x20, |request, responder| {
            let sum = request.payload()[..100].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            responder.reply(&[sum]);
        })
        .route(0x21, |_, responder| responder.reply(b""))
    });
    let done = Arc::new(AtomicBool::new(false));
    let poured = Arc::new(AtomicU64::new(0));
    let (noisy, _) = Client::ready(address);
    let mut drain = noisy.stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while drain.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    let (stop, count, mut stream) = (Arc::clone(&done), Arc::clone(&poured), noisy.stream.try_clone().unwrap());
    let pouring = std::thread::spawn(move || {
        let mut seq = 1u32;
        // Quickly served at first, until the kernel holds megabytes for it. Then a read never finds
        // the socket empty.
        for _ in 0..1_000 {
            seq += 1;
            stream.write_all(&frame(seq, Command(0x21), &[7; 60_000])).unwrap();
            count.fetch_add(60_009, Ordering::Relaxed);
        }
        // It ends only when all neighbours have been served.
        while !stop.load(Ordering::Relaxed) {
            let mut batch = Vec::new();
            for _ in 0..256 {
                seq += 1;
                batch.extend(frame(seq, Command(0x20), &[7; 1_015]));
            }
            stream.write_all(&batch).unwrap();
            count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    });
    let mut neighbours: Vec<Client> = (0..NEIGHBOURS).map(|_| Client::ready(address).0).collect();
    let mut round_trips = 0;
    while round_trips < ROUND_TRIPS || poured.load(Ordering::Relaxed) < POURED {
        let seqs: Vec<u32> = neighbours.iter_mut().map(|n| n.request(Command::ECHO, b"still there?")).collect();
        for (neighbour, seq) in neighbours.iter_mut().zip(seqs) {
            neighbour.expect_reply(seq, Command::ECHO);
        }
        round_trips += u64::from(poured.load(Ordering::Relaxed) > QUICKLY);
    }
    assert!(sum(&server, |s| &s.bytes_in) > POURED / 2, "it was served meanwhile");
    done.store(true, Ordering::Relaxed);
    pouring.join().unwrap();
    drop(neighbours);
    noisy.half_close();
    reading.join().unwrap();
}

#[test]
fn connections_over_the_cores_limit_are_told_and_closed_in_good_order_until_others_leave() {
    let (server, address) =
        start(Config { workers: 1, core: Core { max_connections: 3, ..Core::default() }, ..config() }, |b| b);
    let mut served: Vec<Client> = (0..3).map(|_| Client::ready(address).0).collect();
    for _ in 0..5 {
        let mut refused = Client::connect(address);
        refused.send(&frame(1, Command::AUTH, b""));
        let (code, retry_after_ms, cmd) = refused.expect_error(0);
        assert!(code == ErrorCode::Overloaded && retry_after_ms > 0 && cmd == 0);
        refused.expect_eof();
    }
    served.iter_mut().for_each(Client::assert_alive);
    assert_eq!(sum(&server, |s| &s.connections_refused), 5);
    served.pop();
    until("those over the limit are closed", || sum(&server, |s| &s.connections_open) == 2);
    Client::ready(address).0.assert_alive();
    server.drain();
    served.clear();
    let ledger = server.wait().ledger;
    assert!(ledger.clean(), "{ledger}");
    assert_eq!((ledger.connections, ledger.refused, ledger.accepted), (9, 5, 8));
}

#[test]
fn out_of_descriptors_the_served_are_served_and_the_waiting_get_in_when_others_leave() {
    let settings = [("WORKERS", "1"), ("LOG", "warn")];
    let process = Process::start(Process::command_with_open_files(40), &settings);
    // Connected while there is room: later the admin port can accept nobody either.
    let mut operator = Persistent::connect(process.admin);
    assert_eq!(operator.get("/readyz").0, 200);
    let mut clients: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = Client::connect(process.address);
            client.request(Command::AUTH, b"");
            client
        })
        .collect();
    // In the order of their coming: the first ones are in.
    let mut inside = 0;
    for client in &mut clients {
        client.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if client.stream.peek(&mut [0]).is_err() {
            break;
        }
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.expect_ready(1);
        inside += 1;
    }
    assert!((5..40).contains(&inside), "{inside} are in");
    clients[..inside].iter_mut().for_each(Client::assert_alive);
    until("it is not ready", || operator.get("/readyz").0 == 503);
    let why = operator.get("/readyz").1;
    assert!(why.starts_with("worker 0 accepts nobody for now") || why == "ready\n", "between two pauses: {why}");
    // All leave, one after the other, and everybody gets in.
    for (at, client) in clients.iter_mut().enumerate() {
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if at >= inside {
            client.expect_ready(1);
        }
        client.assert_alive();
        client.half_close();
        client.expect_eof();
    }
    until("it is ready again", || get(process.admin, "/readyz").0 == 200);
    process.signal(Signal::TERM);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stderr.contains("accepting pauses"), "{}", exit.stderr);
}

#[test]
fn a_drain_out_of_descriptors_still_tells_those_who_are_in() {
    let settings = [("WORKERS", "1"), ("DRAIN_NOTICE_MS", "20"), ("DRAIN_TIMEOUT_MS", "8000")];
    let process = Process::start(Process::command_with_open_files(40), &settings);
    let mut clients: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = Client::connect(process.address);
            client.request(Command::AUTH, b"");
            client
        })
        .collect();
    clients[0].expect_ready(1);
    process.signal(Signal::TERM);
    clients[0].expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    clients[0].expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    for mut client in clients {
        let (frames, end) = client.rest();
        assert_eq!(end, Got::Eof, "after {frames:?}");
    }
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn a_reader_in_time_is_not_cut_for_many_large_replies_at_once() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { workers: 1, pool_threads: 64, ..config() };
    let (_server, address) = start(config, |b| {
        b.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(&[1; MAX_BODY]);
        })
    });
    let (mut client, _) = Client::ready(address);
    let seqs: Vec<u32> = (0..64).map(|_| client.request(Command(0x20), b"")).collect();
    latch.wait_for(64);
    latch.open();
    let mut answered: Vec<u32> = (0..64)
        .map(|_| client.frame())
        .map(|r| {
            assert_eq!(r.cmd, Command(0x20));
            r.seq
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, seqs);
}
