//! `tidegate journal cat`: messages on standard output.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ArgMatches;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use tidegate::journal::repair::Report;
use tidegate::journal::{self, Disk, ReadError, Reader, TopicPattern, json};

use super::show;

/// How often the journal is looked at for further messages.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes that are collected before they are written.
const BLOCK: usize = 64 * 1024;

/// How long a record may be on its way until it is taken for what a crash has left, or for damage.
const WRITING: Duration = Duration::from_millis(300);

/// Why it ends before the end.
enum End {
    /// Nobody reads any more, or a signal came: that is as it should be.
    Wanted,
    Output(io::Error),
    Journal(ReadError),
    /// It is damaged where it could be just unfinished.
    Damaged(Report),
}

/// Prints what is asked for.
pub fn run(disk: Disk, matches: &ArgMatches) -> ExitCode {
    let dir = disk.dir().to_owned();
    let after = matches.get_one::<u64>("from").map_or(0, |from| from.saturating_sub(1));
    let disk = Arc::new(disk);
    let mut cat = Cat {
        reader: Reader::new(Arc::clone(&disk), after),
        disk,
        topics: matches.get_one::<TopicPattern>("topic").cloned(),
        json: matches.get_flag("json"),
        out: Vec::with_capacity(BLOCK),
    };
    let printed = cat.print().and_then(|()| cat.check_end());
    match printed.and_then(|()| if matches.get_flag("follow") { cat.follow() } else { Ok(()) }) {
        Ok(()) | Err(End::Wanted) => ExitCode::SUCCESS,
        Err(End::Output(error)) => super::super::failed(&format_args!("cannot print to standard output: {error}")),
        Err(End::Damaged(report)) => super::super::failed(&format_args!(
            "behind the messages above the journal in {} is damaged:\n{}",
            dir.display(),
            show::verdict(&report).trim_end()
        )),
        Err(End::Journal(error)) => {
            // What was read before it is sound.
            let _ = cat.flush();
            super::super::failed(&format_args!(
                "{error}; in {}; `tidegate journal verify` lists all damage",
                dir.display()
            ))
        }
    }
}

struct Cat {
    disk: Arc<Disk>,
    reader: Reader<Disk>,
    topics: Option<TopicPattern>,
    json: bool,
    out: Vec<u8>,
}

impl Cat {
    /// All that there is now.
    fn print(&mut self) -> Result<(), End> {
        let topics = self.topics.as_ref();
        loop {
            let next = self.reader.next_of(u64::MAX, |topic| topics.is_none_or(|topics| topics.matches(topic)));
            let Some(message) = next.map_err(End::Journal)? else { return Ok(()) };
            if self.json {
                json::write_line(&mut self.out, &message);
            } else {
                show::line(&mut self.out, &message);
            }
            if self.out.len() >= BLOCK {
                flush(&mut self.out)?;
            }
        }
    }

    /// Whether that was all. What can't be read at the very end may be on its way, or what a crash has left;
    /// where nothing comes any more, every byte is looked at, as a start would.
    fn check_end(&mut self) -> Result<(), End> {
        self.flush()?;
        if !self.reader.has_rest().map_err(End::Journal)? {
            return Ok(());
        }
        let before = self.reader.position();
        std::thread::sleep(WRITING);
        self.print()?;
        self.flush()?;
        if self.reader.position() > before {
            return Ok(());
        }
        let unread = |source| End::Journal(ReadError::Io { file: String::new(), source });
        match journal::verify(&*self.disk).map_err(unread)? {
            report if report.is_sound() => Ok(()),
            report => Err(End::Damaged(report)),
        }
    }

    /// And what comes after it.
    fn follow(&mut self) -> Result<(), End> {
        let over = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&over)).map_err(End::Output)?;
        }
        while !over.load(Ordering::Relaxed) {
            self.print()?;
            self.flush()?;
            pass_time()?;
        }
        Err(End::Wanted)
    }

    fn flush(&mut self) -> Result<(), End> {
        flush(&mut self.out)
    }
}

fn flush(out: &mut Vec<u8>) -> Result<(), End> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(out).and_then(|()| stdout.flush());
    out.clear();
    written.map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { End::Wanted } else { End::Output(error) })
}

/// Waits until it is time to look again, a signal comes, or nobody reads what is printed.
fn pass_time() -> Result<(), End> {
    let stdout = io::stdout();
    // Nothing is asked for: what is told all the same is that the other end is gone.
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_AGAIN.subsec_nanos().into() };
    let _ = poll(&mut fds, Some(&timeout));
    if fds.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
        Err(End::Wanted)
    } else {
        Ok(())
    }
}
