//! Handlers: where they run, how they answer, and what happens when they do not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tidegate::config::{Config, Core};
use tidegate::proto::{Command, ErrorCode, Fallback, Trace, Version, extension_type as ty};
use tidegate::server::{Server, StartError};
use tidegate::service::{Deferred, Failure};

use crate::support::{Client, Latch, config, extension, start, sum, until};

const A: Command = Command(0x20);
const B: Command = Command(0x21);

#[test]
fn a_handler_answers_in_place_on_the_pool_or_later_from_any_thread() {
    let (sender, receiver) = mpsc::channel::<Deferred>();
    let sender = Mutex::new(sender);
    let (_server, address) = start(config(), |b| {
        b.route(0x20, |request, responder| responder.reply(&[request.payload(), b" in place"].concat()))
            .route_blocking(0x21, |request, responder| responder.reply(&[request.payload(), b" on the pool"].concat()))
            .route(0xFF, move |_, responder| {
                sender.lock().unwrap().send(responder.defer().unwrap()).unwrap();
            })
    });
    let (mut client, _) = Client::ready(address);
    assert_eq!(client.call(A, b"served"), b"served in place");
    assert_eq!(client.call(B, b"served"), b"served on the pool");
    let (first, second) = (client.request(Command(0xFF), b""), client.request(Command(0xFF), b""));
    let (one, two) = (receiver.recv().unwrap(), receiver.recv().unwrap());
    std::thread::spawn(move || two.reply("the second first")).join().unwrap();
    assert_eq!(client.expect_reply(second, Command(0xFF)), b"the second first");
    one.fail(Failure::new(ErrorCode::NotFound, "nothing here"));
    assert_eq!(client.expect_error(first), (ErrorCode::NotFound, 0, 0xFF));
}

#[test]
fn a_responder_dropped_without_an_answer_is_internal_and_counted() {
    let (server, address) = start(config(), |b| {
        b.route(0x20, |_, responder| drop(responder))
            .route_blocking(0x21, |_, responder| drop(responder))
            .route(0x22, |_, responder| drop(responder.defer()))
            .route(0x23, |_, responder| std::mem::forget(responder))
    });
    let (mut client, _) = Client::ready(address);
    for cmd in [0x20, 0x21, 0x22, 0x23] {
        assert_eq!(client.call_failing(Command(cmd), b""), ErrorCode::Internal, "{cmd:x}");
    }
    assert_eq!(sum(&server, |s| &s.responders_dropped), 4);
    client.assert_alive();
}

#[test]
fn a_handlers_panic_is_that_requests_internal_and_nothing_more() {
    let (server, address) = start(config(), |b| {
        b.route(0x20, |_, _responder| panic!("in place, as the test wants it"))
            .route_blocking(0x21, |_, _responder| panic!("on the pool, as the test wants it"))
            .route(0x22, |_, responder| {
                let _deferred = responder.defer();
                panic!("with a deferred in hand, as the test wants it");
            })
    });
    let (mut client, _) = Client::ready(address);
    for round in 1..=10 {
        let before = client.request(Command::ECHO, b"before");
        let panics: Vec<u32> = [0x20, 0x21, 0x22].map(|cmd| client.request(Command(cmd), b"")).to_vec();
        let after = client.request(Command::ECHO, b"after");
        let mut failed = Vec::new();
        let mut echoed = Vec::new();
        for _ in 0..5 {
            let reply = client.frame();
            if reply.cmd == Command::ERROR { failed.push(reply.seq) } else { echoed.push(reply.seq) }
        }
        failed.sort_unstable();
        assert_eq!((failed, echoed), (panics, vec![before, after]));
        assert!(sum(&server, |s| &s.handler_panics) >= 3 * round);
    }
    assert_eq!(sum(&server, |s| &s.worker_panics), 0);
}

