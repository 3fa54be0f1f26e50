//! What a batch of writes comes to, given the sessions as they are. PURE.

use std::collections::BTreeMap;

use crate::session::store::{StoreKey, Write, WriteOp, Written};

/// A session as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub principal: Box<str>,
    pub fence: u64,
    /// The process that owns it.
    pub owner: [u8; 8],
    pub ends_ms: u64,
}

/// The changes that a batch comes to, each row once; those of sessions that end or never were are left out.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// One for each write.
    pub results: Vec<Written>,
    /// Sessions that were not there.
    pub inserted: Vec<(StoreKey, Row)>,
    /// Sessions whose row changes.
    pub updated: Vec<(StoreKey, Row)>,
    /// Sessions that are forgotten with their state.
    pub ended: Vec<StoreKey>,
    /// Sessions whose state as it was is dropped first.
    pub cleared: Vec<StoreKey>,
    /// Keys that are set.
    pub put: Vec<(StoreKey, &'a [u8], &'a [u8])>,
    /// Keys that go.
    pub deleted: Vec<(StoreKey, &'a [u8])>,
}

/// One session of the batch.
#[derive(Default)]
struct Work<'a> {
    was: bool,
    row: Option<Row>,
    changed: bool,
    cleared: bool,
    state: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

/// Carries out the writes of the process `us` on the sessions that are there.
pub(super) fn plan<'a>(writes: &'a [Write], rows: Vec<(StoreKey, Row)>, us: [u8; 8]) -> Plan<'a> {
    let mut works: BTreeMap<StoreKey, Work<'a>> = BTreeMap::new();
    for (key, row) in rows {
        works.insert(key, Work { was: true, row: Some(row), ..Work::default() });
    }
    let mut plan = Plan::default();
    for write in writes {
        let work = works.entry(write.key).or_default();
        plan.results.push(work.write(write, us));
    }
    for (key, work) in works {
        plan.add(key, work);
    }
    plan
}

impl<'a> Work<'a> {
    fn write(&mut self, write: &'a Write, us: [u8; 8]) -> Written {
        if self.row.as_ref().is_some_and(|row| !row.takes(write.fence, us)) {
            return Written::Lost;
        }
        if let WriteOp::Open { principal, ends_ms, state } = &write.op {
            self.row = Some(Row { principal: principal.clone(), fence: write.fence, owner: us, ends_ms: *ends_ms });
            (self.changed, self.cleared) = (true, true);
            self.state = state.iter().map(|(name, value)| (&**name, Some(&**value))).collect();
            return Written::Done;
        }
        let Some(row) = &mut self.row else {
            return if write.op == WriteOp::End { Written::Done } else { Written::Gone };
        };
        if row.fence < write.fence {
            (row.fence, row.owner, self.changed) = (write.fence, us, true);
        }
        match &write.op {
            WriteOp::Open { .. } => {}
            WriteOp::Put(name, value) => drop(self.state.insert(name, Some(value))),
            WriteOp::Delete(name) => drop(self.state.insert(name, None)),
            WriteOp::Touch { ends_ms } => (row.ends_ms, self.changed) = (*ends_ms, true),
            WriteOp::End => {
                self.row = None;
                self.state.clear();
            }
        }
        Written::Done
    }
}

impl Row {
    /// Whether the process `us` may write under this fence.
    fn takes(&self, fence: u64, us: [u8; 8]) -> bool {
        fence > self.fence || (fence == self.fence && self.owner == us)
    }
}

