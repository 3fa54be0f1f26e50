//! The thread that prints: the only one that may have to wait for standard error.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use log::{Level, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::logger::Logger;
use super::queue::Next;

/// Starts it, for a logger that lives as long as the process. Whether the system had a thread.
pub(super) fn start(logger: &'static Logger, out: impl Write + Send + 'static) -> bool {
    std::thread::Builder::new().name("logs".to_owned()).spawn(move || print(logger, out)).is_ok()
}

/// Prints until nobody can log any more.
pub(super) fn print(logger: &Logger, mut out: impl Write) {
    loop {
        let due = logger.next_count();
        // Also where lines come without a pause.
        if due.is_some_and(|due| due <= Instant::now()) {
            logger.tell_counts();
        }
        match logger.outlet().next(due) {
            Next::Line(line) => {
                // Nobody reads any more: there is nobody to tell so either.
                let _ = out.write_all(&line);
                logger.outlet().done(&line);
                tell_dropped(logger, &mut out);
            }
            // The count is printed where its lines would have been, and nothing is left behind it.
            Next::Flush(ack) => {
                tell_dropped(logger, &mut out);
                drop(ack);
            }
            Next::Nothing => logger.tell_counts(),
            Next::End => return,
        }
    }
}

fn tell_dropped(logger: &Logger, out: &mut impl Write) {
    let dropped = logger.outlet().take_dropped();
    if dropped == 0 {
        return;
    }
    let kvs = [("dropped", dropped)];
    let mut record = Record::builder();
    record.target("tidegate::logging").level(Level::Warn).key_values(&kvs);
    let mut say = |args| drop(out.write_all(&logger.line(&record.args(args).build())));
    say(format_args!(
        "{dropped} log lines were dropped: what reads standard error is too slow for TIDEGATE_LOG, or stood still"
    ));
}

/// Standard error, past the lock that the standard library has around it: whoever else writes to it must
/// not wait for a write that is stuck.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match rustix::io::write(&stderr, bytes) {
                // Whoever started us left it non-blocking: wait for room, here as for a blocking one.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)], None);
                }
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
