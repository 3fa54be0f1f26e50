//! The client library against real servers that are restarted under it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate::client::{CallOptions, Client, ClientOptions};
use tidegate::proto::Command;
use tidegate::server::{Builder, Server};

use crate::support::{config, start, until};

/// A command of the application's own that is not idempotent: it adds up what it was sent.
const ADD: u8 = 0x20;

fn adding(total: &Arc<AtomicU64>) -> impl Fn(Builder) -> Builder {
    let total = Arc::clone(total);
    move |builder| {
        let total = Arc::clone(&total);
        builder.route_blocking(ADD, move |request, responder| {
            total.fetch_add(request.payload().len() as u64, Ordering::SeqCst);
            responder.reply(request.payload());
        })
    }
}

/// Callers that call until they are told to stop; each fails at the first error.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
    client: Client,
}

impl Callers {
    fn start(address: SocketAddr) -> Callers {
        let client = Client::connect(ClientOptions {
            deadline: Duration::from_secs(20),
            backoff_max: Duration::from_millis(100),
            ..ClientOptions::new([address.to_string()])
        })
        .unwrap();
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..4)
            .map(|_| {
                let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || {
                    let mut calls = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let options = CallOptions { idempotent: Some(false), ..CallOptions::default() };
                        client.call_with(Command(ADD), b"1", &options).unwrap();
                        client.echo(b"hello").unwrap();
                        calls += 1;
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    calls
                })
            })
            .collect();
        Callers { stop, answered, threads, client }
    }

    /// Waits for this many more calls.
    fn go_on(&self, more: u64) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        until("calls are answered", || self.answered.load(Ordering::SeqCst) >= goal);
    }

    fn stop(self) -> (u64, Client) {
        self.stop.store(true, Ordering::SeqCst);
        (self.threads.into_iter().map(|thread| thread.join().unwrap()).sum(), self.client)
    }
}

fn on(address: SocketAddr, total: &Arc<AtomicU64>) -> Server {
    let mut config = config();
    config.listen = vec![address];
    config.drain_notice = Duration::from_millis(300);
    adding(total)(Server::builder().config(config)).start().unwrap()
}

#[test]
fn callers_see_a_hand_over_to_a_new_server_as_latency_and_no_call_is_done_twice() {
    let total = Arc::new(AtomicU64::new(0));
    let first = on("127.0.0.1:0".parse().unwrap(), &total);
    let address = first.local_addrs()[0];
    let callers = Callers::start(address);
    callers.go_on(50);
    let mut running = first;
    for _ in 0..3 {
        let next = on(address, &total);
        running.drain();
        let ended = running.wait();
        assert!(ended.ledger.clean(), "{}", ended.ledger);
        callers.go_on(50);
        running = next;
    }
    let (calls, client) = callers.stop();
    assert_eq!(calls, total.load(Ordering::SeqCst), "each call done once, and none of them twice");
    client.close().unwrap();
}

#[test]
fn callers_see_a_restart_with_nobody_there_for_a_while_as_latency() {
    let total = Arc::new(AtomicU64::new(0));
    let first = on("127.0.0.1:0".parse().unwrap(), &total);
    let address = first.local_addrs()[0];
    let callers = Callers::start(address);
    callers.go_on(50);
    first.drain();
    let ended = first.wait();
    assert!(ended.ledger.clean(), "{}", ended.ledger);
    let second = on(address, &total);
    callers.go_on(50);
    let (calls, client) = callers.stop();
    assert_eq!(calls, total.load(Ordering::SeqCst), "each call done once, and none of them twice");
    assert!(client.stats().reconnects >= 1);
    client.close().unwrap();
    second.drain();
    assert!(second.wait().ledger.clean());
}

#[test]
fn a_resumed_session_keeps_its_state_across_connections_of_the_client() {
    let (_server, address) = start(config(), |b| b);
    let client = Client::connect(ClientOptions::new([address.to_string()])).unwrap();
    client.session_put(b"k", b"v").unwrap();
    let session = client.session_id();
    client.close().unwrap();
    let again =
        Client::connect(ClientOptions { session: Some(session), ..ClientOptions::new([address.to_string()]) }).unwrap();
    assert!(again.resumed());
    assert_eq!(again.session_get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    again.bye().unwrap();
}
