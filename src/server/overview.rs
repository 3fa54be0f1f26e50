//! Where a running server stands, for whoever watches it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use crate::config::{Config, SETTINGS};
use crate::limits::REFUSAL_SLOTS;
use crate::stats::{DrainView, HandlerView, Label, Latency, Overview, Phase, SettingView, WorkerView};

impl Shared {
    /// Everything that the workers' counters do not tell. Stops nobody.
    pub fn overview(&self) -> Overview {
        let config = self.live.get().config;
        Overview {
            workers: (0..self.stats.len()).map(|worker| self.worker_view(worker, &config)).collect(),
            drain: self.drain_view(),
            pool: self.pool.view(),
            handlers: self.handlers(),
            settings: self.settings(&config),
            journal: self.records.journal(),
            routes: self.records.routes(),
            store: self.session_stores.view(),
        }
    }

    /// Whether every core is served; otherwise which is not, for a person.
    pub fn health(&self) -> Result<(), String> {
        if let Some(index) = self.lost.iter().position(|lost| lost.load(Ordering::Acquire)) {
            return Err(format!("worker {index} is lost: its core is not served; restart the server"));
        }
        let limit = self.live.get().config.health_limit;
        for (index, stats) in self.stats.iter().enumerate() {
            let age = stats.pulse.age();
            // One that has drained, and is over, has nothing to turn any more.
            let over = stats.drain.phase() == Phase::Persist && !stats.pulse.is_running();
            if age > limit && !over {
                return Err(format!(
                    "worker {index} has not turned its loop for {} ms (TIDEGATE_HEALTH_LIMIT_MS={}): a handler holds \
                     it up, or its CPU is taken; if it stays so, restart the server",
                    age.as_millis(),
                    limit.as_millis()
                ));
            }
        }
        Ok(())
    }

    /// Whether new connections are served wherever the kernel puts them; otherwise why not, for a person.
    #[cfg(feature = "admin")]
    pub fn welcome(&self) -> Result<(), String> {
        self.health()?;
        self.records.ready()?;
        match self.stats.iter().position(|stats| stats.accepting_paused.get() != 0) {
            None => Ok(()),
            Some(index) => Err(format!(
                "worker {index} accepts nobody for now: it has run out of open files, memory or room, see the log \
                 and tidegate doctor"
            )),
        }
    }

    fn worker_view(&self, worker: usize, config: &Config) -> WorkerView {
        let (stats, core, cpus) = (&self.stats[worker], config.core(worker), &config.cpus);
        WorkerView {
            cpu: (!cpus.is_empty()).then(|| cpus[worker % cpus.len()]),
            alive: stats.pulse.is_running(),
            last_tick: stats.pulse.age(),
            phase: stats.drain.phase(),
            mailbox: self.mailboxes.get(worker).map_or(0, |mailbox| mailbox.len()),
            mailbox_capacity: core.mailbox,
            connection_capacity: core.max_connections + REFUSAL_SLOTS,
            session_capacity: core.max_sessions,
            pending_capacity: core.max_pending,
            buffer_capacity: core.buffer_bytes,
        }
    }

    /// How far a drain is.
    pub fn drain_view(&self) -> Option<DrainView> {
        let plan = self.drain.plan()?;
        let progress = || self.stats.iter().map(|stats| &stats.drain);
        // One that does not come to the end is not what the others wait for.
        let behind = progress().map(|worker| worker.phase()).min_by_key(|phase| phase.index());
        let phase = behind.unwrap_or(Phase::Persist).max_after_begin();
        let mut phases = Vec::new();
        let mut from = 0;
        for done in Phase::ALL[1..].iter().filter(|done| done.index() < phase.index()) {
            let end = progress().map(|worker| worker.ended_ms[done.index()].get()).max().unwrap_or(0);
            phases.push((*done, Duration::from_millis(end.saturating_sub(from))));
            from = from.max(end);
        }
        Some(DrainView {
            reason: plan.reason.clone(),
            elapsed: plan.begun.elapsed(),
            left: plan.cut_at.saturating_duration_since(Instant::now()),
            phase,
            connections_at_begin: progress().map(|worker| worker.connections_at_begin.get()).sum(),
            phases,
        })
    }

    fn handlers(&self) -> Vec<HandlerView> {
        let view = |(index, (cmd, place)): (usize, &(_, _))| {
            let mut latency = Latency::default();
            let of_workers = self.stats.iter().filter_map(|stats| stats.handlers.get(index));
            of_workers.for_each(|histogram| latency.merge(&histogram.read()));
            HandlerView { cmd: *cmd, place: *place, latency }
        };
        self.routes.iter().enumerate().map(view).collect()
    }

    fn settings(&self, config: &Config) -> Vec<SettingView> {
        let mut settings = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.per_core()) {
            let name = setting.env.trim_start_matches("TIDEGATE_CORE_").to_ascii_lowercase();
            for worker in 0..self.stats.len() {
                if let Some(value) = setting.value_of_core(config, worker) {
                    settings.push(SettingView { name: name.clone(), worker, value: value as f64 });
                }
            }
        }
        settings
    }
}

impl Phase {
    /// Between the drain's beginning and a worker's first look at it, that worker still serves.
    fn max_after_begin(self) -> Phase {
        if self == Phase::Serving { Phase::Announce } else { self }
    }
}
