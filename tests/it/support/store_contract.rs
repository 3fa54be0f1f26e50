//! What every session store has to do, whatever is behind it.

use tidegate::session::store::{Pairs, SessionStore, StoreKey, Stored, Wanted, Write, WriteOp, Written};

const NOW: u64 = 1_000_000;

fn pair(key: &[u8], value: &[u8]) -> (Box<[u8]>, Box<[u8]>) {
    (key.into(), value.into())
}

fn open(key: StoreKey, fence: u64, ends_ms: u64, state: Pairs) -> Write {
    Write { key, fence, op: WriteOp::Open { principal: "alice".into(), ends_ms, state } }
}

fn write(key: StoreKey, fence: u64, op: WriteOp) -> Write {
    Write { key, fence, op }
}

fn put(key: StoreKey, fence: u64, name: &[u8], value: &[u8]) -> Write {
    write(key, fence, WriteOp::Put(name.into(), value.into()))
}

fn sorted(stored: Option<Stored>) -> Option<(u64, Pairs)> {
    stored.map(|Stored { fence, mut state }| {
        state.sort();
        (fence, state)
    })
}

fn claim(store: &mut dyn SessionStore, key: StoreKey, principal: &str, now_ms: u64) -> Option<Stored> {
    let mut claimed = store.claim(&[Wanted { key, principal: principal.into() }], now_ms).unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.pop().unwrap()
}

/// Checks a store that is empty, or holds none of the sessions whose keys begin with `prefix`. `now_ms` is the
/// store's own time, where that forgets sessions by itself.
pub fn check(store: &mut dyn SessionStore, prefix: [u8; 8], now_ms: u64) {
    assert!(now_ms >= NOW, "after 1970");
    let later = now_ms + 60_000;
    let key = |n: u8| -> StoreKey { std::array::from_fn(|at| *prefix.get(at).unwrap_or(&n)) };
    let (a, b, c, d) = (key(1), key(2), key(3), key(4));
    let binary: Vec<u8> = (0..=255).collect();

    // Begins, changes and is read back, all in one commit.
    let written = store.commit(&[
        open(a, 1, later, vec![pair(b"k", b"one"), pair(b"gone", b"x")]),
        put(a, 1, b"k", b"two"),
        put(a, 1, &[0xFF; 255], &binary),
        put(a, 1, b"empty", b""),
        write(a, 1, WriteOp::Delete(b"gone".as_slice().into())),
        write(a, 1, WriteOp::Delete(b"never there".as_slice().into())),
        open(b, 1, later, Vec::new()),
    ]);
    assert_eq!(written.unwrap(), [Written::Done; 7]);
    let state = vec![pair(b"empty", b""), pair(b"k", b"two"), pair(&[0xFF; 255], &binary)];
    assert_eq!(sorted(claim(store, a, "alice", now_ms)), Some((2, state.clone())));
    assert_eq!(sorted(claim(store, b, "alice", now_ms)), Some((2, Vec::new())), "without state it is one, too");

    // Whoever held it before can do nothing any more, and that is told for each write.
    let written = store.commit(&[
        put(a, 1, b"k", b"late"),
        write(a, 1, WriteOp::Touch { ends_ms: later + 1 }),
        write(a, 1, WriteOp::Delete(b"k".as_slice().into())),
        write(a, 1, WriteOp::End),
        open(a, 1, later, Vec::new()),
        put(b, 2, b"mine", b"yes"),
    ]);
    let lost = Written::Lost;
    assert_eq!(written.unwrap(), [lost, lost, lost, lost, lost, Written::Done]);
    assert_eq!(sorted(claim(store, a, "alice", now_ms)), Some((3, state.clone())));

    // Only its principal gets it; who asks in vain changes nothing.
    assert_eq!(claim(store, a, "bob", now_ms), None);
    assert_eq!(claim(store, d, "alice", now_ms), None, "never there");
    assert_eq!(store.commit(&[put(a, 3, b"k", b"three")]).unwrap(), [Written::Done], "still the owner");

    // The same opened once more, as after a try whose outcome was not known: all of it is replaced.
    let again = open(a, 3, later, vec![pair(b"only", b"this")]);
    assert_eq!(store.commit(&[again.clone(), again]).unwrap(), [Written::Done; 2]);
    assert_eq!(sorted(claim(store, a, "alice", now_ms)), Some((4, vec![pair(b"only", b"this")])));

    // Several at once, the same one twice among them: each claim is one.
    let wanted = |key| Wanted { key, principal: "alice".into() };
    let fences: Vec<_> = store
        .claim(&[wanted(a), wanted(d), wanted(b), wanted(a)], now_ms)
        .unwrap()
        .into_iter()
        .map(|stored| stored.map(|stored| stored.fence))
        .collect();
    assert_eq!(fences, [Some(5), None, Some(3), Some(6)]);

    // A store that has forgotten the last claim learns it from the next write.
    assert_eq!(store.commit(&[put(a, 9, b"only", b"that")]).unwrap(), [Written::Done]);
    assert_eq!(store.commit(&[put(a, 8, b"only", b"other")]).unwrap(), [Written::Lost]);

    // Its end.
    let written = store.commit(&[write(a, 9, WriteOp::End), put(a, 9, b"k", b"v"), write(a, 9, WriteOp::End)]);
    assert_eq!(written.unwrap(), [Written::Done, Written::Gone, Written::Done]);
    assert_eq!(claim(store, a, "alice", now_ms), None);
    let touch = write(a, 9, WriteOp::Touch { ends_ms: later });
    assert_eq!(store.commit(&[touch, open(a, 9, later, Vec::new())]).unwrap(), [Written::Gone, Written::Done]);
    assert_eq!(sorted(claim(store, a, "alice", now_ms)), Some((10, Vec::new())), "nothing of its first life");

    // One whose time has run out is nobody's, and is swept; a touch moves its end.
    let written = store.commit(&[
        open(c, 1, later, vec![pair(b"k", b"v")]),
        write(c, 1, WriteOp::Touch { ends_ms: now_ms - 10 }),
        open(d, 1, now_ms - 10, Vec::new()),
        write(b, 3, WriteOp::Touch { ends_ms: later + 5 }),
    ]);
    assert_eq!(written.unwrap()[0], Written::Done);
    assert_eq!(claim(store, c, "alice", now_ms), None);
    assert_eq!(claim(store, d, "alice", now_ms), None);
    for _ in 0..1_000 {
        store.sweep(now_ms, 16).unwrap();
    }
    assert_eq!(store.commit(&[put(c, 1, b"k", b"v"), put(b, 3, b"k", b"v")]).unwrap(), [Written::Gone, Written::Done]);
}
