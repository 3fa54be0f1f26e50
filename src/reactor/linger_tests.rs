//! What a connection owes a peer that reads slowly, after the last word.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use crate::config::Config;
use crate::proto::{Command, FrameDecoder, MAX_BODY, encode};
use crate::server::Server;

const REQUESTS: u32 = 64;

fn config() -> Config {
    let mut config = Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        workers: 1,
        linger: Duration::from_millis(1),
        drain_notice: Duration::from_millis(1),
        ..Config::default()
    };
    #[cfg(feature = "admin")]
    {
        config.admin = None;
    }
    config.drain_timeout = Duration::from_secs(60);
    config
}

/// A client that has asked for 256 KiB, has room for a fraction of it, and has read nothing.
fn deaf_client(server: &Server) -> TcpStream {
    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    let mut out = Vec::new();
    assert!(encode(&mut out, 1, Command::AUTH, &[]));
    for n in 0..REQUESTS {
        assert!(encode(&mut out, 2 + n, Command::ECHO, &[7; 4096]));
    }
    client.write_all(&out).unwrap();
    client
}

/// Takes some of what it is sent, a little at a time, until there is an end or a reset.
fn drip(mut client: TcpStream) {
    let mut piece = [0; 1024];
    while client.read(&mut piece).is_ok_and(|n| n > 0) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_reader_that_goes_on_sending_gets_all_its_replies_after_the_linger_time() {
    let server = Server::builder().config(config()).start().unwrap();
    let mut client = deaf_client(&server);
    let stats = server.stats()[0].clone();
    wait_until("answers", || stats.answered.get() == u64::from(REQUESTS) + 1);
    server.drain();
    // The linger time passes many times over, each with a tick of its own.
    let (ticks, gone) = (stats.ticks.get(), || stats.connections_open.get() == 0);
    wait_until("the linger time to pass", || stats.ticks.get() > ticks + 20 || gone());
    let (mut decoder, mut replies, mut piece) = (FrameDecoder::new(MAX_BODY), 0, [0; 16 * 1024]);
    let mut beyond = 10_000;
    loop {
        let n = client.read(&mut piece).expect("an end, and no reset");
        if n == 0 {
            break;
        }
        let mut input = &piece[..n];
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            replies += u32::from(frame.cmd == Command::ECHO);
        }
        decoder.keep(&mut input);
        // It has not come to the GOAWAY yet.
        let mut more = Vec::new();
        assert!(encode(&mut more, beyond, Command::ECHO, b"more"));
        beyond += 1;
        client.write_all(&more).unwrap();
    }
    drop(client);
    let ended = server.wait();
    assert_eq!((replies, ended.exit_code()), (REQUESTS, 0), "{}", ended.ledger);
}

#[test]
fn a_reader_that_takes_nothing_more_is_cut_and_the_ledger_says_so() {
    let config = Config { slow_consumer: Duration::from_millis(50), ..config() };
    let server = Server::builder().config(config).start().unwrap();
    let client = deaf_client(&server);
    let stats = server.stats()[0].clone();
    wait_until("answers", || stats.answered.get() == u64::from(REQUESTS) + 1);
    server.drain();
    let ended = server.wait();
    drop(client);
    assert_eq!((ended.ledger.connections_cut, ended.exit_code()), (1, 3), "{}", ended.ledger);
    assert!(ended.ledger.balanced() && ended.ledger.bytes_unacked > 0, "{}", ended.ledger);
}

#[test]
fn a_reader_that_takes_its_output_by_drops_is_cut_when_that_is_too_old() {
    let (still, old) = (Duration::from_secs(30), Duration::from_millis(200));
    let config = Config { slow_consumer: still, outbound_age: old, ..config() };
    let server = Server::builder().config(config).start().unwrap();
    let client = deaf_client(&server);
    let stats = server.stats()[0].clone();
    wait_until("answers", || stats.answered.get() == u64::from(REQUESTS) + 1);
    server.drain();
    let dripping = std::thread::spawn(move || drip(client));
    let ended = server.wait();
    dripping.join().unwrap();
    assert_eq!((ended.ledger.connections_cut, ended.exit_code()), (1, 3), "{}", ended.ledger);
}
