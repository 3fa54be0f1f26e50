use super::*;

const LIMITS: SessionLimits = SessionLimits { sessions: 4, state: StateLimits { entries: 4, bytes: 64 }, ttl_s: 60 };
const A: Owner = Owner { worker: 0, token: 11 };
const B: Owner = Owner { worker: 1, token: 12 };

fn table() -> (Sessions, &'static str) {
    (Sessions::new(0, IdKey::new(), LIMITS), "alice")
}

fn secret(n: u8) -> Secret {
    [n; SECRET_LEN]
}

#[test]
fn a_session_is_resumed_with_its_state_until_its_ttl_has_run_out() {
    let (mut sessions, alice) = table();
    let key = sessions.create(alice, A, secret(1)).unwrap();
    let id = sessions.id(key);
    sessions.put(key, b"k", b"v").unwrap();
    sessions.release(key, A, 100);
    assert_eq!(sessions.sweep(159, 10), 0);
    assert_eq!(sessions.claim(&id, "alice", B, 159), Claim::Granted { key, previous: None });
    assert_eq!(sessions.get(key, b"k"), Some(&b"v"[..]));
    assert_eq!(sessions.sweep(1_000, 10), 0, "connected again: it does not end");
    sessions.release(key, B, 1_000);
    assert_eq!(sessions.claim(&id, "alice", A, 1_060), Claim::Unknown, "ended, though not yet swept");
    assert_eq!(sessions.sweep(1_060, 10), 1);
    assert_eq!((sessions.len(), sessions.find(&id)), (0, None));
}

#[test]
fn the_newer_connection_wins_and_the_older_is_named() {
    let (mut sessions, alice) = table();
    let key = sessions.create(alice, A, secret(1)).unwrap();
    let id = sessions.id(key);
    assert_eq!(sessions.claim(&id, "alice", B, 0), Claim::Granted { key, previous: Some(A) });
    sessions.release(key, A, 0);
    assert_eq!(sessions.owner(key), Some(B), "the older one's end does not touch it");
    sessions.end(key, A);
    assert_eq!(sessions.len(), 1, "nor does its BYE");
}

#[test]
fn a_foreign_or_unknown_id_gives_nothing() {
    let (mut sessions, alice) = table();
    let key = sessions.create(alice, A, secret(1)).unwrap();
    let id = sessions.id(key);
    assert_eq!(sessions.claim(&id, "bob", B, 0), Claim::Unknown);
    assert_eq!(sessions.claim(&[0; 16], "alice", B, 0), Claim::Unknown);
    let mut guess = id;
    guess[15] ^= 1;
    assert_eq!(sessions.claim(&guess, "alice", B, 0), Claim::Unknown);
    sessions.end(key, A);
    sessions.create(alice, A, secret(2)).unwrap();
    assert_eq!(sessions.claim(&id, "alice", B, 0), Claim::Unknown, "the slot's next session has another secret");
}

#[test]
fn a_full_table_forgets_only_what_holds_nothing_and_has_no_connection() {
    let (mut sessions, alice) = table();
    let keys: Vec<_> = (0..4).map(|n| sessions.create(alice, A, secret(n)).unwrap()).collect();
    assert_eq!(sessions.create(alice, A, secret(9)), Err(SessionsFull), "all are connected");
    sessions.put(keys[0], b"k", b"v").unwrap();
    sessions.release(keys[0], A, 0);
    assert_eq!(sessions.create(alice, A, secret(9)), Err(SessionsFull), "its state was acknowledged");
    sessions.release(keys[1], A, 1);
    assert!(sessions.create(alice, A, secret(9)).is_ok());
    assert_eq!((sessions.len(), sessions.get(keys[0], b"k")), (4, Some(&b"v"[..])));
}

#[test]
fn the_sweep_keeps_to_its_budget() {
    let (mut sessions, alice) = table();
    for n in 0..4 {
        let key = sessions.create(alice, A, secret(n)).unwrap();
        sessions.release(key, A, 0);
    }
    assert_eq!(sessions.next_end(), Some(60));
    assert_eq!((sessions.sweep(60, 3), sessions.len()), (3, 1));
    assert_eq!((sessions.sweep(60, 3), sessions.len()), (1, 0));
}

#[test]
fn coming_and_going_does_not_grow_the_queue_of_leaving_sessions() {
    let (mut sessions, alice) = table();
    let key = sessions.create(alice, A, secret(1)).unwrap();
    let id = sessions.id(key);
    for _ in 0..10_000 {
        sessions.release(key, A, 0);
        assert!(matches!(sessions.claim(&id, "alice", A, 0), Claim::Granted { .. }));
    }
    assert!(sessions.leaving.len() <= 1_100, "{} entries", sessions.leaving.len());
}

