use super::*;
use crate::session::store::{StoreDown, WriteOp};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::atomic::AtomicBool;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that does as it is told, and tells what it was asked.
#[derive(Clone)]
struct Scripted {
    /// The sizes of its commits, as negative numbers those of its claims.
    asked: Sender<i64>,
    /// Each commit and claim waits for a word here: whether it succeeds.
    goes: Receiver<bool>,
    closed: Arc<AtomicBool>,
}

impl Scripted {
    fn step(&self, size: i64) -> Result<(), StoreDown> {
        let _ = self.asked.send(size);
        match self.goes.recv() {
            Ok(true) | Err(_) => Ok(()),
            Ok(false) => Err(StoreDown("told so".to_owned())),
        }
    }
}

impl SessionStore for Scripted {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown> {
        assert!(writes.iter().all(|write| write.fence != 666), "a panic was asked for");
        self.step(writes.len() as i64)?;
        Ok(writes.iter().map(|write| if write.fence == 13 { Written::Lost } else { Written::Done }).collect())
    }

    fn claim(&mut self, wanted: &[Wanted], _now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown> {
        self.step(-(wanted.len() as i64))?;
        Ok(wanted.iter().map(|_| Some(Stored { fence: 2, state: Vec::new() })).collect())
    }

    fn sweep(&mut self, _now_ms: u64, _budget: usize) -> Result<usize, StoreDown> {
        Ok(0)
    }

    fn close(self: Box<Self>) -> Result<(), StoreDown> {
        self.closed.store(true, Relaxed);
        Ok(())
    }
}

struct Wakes(Sender<u16>);

impl Wake for Wakes {
    fn wake(&self, worker: u16) {
        let _ = self.0.send(worker);
    }
}

struct Bench {
    stores: Stores,
    couriers: Vec<Courier>,
    asked: Receiver<i64>,
    go: Sender<bool>,
    woken: Receiver<u16>,
    closed: Arc<AtomicBool>,
}

fn options() -> StoreOptions {
    StoreOptions {
        kind: "scripted",
        threads: 1,
        touches: true,
        queue: 2,
        timeout: PATIENCE,
        failures: 2,
        retry: Duration::from_secs(3_600),
    }
}

fn bench(options: StoreOptions) -> Bench {
    let ((asked, asked_in), (go, goes), (wake, woken)) = (unbounded(), unbounded(), unbounded());
    let closed = Arc::new(AtomicBool::new(false));
    let store = Scripted { asked, goes, closed: Arc::clone(&closed) };
    let make: MakeStore = Arc::new(move || Ok(Box::new(store.clone()) as Box<dyn SessionStore>));
    let wake: Arc<dyn Wake> = Arc::new(Wakes(wake));
    let (stores, couriers) = Stores::start(options, &make, None, 2, &wake).unwrap();
    Bench { stores, couriers, asked: asked_in, go, woken, closed }
}

impl Bench {
    fn write(&mut self, worker: usize, flight: u32, fence: u64) {
        let write = Write { key: [1; 16], fence, op: WriteOp::End };
        self.couriers[worker].put(&[1; 16], Ask::Write { flight, writes: vec![write; 2] });
        self.couriers[worker].send();
    }

    fn claim(&mut self, until: Instant) {
        let wanted = Wanted { key: [1; 16], principal: "alice".into() };
        self.couriers[0].put(&[1; 16], Ask::Claim { id: [9; 16], wanted, until });
        self.couriers[0].send();
    }