#[test]
fn a_full_pool_is_overloaded_with_a_time_to_retry_after() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { pool_threads: 1, pool_queue: 1, ..config() };
    let (server, address) = start(config, |b| {
        b.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"done");
        })
    });
    let (mut client, _) = Client::ready(address);
    let running = client.request(A, b"");
    latch.wait_for(1);
    let queued = client.request(A, b"");
    let refused = client.request(A, b"");
    let (code, retry_after_ms, cmd) = client.expect_error(refused);
    assert!(code == ErrorCode::Overloaded && retry_after_ms > 0 && cmd == A.0);
    client.assert_alive();
    latch.open();
    assert_eq!(client.expect_reply(running, A), b"done");
    assert_eq!(client.expect_reply(queued, A), b"done");
    assert_eq!((latch.arrived(), sum(&server, |s| &s.overloaded)), (2, 1), "the refused one was not processed");
}

#[test]
fn a_worker_with_all_the_requests_in_flight_it_may_have_is_overloaded() {
    let (sender, receiver) = mpsc::channel::<Deferred>();
    let sender = Mutex::new(sender);
    let config = Config { workers: 1, core: Core { max_pending: 2, ..Core::default() }, ..config() };
    let (_server, address) = start(config, |b| {
        b.route(0x20, move |_, responder| {
            if let Some(deferred) = responder.defer() {
                sender.lock().unwrap().send(deferred).unwrap();
            }
        })
    });
    let (mut client, _) = Client::ready(address);
    let seqs = [client.request(A, b""), client.request(A, b""), client.request(A, b"")];
    assert_eq!(client.expect_error(seqs[2]).0, ErrorCode::Overloaded);
    for seq in &seqs[..2] {
        receiver.recv().unwrap().reply("");
        client.expect_reply(*seq, A);
    }
}

#[test]
fn the_deadline_is_answered_while_the_handler_still_runs_and_its_late_answer_is_discarded() {
    let latch = Latch::new();
    let held = latch.clone();
    let (cancelled_out, cancelled) = mpsc::channel();
    let cancelled_out = Mutex::new(cancelled_out);
    let (server, address) = start(config(), |b| {
        b.route_blocking(0x20, move |request, responder| {
            held.pass();
            cancelled_out.lock().unwrap().send(request.is_cancelled()).unwrap();
            responder.reply(b"too late");
        })
    });
    let (mut client, _) = Client::ready(address);
    let sent = Instant::now();
    let seq = client.request_v2(A, &extension(ty::DEADLINE, &60u32.to_be_bytes()), b"");
    assert_eq!(client.expect_error(seq).0, ErrorCode::DeadlineExceeded);
    assert!(sent.elapsed() >= Duration::from_millis(60), "never early");
    latch.open();
    assert_eq!(cancelled.recv(), Ok(true), "a handler can see that nobody waits any more");
    client.assert_alive();
    let patient = client.request_v2(A, &extension(ty::DEADLINE, &20_000u32.to_be_bytes()), b"");
    assert_eq!(client.expect_reply(patient, A), b"too late");
    assert_eq!((cancelled.recv(), sum(&server, |s| &s.in_flight)), (Ok(false), 0));
    server.drain();
    assert_eq!(client.rest().0.iter().filter(|r| r.cmd != Command::GOAWAY).count(), 0, "nothing comes twice");
    drop(client);
    assert!(server.wait().ledger.clean());
}

#[test]
fn a_late_answer_does_not_land_on_the_request_that_came_after() {
    let (first_latch, second_latch) = (Latch::new(), Latch::new());
    let held = [first_latch.clone(), second_latch.clone()];
    let (done_out, done) = mpsc::channel();
    let done_out = Mutex::new(done_out);
    let (_server, address) = start(config(), |b| {
        b.route_blocking(0x20, move |request, responder| {
            held[usize::from(request.payload()[0])].pass();
            responder.reply(request.payload());
            done_out.lock().unwrap().send(()).unwrap();
        })
    });
    let (mut client, _) = Client::ready(address);
    let first = client.request_v2(A, &extension(ty::DEADLINE, &50u32.to_be_bytes()), &[0]);
    assert_eq!(client.expect_error(first).0, ErrorCode::DeadlineExceeded);
    // Takes the place that the first has left.
    let second = client.request(A, &[1]);
    second_latch.wait_for(1);
    first_latch.open();
    done.recv().unwrap();
    client.assert_alive();
    second_latch.open();
    assert_eq!(client.expect_reply(second, A), [1]);
}

