//! smol: a task for each connection on a local executor, over the one reactor of async-io.

use std::io::Result;
use std::net;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use runtimes::Args;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};

fn main() -> ExitCode {
    let Args { flags, buffer } = Args::parse();
    peers::serve::run("smol", &flags, move |listener| {
        let executor = Rc::new(LocalExecutor::new());
        smol::block_on(executor.run(serve(listener, buffer, Rc::clone(&executor))))
    })
}

async fn serve(listener: net::TcpListener, buffer: usize, executor: Rc<LocalExecutor<'_>>) -> Result<()> {
    let listener = Async::new(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A broken connection concerns nobody else.
        executor.spawn(async move { echo(stream, buffer).await.ok() }).detach();
    }
}

async fn echo(mut stream: Async<net::TcpStream>, buffer: usize) -> Result<()> {
    let mut bytes = vec![0; buffer];
    loop {
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..n]).await?;
    }
}
