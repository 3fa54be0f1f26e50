//! The logger: from a record to a line in the queue.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use env_logger::{Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use super::flood::{Flood, More, Verdict};
use super::queue::{Outlet, Queue, queue};
use super::{ACCESS, Look, json, text};
use crate::config::Config;
use crate::time::rfc3339;

/// Filters, limits, formats and queues. Never blocks for standard error.
#[derive(Debug)]
pub(super) struct Logger {
    /// Filters and formats. Exchanged as a whole when the filter changes.
    inner: RwLock<Arc<env_logger::Logger>>,
    look: Look,
    flood: Flood,
    queue: Queue,
    outlet: Outlet,
}

impl Logger {
    /// A logger that nothing prints from yet.
    pub fn new(look: Look, config: &Config) -> Logger {
        let (queue, outlet) = queue();
        let inner = RwLock::new(Arc::new(build(&config.log, &look, &queue)));
        let flood = Flood::new(config.log_burst, config.log_interval);
        Logger { inner, look, flood, queue, outlet }
    }

    /// Takes over filter and flood limit.
    pub fn reload(&self, config: &Config) {
        let inner = Arc::new(build(&config.log, &self.look, &self.queue));
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = inner;
        self.flood.set(config.log_burst, config.log_interval);
    }

    /// Whether lines are JSON.
    pub fn is_json(&self) -> bool {
        self.look.json
    }

    /// The most verbose level that anything is logged at.
    pub fn level(&self) -> LevelFilter {
        self.inner().filter()
    }

    /// Waits until what was logged is printed.
    pub fn flush(&self, patience: Duration) -> bool {
        self.queue.flush(patience)
    }

    /// Where the lines come out.
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// When [`Logger::tell_counts`] has something to do.
    pub fn next_count(&self) -> Option<Instant> {
        self.flood.next_due()
    }

    /// Logs how many lines were not printed, where the interval is over.
    pub fn tell_counts(&self) {
        self.flood.take_due(Instant::now(), false).iter().for_each(|more| self.tell(more));
    }

    /// Logs how many lines were not printed until now.
    pub fn tell_all_counts(&self) {
        self.flood.take_due(Instant::now(), true).iter().for_each(|more| self.tell(more));
    }

    /// A line that goes past queue and limits, for the thread that prints.
    pub fn line(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        format(&mut line, &self.look, record);
        line
    }

    fn tell(&self, More { target, level, lines, over, like }: &More) {
        let kvs = [("suppressed", log::kv::Value::from(*lines)), ("like", like.as_str().into())];
        let mut record = Record::builder();
        record.target(target).level(*level).key_values(&kvs);
        let mut send = |args| self.inner().log(&record.args(args).build());
        send(format_args!("… {} more like this in {}", Grouped(*lines), Seconds(*over)));
    }

    fn inner(&self) -> Arc<env_logger::Logger> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let inner = self.inner();
        if !inner.matches(record) || !self.queue.has_room() {
            return;
        }
        // Access lines are sampled where they are made.
        if record.target() != ACCESS {
            match self.flood.admit(record, Instant::now()) {
                Verdict::Count => return,
                Verdict::Print(more) => more.iter().for_each(|more| self.tell(more)),
            }
        }
        inner.log(record);
    }

    fn flush(&self) {
        self.queue.flush(Duration::from_millis(crate::limits::LOG_FLUSH_MS));
    }
}

fn build(filter: &str, look: &Look, queue: &Queue) -> env_logger::Logger {
    let look = look.clone();
    env_logger::Builder::new()
        .parse_filters(filter)
        .write_style(WriteStyle::Never) // the colours are ours
        .target(Target::Pipe(Box::new(queue.clone())))
        .format(move |buffer, record| {
            // Whole, before the buffer sees any of it: a value's Display may panic half-way.
            let mut line = Vec::new();
            format(&mut line, &look, record);
            buffer.write_all(&line)
        })
        .build()
}

fn format(line: &mut Vec<u8>, look: &Look, record: &Record<'_>) {
    let timestamp = rfc3339(SystemTime::now());
    if look.json {
        return json::write(line, &timestamp, &look.service_id, record);
    }
    let mut shown = String::new();
    text::write(&mut shown, &timestamp, look.color, record);
    line.append(&mut shown.into_bytes());
}

/// `1,234,567`.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let (first, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
        f.write_str(first)?;
        (0..rest.len()).step_by(3).try_for_each(|at| write!(f, ",{}", &rest[at..at + 3]))
    }
}

/// `10 s`, and `0.25 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(1000) { write!(f, "{} s", ms / 1000) } else { write!(f, "{:.2} s", self.0.as_secs_f64()) }
    }
}