#[test]
fn requests_in_flight_are_bounded_and_whoever_pipelines_more_gets_all_answered() {
    const LIMIT: usize = 4;
    const REQUESTS: u32 = 200;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sender, receiver) = mpsc::channel::<(Deferred, u32)>();
    let sender = Mutex::new(sender);
    let (count, high) = (Arc::clone(&now), Arc::clone(&most));
    let (_server, address) = start(Config { max_in_flight: LIMIT as u16, ..config() }, |b| {
        b.route(0x20, move |request, responder| {
            high.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let number = u32::from_be_bytes(request.payload().try_into().unwrap());
            sender.lock().unwrap().send((responder.defer().unwrap(), number)).unwrap();
        })
    });
    let answering = std::thread::spawn(move || {
        for expected in 0..REQUESTS {
            let (deferred, number) = receiver.recv().unwrap();
            assert_eq!(number, expected, "in order, none left out");
            if expected == 0 {
                // All that may come have come before the first is answered: the bound is met.
                until("the limit is reached", || now.load(Ordering::SeqCst) == LIMIT);
            }
            now.fetch_sub(1, Ordering::SeqCst);
            deferred.reply(number.to_be_bytes());
        }
    });
    let (mut client, _) = Client::ready(address);
    let bytes: Vec<u8> = (0..REQUESTS).flat_map(|n| crate::support::frame(10 + n, A, &n.to_be_bytes())).collect();
    client.send(&bytes);
    for n in 0..REQUESTS {
        assert_eq!(client.expect_reply(10 + n, A), n.to_be_bytes());
    }
    answering.join().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), LIMIT);
}

#[test]
fn a_reply_that_does_not_fit_a_frame_is_internal() {
    let (_server, address) = start(config(), |b| {
        let size = |request: &tidegate::service::Request<'_>| vec![0; usize::from(request.payload()[0]) + 65_530];
        b.route(0x20, move |request, responder| responder.reply(&size(request)))
            .route_blocking(0x21, move |request, responder| responder.reply(&size(request)))
            .route(0x22, move |request, responder| responder.reply_from(Fallback::Cached, &size(request)))
    });
    let (mut client, _) = Client::ready(address);
    for cmd in [A, B] {
        assert_eq!(client.call(cmd, &[5]).len(), 65_535);
        assert_eq!(client.call_failing(cmd, &[6]), ErrorCode::Internal);
    }
    assert_eq!(client.call(Command(0x22), &[5]).len(), 65_535, "a plain reply has no extension to carry");
    let seq = client.request_v2(Command(0x22), &[], &[2]);
    assert_eq!(client.expect_error(seq).0, ErrorCode::Internal, "with its extension it does not fit");
    client.assert_alive();
}

#[test]
fn a_fallback_is_told_to_who_can_read_it_and_to_nobody_else() {
    let (_server, address) = start(config(), |b| {
        b.route(0x20, |_, responder| responder.reply_from(Fallback::Degraded, b"in place"))
            .route_blocking(0x21, |_, responder| responder.reply_from(Fallback::Cached, b"on the pool"))
    });
    let (mut client, _) = Client::ready(address);
    for (cmd, kind) in [(A, 3), (B, 1)] {
        let seq = client.request(cmd, b"");
        let plain = client.frame();
        assert_eq!((plain.seq, plain.version, plain.extensions.len()), (seq, Version::Plain, 0));
        let seq = client.request_v2(cmd, &[], b"");
        let extended = client.frame();
        assert_eq!((extended.seq, extended.version), (seq, Version::Extended));
        assert_eq!((extended.extensions, extended.payload), (vec![(ty::FALLBACK, vec![kind])], plain.payload));
    }
}