    fn asked(&self) -> i64 {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    fn told(&self, worker: usize) -> Vec<Told> {
        self.couriers[worker].take_told(Some(Instant::now() + PATIENCE)).unwrap()
    }
}

fn done(flight: u32) -> Told {
    Told::Written { flight, result: Ok(vec![Written::Done; 2]) }
}

fn failed(flight: u32, tried: bool) -> Told {
    Told::Written { flight, result: Err(Failed { tried }) }
}

#[test]
fn what_waits_goes_into_one_commit_and_wakes_each_worker_once() {
    let mut bench = bench(options());
    bench.write(0, 0, 1);
    assert_eq!(bench.asked(), 2, "the first goes alone");
    for flight in 1..=10 {
        bench.write(usize::from(flight > 5), flight, if flight == 3 { 13 } else { 1 });
    }
    bench.go.send(true).unwrap();
    assert_eq!(bench.told(0), [done(0)]);
    assert_eq!(bench.asked(), 20, "all the others together");
    bench.go.send(true).unwrap();
    let lost = Told::Written { flight: 3, result: Ok(vec![Written::Lost; 2]) };
    assert_eq!(bench.told(0), [done(1), done(2), lost, done(4), done(5)]);
    assert_eq!(bench.told(1), (6..=10).map(done).collect::<Vec<_>>());
    let view = bench.stores.view();
    assert_eq!((view.written, view.commits, view.failures, view.down), (22, 2, 0, None));
    assert!(bench.stores.close(Instant::now() + PATIENCE));
    assert_eq!(bench.woken.try_iter().collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn a_claim_comes_behind_the_writes_and_not_at_all_when_nobody_waits_for_it_any_more() {
    let mut bench = bench(options());
    bench.write(0, 0, 1);
    assert_eq!(bench.asked(), 2);
    bench.claim(Instant::now());
    bench.claim(Instant::now() + PATIENCE);
    bench.write(0, 1, 1);
    for _ in 0..3 {
        bench.go.send(true).unwrap();
    }
    assert_eq!((bench.asked(), bench.asked()), (2, -1));
    assert_eq!(bench.told(0), [done(0)]);
    assert_eq!(bench.told(0), [Told::Claimed { id: [9; 16], result: Err(Failed { tried: false }) }]);
    assert_eq!(bench.told(0), [done(1)]);
    let stored = Stored { fence: 2, state: Vec::new() };
    assert_eq!(bench.told(0), [Told::Claimed { id: [9; 16], result: Ok(Some(stored)) }]);
}

#[test]
fn after_failures_in_a_row_nothing_is_tried_and_a_panic_is_a_failure() {
    let mut bench = bench(options());
    bench.go.send(false).unwrap();
    bench.write(0, 1, 1);
    assert_eq!(bench.told(0), [failed(1, true)]);
    assert_eq!(bench.stores.view().down, None);
    bench.write(0, 2, 666);
    assert_eq!(bench.told(0), [failed(2, true)]);
    assert!(bench.stores.view().down.unwrap().contains("panicked"));
    bench.write(0, 3, 1);
    assert_eq!(bench.told(0), [failed(3, false)]);
    assert_eq!(bench.asked.try_iter().collect::<Vec<_>>(), [2], "the third was not tried");
    assert_eq!((bench.stores.view().failures, bench.stores.view().broken), (6, 1));
}

#[test]
fn a_store_that_is_back_is_used_again() {
    let mut bench = bench(StoreOptions { failures: 1, retry: Duration::from_millis(1), ..options() });
    bench.go.send(false).unwrap();
    bench.write(0, 1, 1);
    assert_eq!(bench.told(0), [failed(1, true)]);
    for _ in 0..2 {
        bench.go.send(true).unwrap();
    }
    let end = Instant::now() + PATIENCE;
    loop {
        bench.write(0, 2, 1);
        if bench.told(0) == [done(2)] {
            break;
        }
        assert!(Instant::now() < end);
    }
    assert_eq!(bench.stores.view().down, None);
}

#[test]
fn no_more_operations_wait_than_may() {
    let bench = bench(options());
    let (a, b) = (&bench.couriers[0], &bench.couriers[1]);
    assert!(a.enter() && b.enter() && !a.enter());
    assert_eq!((bench.stores.view().queued, bench.stores.view().queue), (2, 2));
    b.leave(1);
    assert!(a.enter() && !b.enter());
}

#[test]
fn closing_waits_for_what_was_asked_and_for_no_longer_than_it_may() {
    let mut slow = bench(options());
    slow.write(0, 1, 1);
    assert!(!slow.stores.close(Instant::now() + Duration::from_millis(20)), "it hangs");
    assert!(!slow.closed.load(Relaxed));
    slow.go.send(true).unwrap();
    assert!(slow.stores.close(Instant::now() + PATIENCE));
    assert_eq!(slow.told(0), [done(1)]);
    assert!(slow.closed.load(Relaxed));
}
