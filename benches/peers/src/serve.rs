//! What the echo servers here have in common: flags, listeners, pinned threads, the first line.

use std::io::{Error, Read, Result};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use crate::net;

/// Flags of every echo server.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// Address to listen on; port 0: the system chooses
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Threads, each with its own listener
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// CPUs to pin them to, in turn, such as 0,1
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// End when standard input ends
    #[arg(long)]
    pub until_stdin_ends: bool,
}

/// Runs `serve` on each thread, with a non-blocking listener of its own; says `NAME listens on
/// ADDRESS` first. Ends with an error, when standard input does, or when every thread has.
pub fn run<F>(name: &str, flags: &Flags, serve: F) -> ExitCode
where
    F: Fn(TcpListener) -> Result<()> + Clone + Send + 'static,
{
    match try_run(name, flags, serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run<F>(name: &str, flags: &Flags, serve: F) -> Result<()>
where
    F: Fn(TcpListener) -> Result<()> + Clone + Send + 'static,
{
    net::raise_descriptor_limit();
    let mut address = flags.listen;
    let mut threads = Vec::new();
    for index in 0..flags.threads.max(1) {
        let listener = net::listen(address, 4096)?;
        address = net::local_address(&listener)?;
        let cpu = (!flags.cpus.is_empty()).then(|| flags.cpus[index % flags.cpus.len()]);
        let serve = serve.clone();
        let main = move || {
            if let Some(cpu) = cpu {
                net::pin(cpu)?;
            }
            serve(listener.into())
        };
        threads.push(std::thread::Builder::new().name(format!("{name}-{index}")).spawn(main)?);
    }
    println!("{name} listens on {address}");
    if flags.until_stdin_ends {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    for thread in threads {
        thread.join().map_err(|_| Error::other("a thread panicked"))??;
    }
    Ok(())
}