impl<'a> Plan<'a> {
    fn add(&mut self, key: StoreKey, work: Work<'a>) {
        match work.row {
            None if work.was => self.ended.push(key),
            None => {}
            Some(row) if !work.was => self.inserted.push((key, row)),
            Some(row) => {
                if work.changed {
                    self.updated.push((key, row));
                }
                if work.cleared {
                    self.cleared.push(key);
                }
            }
        }
        for (name, value) in work.state {
            match value {
                Some(value) => self.put.push((key, name, value)),
                None if work.was && !work.cleared => self.deleted.push((key, name)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 8] = [1; 8];
    const KEY: StoreKey = [7; 16];

    fn is_empty(plan: &Plan<'_>) -> bool {
        let rows = plan.inserted.len() + plan.updated.len() + plan.ended.len() + plan.cleared.len();
        rows + plan.put.len() + plan.deleted.len() == 0
    }

    fn row(fence: u64, owner: [u8; 8]) -> Vec<(StoreKey, Row)> {
        vec![(KEY, Row { principal: "p".into(), fence, owner, ends_ms: 5 })]
    }

    fn write(fence: u64, op: WriteOp) -> Write {
        Write { key: KEY, fence, op }
    }

    fn open(fence: u64, name: &[u8]) -> Write {
        let state = vec![(name.into(), (*b"v").into())];
        write(fence, WriteOp::Open { principal: "p".into(), ends_ms: 9, state })
    }

    fn put(fence: u64, name: &[u8], value: &[u8]) -> Write {
        write(fence, WriteOp::Put(name.into(), value.into()))
    }

    #[test]
    fn many_writes_of_a_key_come_to_its_last() {
        let writes =
            [put(3, b"a", b"1"), put(3, b"a", b"2"), put(3, b"b", b"3"), write(3, WriteOp::Delete((*b"b").into()))];
        let plan = plan(&writes, row(3, US), US);
        assert_eq!(plan.results, [Written::Done; 4]);
        assert_eq!(plan.put, [(KEY, &b"a"[..], &b"2"[..])]);
        assert_eq!(plan.deleted, [(KEY, &b"b"[..])]);
        assert!(plan.updated.is_empty() && plan.inserted.is_empty() && plan.ended.is_empty());
    }

    #[test]
    fn an_older_fence_changes_nothing_and_neither_does_another_process_with_the_same() {
        let writes = [put(2, b"a", b"1"), write(2, WriteOp::End), open(2, b"a")];
        let older = plan(&writes, row(3, US), US);
        assert_eq!(older.results, [Written::Lost; 3]);
        assert!(is_empty(&older));
        let other = plan(&writes, row(2, [2; 8]), US);
        assert_eq!(other.results, [Written::Lost; 3]);
        assert!(is_empty(&other));
    }

    #[test]
    fn a_greater_fence_than_the_store_has_is_left_there() {
        let writes = [put(5, b"a", b"1")];
        let plan = plan(&writes, row(3, [2; 8]), US);
        assert_eq!(plan.results, [Written::Done]);
        assert_eq!((plan.updated[0].1.fence, plan.updated[0].1.owner), (5, US));
    }

    #[test]
    fn what_is_not_there_can_be_opened_and_ended_and_nothing_else() {
        let writes = [put(1, b"a", b"1"), write(1, WriteOp::End), open(1, b"k")];
        let plan = plan(&writes, Vec::new(), US);
        assert_eq!(plan.results, [Written::Gone, Written::Done, Written::Done]);
        assert!(plan.ended.is_empty() && plan.cleared.is_empty());
        assert_eq!((plan.inserted.len(), &plan.put[..]), (1, &[(KEY, &b"k"[..], &b"v"[..])][..]));
    }

    #[test]
    fn a_session_that_is_opened_again_has_nothing_of_its_first_state() {
        let writes = [put(3, b"a", b"1"), open(3, b"k")];
        let plan = plan(&writes, row(3, US), US);
        assert_eq!((&plan.cleared[..], plan.updated.len()), (&[KEY][..], 1));
        assert_eq!(plan.put, [(KEY, &b"k"[..], &b"v"[..])]);
    }

    #[test]
    fn what_ends_within_the_batch_is_not_written_first() {
        let writes = [put(3, b"a", b"1"), write(3, WriteOp::End), put(3, b"b", b"1")];
        let plan = plan(&writes, row(3, US), US);
        assert_eq!(plan.results, [Written::Done, Written::Done, Written::Gone]);
        assert_eq!(plan.ended, [KEY]);
        assert!(plan.put.is_empty() && plan.updated.is_empty());
    }
}
