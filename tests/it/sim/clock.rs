//! When each timer may fire, and when it must: the shadow of the connection's timers.

use tidegate::conn::Rules;

/// What the shadow remembers of time. Milliseconds since the connection was accepted.
#[derive(Debug, Default)]
pub struct Clock {
    pub now: u64,
    /// Last frame dealt with, or READY.
    pub heard: u64,
    /// Since when the server has been reading without a pause.
    pub listening: u64,
    /// When the unfinished frame began, and where in the stream.
    pub began: Option<(u64, usize)>,
    /// When the heartbeat went out that nothing was heard since.
    pub pinged: Option<u64>,
    /// When output that waits last moved.
    pub progress: Option<u64>,
    /// When output waited up to a point of the server's stream that has not gone out yet, and where
    /// that point is.
    pub behind: Option<(u64, usize)>,
    /// When the end began.
    pub leaving: u64,
    /// When the client was told that it is slow.
    pub slow: Option<u64>,
    pub half_closed: u64,
}

/// What stands at the moment at which timers are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub ready: bool,
    /// The server does not read.
    pub deaf: bool,
    pub leaving: bool,
    pub lingering: bool,
    /// The end is an ERROR that waits for requests in flight.
    pub error_waits: bool,
    pub heartbeat: u64,
}

/// A timer's verdict: it may fire now, it must have fired by now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    pub may: bool,
    pub must: bool,
}

/// Every timer's verdict at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dues {
    pub auth: Due,
    pub frame: Due,
    pub ping: Due,
    pub idle: Due,
    pub stall: Due,
    pub linger: Due,
    pub error: Due,
}

impl Clock {
    pub fn dues(&self, rules: &Rules, at: Standing) -> Dues {
        let ms = u64::from;
        let due = |since: Option<u64>, ms: u64| Due::when(self.now, since, since, ms);
        // While the server does not read, the client can't be heard; time counts from the pause's end.
        let heard = |since: Option<u64>, ms: u64| {
            let mut due = Due::when(self.now, since, since.map(|s| s.max(self.listening)), ms);
            due.must &= !at.deaf;
            due.may &= !at.deaf;
            due
        };
        let open = |due: Due| if at.leaving { Due::default() } else { due };
        let only = |condition: bool, due: Due| if condition { due } else { Due::default() };
        let stall = match self.slow {
            Some(since) => due(self.progress.map(|_| since), ms(rules.linger_ms)),
            None => {
                let still = due(self.progress, ms(rules.slow_consumer_ms));
                let old = due(self.behind.map(|(since, _)| since), ms(rules.outbound_age_ms));
                Due { may: still.may || old.may, must: still.must || old.must }
            }
        };
        let idle = at.heartbeat * ms(rules.heartbeat_misses);
        Dues {
            auth: open(only(!at.ready, due(Some(0), ms(rules.auth_timeout_ms)))),
            frame: open(heard(self.began.map(|(since, _)| since), ms(rules.frame_timeout_ms))),
            ping: open(only(at.ready && self.pinged.is_none(), heard(Some(self.heard), at.heartbeat))),
            idle: open(only(at.ready, heard(self.pinged, idle))),
            stall,
            linger: only(at.lingering, due(Some(self.half_closed), ms(rules.linger_ms))),
            error: only(at.error_waits, due(Some(self.leaving), ms(rules.linger_ms))),
        }
    }
}

impl Due {
    fn when(now: u64, earliest: Option<u64>, latest: Option<u64>, ms: u64) -> Due {
        let reached = |since: Option<u64>| since.is_some_and(|since| now >= since + ms);
        Due { may: reached(earliest), must: reached(latest) }
    }
}
