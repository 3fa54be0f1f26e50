//! Time as the data path keeps it: four bytes.

/// Milliseconds on a clock that starts anywhere and wraps around every 49.7 days.
///
/// Two instants compare modulo 2³²; that is right while they are less than 24.8 days apart, which
/// [`crate::limits::MAX_TIMER_MS`] guarantees for every timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Millis(pub u32);

impl Millis {
    /// This instant, `ms` later.
    #[must_use]
    pub const fn plus(self, ms: u32) -> Millis {
        Millis(self.0.wrapping_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 if `earlier` is later.
    pub const fn since(self, earlier: Millis) -> u32 {
        let distance = self.0.wrapping_sub(earlier.0);
        if distance < 1 << 31 { distance } else { 0 }
    }

    /// Whether this instant is at or after `deadline`.
    pub const fn reached(self, deadline: Millis) -> bool {
        self.0.wrapping_sub(deadline.0) < 1 << 31
    }

    /// The earlier of two instants.
    #[must_use]
    pub const fn min(self, other: Millis) -> Millis {
        if self.reached(other) { other } else { self }
    }
}

impl From<std::time::Duration> for Millis {
    fn from(since_start: std::time::Duration) -> Millis {
        Millis(since_start.as_millis() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::Millis;

    #[test]
    fn order_holds_across_the_wrap() {
        let before = Millis(u32::MAX - 10);
        let after = before.plus(20);
        assert!(after.reached(before) && !before.reached(after) && before.reached(before));
        assert_eq!((after.since(before), before.since(after)), (20, 0));
        assert_eq!(before.min(after), before);
        assert_eq!(after.min(before), before);
    }
}
