//! A panic is a log line like any other: it is JSON where the others are, and it does not wait for
//! standard error either.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::LOGGER;
use super::text::BACKTRACE;
use crate::limits::PANIC_FLUSH_MS;

/// Logs panics from here on, in place of what the standard library prints of them.
pub(super) fn log_them() {
    std::panic::set_hook(Box::new(log_it));
}

fn log_it(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let why = panic.payload_as_str().unwrap_or("a panic without a message");
    // Taken only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    log::error!(
        target: "tidegate::panic",
        thread = name, location = place.as_str(), { BACKTRACE } = backtrace.as_deref();
        "thread {name} panicked at {place}: {why}"
    );
    flush();
}

/// A panic may be the process's last word. But a standard error that nobody reads holds up only the first
/// one, and not for long.
fn flush() {
    static STUCK: AtomicBool = AtomicBool::new(false);
    if let Some(logger) = LOGGER.get()
        && !STUCK.load(Relaxed)
        && !logger.flush(Duration::from_millis(PANIC_FLUSH_MS))
    {
        STUCK.store(true, Relaxed);
    }
}
