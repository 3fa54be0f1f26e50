//! What an operator is shown and may do, and who is none.

use super::*;
use crate::conn::View;
use crate::reactor::ConnectionInfo;

fn info(connection: u64, principal: &str) -> ConnectionInfo {
    ConnectionInfo {
        connection,
        session: crate::hex::unhex(SESSION),
        principal: Some(principal.to_owned()),
        peer: Some("192.0.2.7:5512".parse().unwrap()),
        view: View {
            state: "ready",
            idle_ms: 1_500,
            in_flight: 2,
            queued: 3,
            unparsed: 4,
            heartbeat_ms: 30_000,
            noticed: false,
            paused: true,
        },
    }
}

fn body(reply: &Reply) -> serde_json::Value {
    assert!(reply.head.contains("\r\ncontent-type: application/json\r\n"), "{}", reply.head);
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn status_shows_every_stat_of_every_worker_and_their_sums() {
    let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerStats::default())).collect();
    workers[0].accepted.add(40);
    workers[1].accepted.add(2);
    let admin = run(Fake { workers: workers.clone(), ..Fake::default() });
    *admin.fake.not_ready.lock().unwrap() = Some("draining".to_owned());
    let status = body(&admin.get("/status"));
    assert_eq!((&status["service_id"], &status["listen"][0]), (&"a\"b".into(), &"127.0.0.1:7400".into()));
    assert_eq!((&status["ready"]["ok"], &status["ready"]["why"]), (&false.into(), &"draining".into()));
    assert_eq!((&status["healthy"]["ok"], &status["healthy"]["why"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(status["started"], "1970-01-01T00:00:00.000Z");
    assert_eq!((&status["totals"]["accepted"], &status["workers"][1]["stats"]["accepted"]), (&42.into(), &2.into()));
    for (name, ..) in workers[0].each() {
        assert!(status["totals"][name].is_u64() && status["workers"][0]["stats"][name].is_u64(), "{name}");
    }
}

#[test]
fn connections_are_listed_by_worker_with_what_is_known_of_them() {
    let part = |connections| ListPart { connections, truncated: false };
    let lists = vec![(1, part(vec![info(0x1_0000_0002, "b")])), (0, part(vec![info(7, "<a>")]))];
    let admin = run(Fake { lists, ..Fake::default() });
    let list = body(&admin.get("/connections?principal=%3Ca%3E&limit=9"));
    assert_eq!(admin.fake.noted(), ["list Some(\"<a>\") 9"]);
    assert_eq!((&list["complete"], &list["truncated"]), (&true.into(), &false.into()));
    assert_eq!(list["silent_workers"], serde_json::json!([]));
    let row = serde_json::json!({
        "worker": 0, "connection": "7", "session": SESSION, "principal": "<a>", "peer": "192.0.2.7:5512",
        "state": "ready", "idle_s": 1.5, "in_flight": 2, "queued_bytes": 3, "unparsed_bytes": 4,
        "heartbeat_ms": 30000, "noticed": false, "paused": true,
    });
    assert_eq!(list["connections"][0], row);
    assert_eq!(list["connections"][1]["connection"], "100000002");
}

#[test]
fn a_list_says_what_is_missing() {
    let truncated = vec![(0, ListPart { connections: vec![info(1, "a")], truncated: true })];
    let list = body(&run(Fake { lists: truncated.clone(), ..Fake::default() }).get("/connections"));
    assert_eq!((&list["complete"], &list["truncated"]), (&false.into(), &true.into()));
    let moment = std::time::Duration::from_millis(1);
    let admin = run_with(Fake { lists: truncated, silent: vec![3], ..Fake::default() }, |patience| {
        patience.inquiry = moment;
    });
    let list = body(&admin.get("/connections"));
    assert_eq!(list["complete"], false);
    assert!(list["silent_workers"].as_array().unwrap().contains(&3.into()), "{list}");
}

#[test]
fn lists_that_take_long_keep_nobody_waiting_and_are_no_more_than_a_few_at_a_time() {
    let admin = run_with(Fake { silent: vec![3], ..Fake::default() }, |patience| {
        patience.inquiry = std::time::Duration::from_secs(3600);
        patience.begun = std::time::Duration::from_secs(3600);
    });
    let waiting: Vec<TcpStream> = (0..4)
        .map(|asked| {
            let stream = admin.send("GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
            while admin.fake.noted().len() == asked {
                std::thread::yield_now();
            }
            stream
        })
        .collect();
    assert_eq!(admin.get("/healthz").status, 200);
    let refused = admin.get("/connections");
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("\r\nretry-after: 1"), "{}", refused.head);
    drop(waiting);
}

#[test]
fn wrong_questions_are_answered_with_what_would_be_right() {
    let admin = run(Fake::default());
    for (target, word) in [
        ("/connections?limit=x", "limit: "),
        ("/connections?principal=%ff", "principal: "),
        ("/connections?%zz", "no others"),
    ] {
        let reply = admin.get(target);
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(word), "{}", reply.body);
    }
    for session in ["", "0", &SESSION[1..], &format!("{SESSION}0"), &SESSION.replace('0', "g"), "%30", "../status"] {
        assert_eq!(admin.ask("POST", &format!("/disconnect/{session}"), "").status, 400, "{session}");
    }
    assert!(admin.fake.noted().is_empty());
}

#[test]
fn a_disconnection_names_whom_it_met_and_is_recorded_once() {
    let gone = Disconnected { info: info(7, "a"), was_leaving: false };
    let admin = run(Fake { gone: Some(gone.clone()), ..Fake::default() });
    let reply = admin.ask("POST", &format!("/disconnect/{}", SESSION.to_uppercase()), "");
    assert_eq!(reply.status, 202);
    let page = body(&reply);
    assert_eq!((&page["told"], &page["principal"], &page["worker"]), (&true.into(), &"a".into(), &1.into()));
    assert_eq!(admin.fake.noted(), [format!("disconnect {SESSION}"), "recorded 1 127.0.0.1".to_owned()]);
    let leaving = run(Fake { gone: Some(Disconnected { was_leaving: true, ..gone }), ..Fake::default() });
    assert_eq!(body(&leaving.ask("POST", &format!("/disconnect/{SESSION}"), ""))["told"], false);
    assert_eq!(leaving.fake.noted().len(), 1, "nothing was done, and nothing is recorded");
    let nobody = run(Fake::default());
    assert_eq!(nobody.ask("POST", &format!("/disconnect/{SESSION}"), "").status, 404);
}

#[test]
fn the_operators_routes_want_the_token_and_the_probes_do_not() {
    let admin = run(Fake { token: Some(TOKEN), bound_to: Some("0.0.0.0:0"), ..Fake::default() });
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for (method, target, good) in [("GET", "/status", 200), ("GET", "/connections", 200), ("POST", "/drain", 202)] {
        let refused = admin.ask(method, target, "Authorization: Bearer wrong\r\n");
        assert_eq!(refused.status, 401);
        assert!(refused.head.contains("\r\nwww-authenticate: bearer "), "{}", refused.head);
        assert_eq!(admin.ask(method, target, &right).status, good, "{target}");
    }
    for open in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(admin.get(open).status, 200, "{open}");
    }
    let without = run(Fake { bound_to: Some("0.0.0.0:0"), ..Fake::default() });
    for (method, target) in
        [("GET", "/"), ("GET", "/status"), ("GET", "/connections"), ("POST", "/drain"), ("POST", "/reload")]
    {
        let refused = without.ask(method, target, &right);
        assert_eq!(refused.status, 403);
        assert!(refused.body.contains("TIDEGATE_ADMIN_TOKEN_FILE"), "{}", refused.body);
    }
    assert_eq!(without.fake.drains.load(Ordering::SeqCst), 0);
    assert_eq!(without.get("/healthz").status, 200);
}

