use super::*;
use std::cell::Cell;

const TTL_MS: u64 = 60_000;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000_000) };
}

fn now() -> u64 {
    NOW.get()
}

/// A run with the file in `dir`, as another process would begin it.
fn run(dir: &Path) -> Box<Embedded> {
    Box::new(Embedded::open(&dir.join(FILE_NAME), TTL_MS, &OnceLock::new(), now).unwrap())
}

fn open(n: u8, ends_ms: u64) -> Write {
    let state = vec![(b"k".as_slice().into(), vec![n].into())];
    Write { key: [n; 16], fence: 1, op: WriteOp::Open { principal: "alice".into(), ends_ms, state } }
}

fn claim(store: &mut Embedded, n: u8) -> Option<Stored> {
    store.claim(&[Wanted { key: [n; 16], principal: "alice".into() }], now()).unwrap().pop().unwrap()
}

#[test]
fn a_session_lives_a_time_to_live_longer_than_the_run_that_had_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = run(dir.path());
    first.commit(&[open(1, WITH_ITS_OWNER), open(2, WITH_ITS_OWNER), open(3, now() + 10)]).unwrap();
    NOW.set(now() + 10 * TTL_MS);
    assert_eq!(first.sweep(now(), 100), Ok(1), "the run goes on, and so do its sessions");
    first.close().unwrap();
    NOW.set(now() + TTL_MS - 1);
    let mut second = run(dir.path());
    assert_eq!(claim(&mut second, 1), Some(Stored { fence: 2, state: vec![(b"k".as_slice().into(), [1].into())] }));
    NOW.set(now() + 1);
    assert_eq!(claim(&mut second, 2), None, "it has ended a time to live after its run");
    assert_eq!(second.sweep(now(), 100), Ok(1));
    assert_eq!(second.sweep(now(), 100), Ok(0), "the one that was claimed lives in this run");
}

#[test]
fn after_a_crash_a_session_lives_on_from_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut crashed = run(dir.path());
    crashed.commit(&[open(1, WITH_ITS_OWNER), open(2, WITH_ITS_OWNER)]).unwrap();
    drop(crashed);
    NOW.set(now() + 100 * TTL_MS);
    let mut second = run(dir.path());
    NOW.set(now() + TTL_MS - 1);
    assert!(claim(&mut second, 1).is_some());
    drop(second);
    // Nobody came for the other in all of the second run: its end stays where it was.
    NOW.set(now() + 1);
    let mut third = run(dir.path());
    assert_eq!(claim(&mut third, 2), None);
    assert!(claim(&mut third, 1).is_some(), "it was the second run's");
    drop(third);
    // Runs whose sessions have all ended are forgotten, and the sessions with them.
    NOW.set(now() + 2 * TTL_MS);
    let mut fourth = run(dir.path());
    assert_eq!(fourth.run.ended.len(), 1);
    assert_eq!(fourth.sweep(now(), 100), Ok(1));
    NOW.set(now() + TTL_MS);
    assert_eq!(fourth.sweep(now(), 100), Ok(1));
    assert!(fourth.database.begin_read().unwrap().open_table(STATE).unwrap().first().unwrap().is_none());
}

#[test]
fn a_store_made_again_after_an_error_goes_on_with_its_run() {
    let dir = tempfile::tempdir().unwrap();
    let (path, one) = (dir.path().join(FILE_NAME), OnceLock::new());
    let mut store = Embedded::open(&path, TTL_MS, &one, now).unwrap();
    store.commit(&[open(1, WITH_ITS_OWNER)]).unwrap();
    drop(store);
    let mut store = Embedded::open(&path, TTL_MS, &one, now).unwrap();
    NOW.set(now() + 2 * TTL_MS);
    assert!(claim(&mut store, 1).is_some());
}

#[test]
fn the_sweep_comes_to_every_session_in_slices() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = run(dir.path());
    let writes: Vec<Write> = (0..200).map(|n| open(n, if n % 2 == 0 { now() } else { WITH_ITS_OWNER })).collect();
    store.commit(&writes).unwrap();
    let slices: Vec<usize> = (0..30).map(|_| store.sweep(now(), 7).unwrap()).collect();
    assert_eq!(slices.iter().sum::<usize>(), 100);
    assert!(slices.iter().all(|swept| *swept <= 7), "{slices:?}");
}

#[test]
fn a_file_that_is_damaged_stops_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut store = run(dir.path());
    for n in 0..50 {
        store.commit(&[open(n, WITH_ITS_OWNER)]).unwrap();
    }
    store.close().unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..good.len()).step_by(4096 * 8 + 517) {
        let mut bad = good.clone();
        bad[at..(at + 64).min(good.len())].fill(0xA5);
        std::fs::write(&path, &bad).unwrap();
        match Embedded::open(&path, TTL_MS, &OnceLock::new(), now) {
            Ok(_) => {} // a page that is not in use
            Err(error @ OpenError::Damaged { .. }) => {
                refused += 1;
                assert!(error.to_string().contains("move it away"), "{error}");
            }
            Err(error) => panic!("at {at}: {error}"),
        }
    }
    assert!(refused > 0);
    std::fs::write(&path, b"no session store at all").unwrap();
    assert!(matches!(Embedded::open(&path, TTL_MS, &OnceLock::new(), now), Err(OpenError::Damaged { .. })));
}

#[test]
fn one_file_has_one_process_and_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let _held = run(dir.path());
    assert!(matches!(Embedded::open(&path, TTL_MS, &OnceLock::new(), now), Err(OpenError::InUse { .. })));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_of_a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = run(dir.path());
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("format", FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let again = Embedded::open(&dir.path().join(FILE_NAME), TTL_MS, &OnceLock::new(), now);
    assert!(matches!(again, Err(OpenError::Newer { format: 2, .. })), "{again:?}");
}
