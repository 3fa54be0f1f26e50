//! `tidegate load`: load on a server, and what became of it.

mod args;
mod output;
mod values;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Sender, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidegate::load::progress::Progress;
use tidegate::load::reading::verdict;
use tidegate::load::report::Point;
use tidegate::load::{self, Watch, Word};

pub use args::LoadArgs;

/// The hidden command that a helper process is started with.
pub const HELPER: &str = "load-helper";
/// Exit code after a second Ctrl-C: what a shell reports of a program that it ended.
const INTERRUPTED: i32 = 130;

/// Runs the subcommand. The report goes to stdout, everything else to stderr.
pub fn run(args: &LoadArgs) -> ExitCode {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => return super::usage(&error),
    };
    // Before the run: a report that can't be kept is better known of now.
    let mut files = match output::Files::create(args) {
        Ok(files) => files,
        Err(error) => return super::failed(&error),
    };
    let (words, inbox) = unbounded();
    if let Err(error) = listen_to_signals(words.clone()) {
        return super::failed(&format_args!("cannot listen to signals: {error}"));
    }
    if args.control {
        std::thread::spawn(move || listen_to_stdin(&words));
    }
    let length = settings.duration.filter(|_| !settings.until_closed).map(|length| length + settings.warm_up);
    let progress = Progress::new(args.quiet, settings.connections as u64, length);
    let mut watcher = Watcher { progress, control: args.control };
    let result = load::run(&settings, &inbox, &mut watcher);
    watcher.progress.end();
    let report = match result {
        Ok(report) => report,
        Err(error) => return super::failed(&error),
    };
    // The report says in words what speaks against the run, its last line the worst of it.
    match files.write(&report).and_then(|()| output::print(&report)) {
        Err(error) => super::failed(&error),
        Ok(()) if verdict(&report).passes() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(super::FAILED),
    }
}

/// What a helper process does.
pub fn help() -> ExitCode {
    // Ctrl-C reaches all processes of a terminal; what it means is for the one that started this to say.
    if let Err(error) = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false))) {
        return super::failed(&format_args!("cannot listen to signals: {error}"));
    }
    match load::serve_helper() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::failed(&error),
    }
}

/// The first signal ends the run in good order, the second at once.
fn listen_to_signals(words: Sender<Word>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let listen = move || {
        for (nth, _) in signals.forever().enumerate() {
            if nth > 0 {
                std::process::exit(INTERRUPTED);
            }
            let _ = writeln!(io::stderr(), "ending in good order; once more to quit at once");
            // Where the run is over already there is nothing to end.
            let _ = words.send(Word::Stop);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
}

/// With `--control`: words from whoever runs it. The end of the input means nothing.
fn listen_to_stdin(words: &Sender<Word>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let word = match line.trim() {
            "" => continue,
            "echo" => Word::Echo,
            "stop" => Word::Stop,
            other => {
                super::complain(&format_args!("{other:?} is no word for --control: expected echo or stop"));
                continue;
            }
        };
        if words.send(word).is_err() {
            return;
        }
    }
}

struct Watcher {
    progress: Progress,
    control: bool,
}

impl Watcher {
    /// A line for whoever reads stdout meanwhile.
    fn answer(&self, text: std::fmt::Arguments<'_>) {
        if self.control {
            let mut stdout = io::stdout().lock();
            // Who does not read any more is not told; the run goes on.
            let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        }
    }
}

impl Watch for Watcher {
    fn connected(&mut self, connections: u64) {
        self.progress.begin(connections);
        self.answer(format_args!("connected {connections}"));
    }

    fn interval(&mut self, point: &Point, errors: u64) {
        self.progress.interval(point, errors);
    }

    fn echoed(&mut self, sent: u64, answered: u64) {
        self.progress.say(&format!("{answered} of {sent} echoes answered"));
        self.answer(format_args!("echoed {answered} of {sent}"));
    }

    fn settled(&mut self) {
        self.answer(format_args!("settled"));
    }

    fn say(&mut self, text: &str) {
        self.progress.say(text);
    }
}