#[test]
fn a_lost_worker_frees_its_connections_sessions_and_no_others() {
    let (mut sessions, alice) = table();
    let on_a = sessions.create(alice, A, secret(1)).unwrap();
    let on_b = sessions.create(alice, B, secret(2)).unwrap();
    sessions.release_all_of(1, 0);
    assert_eq!((sessions.owner(on_a), sessions.owner(on_b)), (Some(A), None));
    assert_eq!(sessions.sweep(60, 10), 1);
}

#[test]
fn emptied_state_takes_no_room() {
    let (mut sessions, alice) = table();
    let key = sessions.create(alice, A, secret(1)).unwrap();
    sessions.put(key, b"k", b"v").unwrap();
    sessions.delete(key, b"k");
    assert!(sessions.states.is_empty());
    assert_eq!(sessions.put(key, b"k", &[0; 100]), Err(StateFull::Bytes));
    assert!(sessions.states.is_empty(), "a refused put leaves nothing behind");
}

#[test]
fn secrets_differ_and_a_dead_source_is_noticed() {
    let mut secrets = Secrets::new(|bytes| getrandom::fill(bytes).is_ok());
    let all: std::collections::HashSet<Secret> = (0..1_000).filter_map(|_| secrets.draw()).collect();
    assert_eq!(all.len(), 1_000);
    assert_eq!(Secrets::new(|_| false).draw(), None);
}

#[test]
fn a_table_with_a_store_notes_each_session_once_until_it_is_taken() {
    let (mut sessions, alice) = table();
    let before = sessions.create(alice, A, secret(0)).unwrap();
    sessions.keep(true);
    assert_eq!((sessions.next_changed(), sessions.next_changed(), sessions.unsaved()), (Some(before), None, 1));
    sessions.end(before, A);
    let key = sessions.create(alice, A, secret(1)).unwrap();
    for _ in 0..3 {
        sessions.release(key, A, 0);
        sessions.note_change(key);
        assert!(matches!(sessions.claim(&sessions.id(key), alice, A, 0), Claim::Granted { .. }));
    }
    assert_eq!((sessions.next_changed(), sessions.next_changed()), (Some(key), None));
    assert!(sessions.take_touch(key) && !sessions.take_touch(key));
    assert_eq!((sessions.unsaved(), sessions.is_saved(key)), (1, false));
    sessions.set_saved(key, true);
    sessions.set_saved(key, true);
    assert_eq!((sessions.unsaved(), sessions.is_saved(key)), (0, true));
    let id = sessions.id(key);
    sessions.end(key, A);
    let ended = sessions.take_ended();
    assert_eq!(ended[1..], [Ended { key, id, fence: 1, stored: true }]);
    assert!(!sessions.has_ended() && !sessions.has_changed());
}

#[test]
fn an_adopted_session_is_found_by_its_id_alone_and_leaves_nothing_behind() {
    let (mut sessions, alice) = table();
    sessions.keep(false);
    let native = sessions.create(alice, A, secret(1)).unwrap();
    let id = [9; 16];
    let pairs: store::Pairs = vec![(b"k".as_slice().into(), vec![0; 500].into())];
    let key = sessions.adopt(&id, alice, 7, pairs, 0).unwrap();
    assert_eq!((sessions.find(&id), sessions.id(key), sessions.fence(key)), (Some(key), id, 7));
    assert_eq!((sessions.fence(native), sessions.find(&sessions.id(native))), (1, Some(native)));
    assert_eq!(sessions.get(key, b"k").map(<[u8]>::len), Some(500), "what was acknowledged is not measured");
    assert_eq!((sessions.end_s(key), sessions.is_saved(key), sessions.unsaved()), (Some(60), true, 1));
    assert!(matches!(sessions.claim(&id, "bob", B, 0), Claim::Unknown));
    assert!(matches!(sessions.claim(&id, alice, B, 0), Claim::Granted { .. }));
    sessions.release(key, B, 0);
    assert_eq!(sessions.sweep(60, 10), 1);
    assert_eq!(sessions.find(&id), None);
    assert_eq!(sessions.take_ended(), [Ended { key, id, fence: 7, stored: true }]);
    // The slot's next session has an id that leads to it.
    let next = sessions.create(alice, A, secret(2)).unwrap();
    assert_eq!((next, sessions.find(&sessions.id(next)), sessions.fence(next)), (key, Some(next), 1));
}

#[test]
fn sessions_that_come_and_go_while_nothing_is_taken_do_not_pile_up() {
    let (mut sessions, alice) = table();
    sessions.keep(true);
    for _ in 0..10_000 {
        let key = sessions.create(alice, A, secret(1)).unwrap();
        sessions.end(key, A);
        sessions.take_ended();
    }
    let last = sessions.create(alice, A, secret(1)).unwrap();
    assert!(sessions.noted() <= 1_100, "{} entries", sessions.noted());
    assert_eq!((sessions.next_changed(), sessions.next_changed()), (Some(last), None));
}
