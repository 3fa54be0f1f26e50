//! Timers for everything in a slab: one dense array for the whole worker.
//!
//! Four bytes a slot, armed or not; no list, no tree, nothing to unlink when a timer is dropped. It
//! is read through from front to back, at most once in [`Deadlines::granularity_ms`]: half a million
//! deadlines are 2 MB, which a core reads in a fraction of a millisecond.

use crate::conn::Millis;

/// Deadlines by slot.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// 0: not armed.
    at: Vec<u32>,
    /// No deadline is before this one; `None`: none is armed.
    next: Option<Millis>,
    /// By how much a timer may be late, while there are few.
    granularity_ms: u32,
}

impl Deadlines {
    /// Room for this many slots, untouched until they are used.
    pub fn with_capacity(slots: usize) -> Deadlines {
        Deadlines { at: Vec::with_capacity(slots), ..Deadlines::default() }
    }

    /// Makes room for this many slots, untouched until they are used.
    pub fn reserve(&mut self, slots: usize) {
        self.at.reserve_exact(slots.saturating_sub(self.at.len()));
    }

    /// Timers fire at most this often. Milliseconds; they are late by at most this, never early.
    pub fn set_granularity(&mut self, ms: u32) {
        self.granularity_ms = ms;
    }

    /// Arms a slot's timer, whatever it was before.
    pub fn set(&mut self, slot: usize, deadline: Option<Millis>) {
        if slot >= self.at.len() {
            if deadline.is_none() {
                return;
            }
            self.at.resize(slot + 1, 0);
        }
        // Instant 0 means "not armed"; a deadline there is one millisecond late.
        self.at[slot] = deadline.map_or(0, |d| d.0.max(1));
        if let Some(deadline) = deadline {
            self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
        }
    }

    /// Arms a slot's timer if it is not armed for an earlier instant.
    pub fn lower(&mut self, slot: usize, deadline: Option<Millis>) {
        let Some(deadline) = deadline else { return };
        let armed = self.at.get(slot).copied().unwrap_or(0);
        if armed == 0 || !deadline.reached(Millis(armed)) {
            self.set(slot, Some(deadline));
        }
    }

    /// When [`Deadlines::expired`] should be called next.
    pub fn next(&self) -> Option<Millis> {
        self.next
    }

    /// Appends the slots whose time has come, and disarms them.
    pub fn expired(&mut self, now: Millis, slots: &mut Vec<usize>) {
        if !self.next.is_some_and(|next| now.reached(next)) {
            return;
        }
        let mut next: Option<Millis> = None;
        for (slot, at) in self.at.iter_mut().enumerate().filter(|(_, at)| **at != 0) {
            let deadline = Millis(*at);
            if now.reached(deadline) {
                *at = 0;
                slots.push(slot);
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        // Not before the granularity has passed: many deadlines are due together then.
        let earliest = now.plus(self.granularity_ms());
        self.next = next.map(|next| if next.reached(earliest) { next } else { earliest });
    }

    /// By how much a timer may be late: milliseconds, more when there are very many.
    fn granularity_ms(&self) -> u32 {
        self.granularity_ms + (self.at.len() / 4096) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(deadlines: &mut Deadlines, now: u32) -> Vec<usize> {
        let mut slots = Vec::new();
        deadlines.expired(Millis(now), &mut slots);
        slots
    }

    #[test]
    fn a_timer_fires_once_never_early_and_late_by_the_granularity_at_most() {
        let mut deadlines = Deadlines::default();
        deadlines.set_granularity(10);
        deadlines.set(3, Some(Millis(100)));
        deadlines.set(5, Some(Millis(105)));
        assert_eq!(deadlines.next(), Some(Millis(100)));
        assert!(expired(&mut deadlines, 99).is_empty());
        assert_eq!(expired(&mut deadlines, 100), [3]);
        let next = deadlines.next().unwrap();
        assert_eq!(next, Millis(110));
        assert_eq!(expired(&mut deadlines, next.0), [5]);
        assert_eq!((deadlines.next(), expired(&mut deadlines, 10_000)), (None, vec![]));
    }

    #[test]
    fn lower_never_puts_a_timer_off() {
        let mut deadlines = Deadlines::default();
        deadlines.lower(0, Some(Millis(100)));
        deadlines.lower(0, Some(Millis(200)));
        deadlines.lower(0, None);
        assert_eq!(expired(&mut deadlines, 100), [0]);
        deadlines.set(0, Some(Millis(300)));
        deadlines.lower(0, Some(Millis(250)));
        assert_eq!(expired(&mut deadlines, 250), [0]);
    }

    #[test]
    fn a_disarmed_timer_does_not_fire() {
        let mut deadlines = Deadlines::default();
        deadlines.set(0, Some(Millis(100)));
        deadlines.set(0, None);
        assert!(expired(&mut deadlines, 100).is_empty());
    }

    #[test]
    fn deadlines_across_the_clocks_wrap_keep_their_order() {
        let mut deadlines = Deadlines::default();
        deadlines.set(0, Some(Millis(u32::MAX - 5)));
        deadlines.set(1, Some(Millis(u32::MAX).plus(20)));
        assert_eq!(expired(&mut deadlines, u32::MAX - 5), [0]);
        assert_eq!(expired(&mut deadlines, 30), [1]);
    }
}