#[test]
fn every_answer_tells_browsers_to_keep_frame_and_load_nothing() {
    let admin = run(Fake::default());
    let wanted = [
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
    ];
    for target in ["/", "/healthz", "/status", "/metrics", "/connections", "/nowhere"] {
        let head = admin.get(target).head;
        assert!(wanted.iter().all(|header| head.contains(&format!("\r\n{header}"))), "{head}");
        assert_eq!(head.matches("content-security-policy: default-src 'none'; ").count(), 1, "{head}");
        assert!(head.contains("frame-ancestors 'none'"), "{head}");
    }
}

#[test]
fn the_page_runs_and_applies_only_what_carries_its_nonce() {
    let admin = run(Fake::default());
    let nonces = [0, 1].map(|_| {
        let page = admin.get("/");
        assert_eq!(page.status, 200);
        let nonce = page.head.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let carried = page.body.matches(&format!("nonce=\"{nonce}\"")).count();
        let tags = page.body.matches("<script").count() + page.body.matches("<style").count();
        assert_eq!((carried, tags, page.body.matches("@nonce@").count()), (2, 2, 0));
        for outside in ["http://", "https://", "//cdn", "innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            let allowed = page.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(outside), "{outside}");
        }
        nonce
    });
    assert_ne!(nonces[0], nonces[1]);
}
