//! Where generators run: in a thread of this process, or in a helper process of their own.
//!
//! A helper gets its plan, the token with it, as the first line of its standard input, and orders as the
//! lines behind it; it ends when that input does. What it tells are lines of its standard output.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};

use super::generator::{Generator, Wake};
use super::message::{Message, Order};
use super::net;
use super::plan::{Plan, Settings};

/// A running generator.
pub struct Worker {
    reach: Reach,
    listener: Option<JoinHandle<()>>,
}

enum Reach {
    Thread { orders: Sender<Order>, wake: Wake },
    Process { child: Child, stdin: Option<ChildStdin> },
}

/// What a generator tells, and which one it is.
pub type Told = (usize, Message);

impl Worker {
    /// A generator in a thread.
    ///
    /// # Errors
    /// The system gives no poll or thread; in words.
    pub fn thread(index: usize, plan: Plan, told: Sender<Told>) -> Result<Worker, String> {
        let (orders, inbox) = unbounded();
        let generator = Generator::new(plan, inbox).map_err(|error| format!("cannot wait for events: {error}"))?;
        let wake = generator.wake();
        let run = move || {
            generator.run(&mut |message| {
                // Whoever does not listen any more has its reasons.
                let _ = told.send((index, message));
            });
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(run);
        let listener = Some(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
        Ok(Worker { reach: Reach::Thread { orders, wake }, listener })
    }

    /// A generator in a process of its own.
    ///
    /// # Errors
    /// It does not start; in words.
    pub fn process(index: usize, plan: &Plan, settings: &Settings, told: Sender<Told>) -> Result<Worker, String> {
        let (program, args) = settings.helper.as_ref().ok_or("no way to start helper processes was given")?;
        let failed = |error: io::Error| format!("cannot start the helper process {}: {error}", program.display());
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let mut worker = Worker { reach: Reach::Process { stdin: child.stdin.take(), child }, listener: None };
        let line = serde_json::to_string(plan).map_err(|error| failed(error.into()))?;
        worker.write(&line).map_err(failed)?;
        let listen = move || {
            let lines = stdout.map(|stdout| BufReader::new(stdout).lines());
            for message in lines.into_iter().flatten().map_while(read_message) {
                let _ = told.send((index, message));
            }
            // Behind its last word this says nothing new.
            let _ = told.send((index, Message::Failed("a helper process ended before its work was done".to_owned())));
        };
        let thread = std::thread::Builder::new().name("load-helper".to_owned()).spawn(listen);
        worker.listener = Some(thread.map_err(failed)?);
        Ok(worker)
    }

    /// Gives an order. One that is over already takes none.
    pub fn order(&mut self, order: Order) {
        match &self.reach {
            Reach::Thread { orders, wake } => {
                let _ = orders.send(order);
                let _ = wake.wake();
            }
            Reach::Process { .. } => {
                if let Ok(line) = serde_json::to_string(&order) {
                    let _ = self.write(&line);
                }
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        match &mut self.reach {
            Reach::Process { stdin: Some(stdin), .. } => {
                stdin.write_all(format!("{line}\n").as_bytes())?;
                stdin.flush()
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Worker {
    /// Ends it, whatever it is at, and waits for that.
    fn drop(&mut self) {
        self.order(Order::Quit);
        if let Reach::Process { child, stdin } = &mut self.reach {
            drop(stdin.take());
            let _ = child.wait();
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn read_message(line: io::Result<String>) -> Option<Message> {
    serde_json::from_str(&line.ok()?).ok()
}

/// What a helper process does: see the module. Returns when the work is done or nobody wants it.
///
/// # Errors
/// Its input is not what a run sends, or the system refuses; in words.
pub fn serve_helper() -> Result<(), String> {
    let mut first = String::new();
    io::stdin().read_line(&mut first).map_err(|error| format!("cannot read the plan: {error}"))?;
    let plan: Plan = serde_json::from_str(&first)
        .map_err(|error| format!("cannot read the plan: {error}; this is started by tidegate load, and not by hand"))?;
    net::connection_limit();
    let (orders, inbox) = unbounded();
    let generator = Generator::new(plan, inbox).map_err(|error| format!("cannot wait for events: {error}"))?;
    let wake = generator.wake();
    let listen = move || {
        for order in io::stdin().lines().map_while(|line| serde_json::from_str(&line.ok()?).ok()) {
            if orders.send(order).is_err() || wake.wake().is_err() {
                return;
            }
        }
        let _ = orders.send(Order::Quit);
        let _ = wake.wake();
    };
    std::thread::Builder::new().spawn(listen).map_err(|error| format!("cannot start a thread: {error}"))?;
    generator.run(&mut |message| {
        let mut stdout = io::stdout().lock();
        let written = serde_json::to_writer(&mut stdout, &message).map_err(io::Error::from);
        // If nobody reads, the input has ended too, and with it this process.
        let _ = written.and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    });
    Ok(())
}