#[test]
fn a_handler_sees_principal_session_trace_key_and_deadline() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (in_place, on_pool) = (Arc::clone(&seen), Arc::clone(&seen));
    let note = |seen: &Mutex<Vec<_>>, r: &tidegate::service::Request<'_>| {
        let left = r.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let whose = (r.principal().to_string(), r.session());
        seen.lock().unwrap().push((whose, r.trace(), r.idempotency_key(), left, r.command(), r.payload().to_vec()));
    };
    let (_server, address) = start(config(), |b| {
        b.route(0x20, move |request, responder| {
            note(&in_place, request);
            responder.reply(b"");
        })
        .route_blocking(0x21, move |request, responder| {
            note(&on_pool, request);
            responder.reply(b"");
        })
    });
    let (mut client, ready) = Client::ready(address);
    let trace = Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
    let block = [
        extension(ty::TRACE, &trace.to_bytes()),
        extension(ty::IDEMPOTENCY, &[3; 16]),
        extension(ty::DEADLINE, &60_000u32.to_be_bytes()),
    ]
    .concat();
    for cmd in [A, B] {
        client.call(cmd, b"plain");
        let seq = client.request_v2(cmd, &block, b"extended");
        client.expect_reply(seq, cmd);
        let mut seen = seen.lock().unwrap();
        let (extended, plain) = (seen.pop().unwrap(), seen.pop().unwrap());
        let whose = (tidegate::auth::ANONYMOUS.to_owned(), ready.session);
        assert_eq!(plain, (whose.clone(), None, None, None, cmd, b"plain".to_vec()));
        let left = extended.3.unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
        assert_eq!((extended.0, extended.1, extended.2), (whose, Some(trace), Some([3; 16])));
        assert_eq!((extended.4, extended.5), (cmd, b"extended".to_vec()));
    }
}

#[test]
fn a_reserved_or_taken_command_is_a_wrong_configuration() {
    let refused = |first, second| {
        let builder = Server::builder().config(config());
        let builder = builder.route(first, |_, r| r.reply(b"")).route_blocking(second, |_, r| r.reply(b""));
        match builder.start().unwrap_err() {
            StartError::Config(text) => text,
            other => panic!("{other:?}"),
        }
    };
    for reserved in [0x00, 0x01, 0x10, 0x1F] {
        assert!(refused(0x20, reserved).contains("0x20 to 0xFF"));
    }
    assert!(refused(0x33, 0x33).contains("two handlers"));
}

#[test]
fn a_handler_can_not_send_an_error_that_would_end_the_connection() {
    let (_server, address) = start(config(), |b| {
        b.route(0x20, |_, responder| responder.fail(Failure::of(ErrorCode::Malformed)))
            .route(0x21, |_, responder| responder.fail(Failure::overloaded(Duration::from_millis(70))))
    });
    let (mut client, _) = Client::ready(address);
    assert_eq!(client.call_failing(A, b""), ErrorCode::Internal);
    let seq = client.request(B, b"");
    assert_eq!(client.expect_error(seq), (ErrorCode::Overloaded, 70, B.0));
}

#[test]
fn a_request_whose_client_has_gone_is_served_and_counted_as_undelivered() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, address) = start(config(), |b| {
        b.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"to nobody");
        })
    });
    let (mut client, _) = Client::ready(address);
    client.request(A, b"");
    latch.wait_for(1);
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until("the reset has come", || sum(&server, |s| &s.connections_open) == 0);
    latch.open();
    until("the handler is done", || sum(&server, |s| &s.in_flight) == 0);
    server.drain();
    let ledger = server.wait().ledger;
    assert!(ledger.balanced() && ledger.clean(), "{ledger}");
    assert_eq!((ledger.accepted, ledger.answered, ledger.undelivered), (2, 2, 1));
}
