//! tokio: a task for each connection, on a current-thread runtime for each thread.

use std::io::Result;
use std::net;
use std::process::ExitCode;

use clap::Parser;
use runtimes::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> ExitCode {
    let Args { flags, buffer } = Args::parse();
    peers::serve::run("tokio", &flags, move |listener| {
        tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(listener, buffer))
    })
}

async fn serve(listener: net::TcpListener, buffer: usize) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A broken connection concerns nobody else.
        tokio::spawn(async move { echo(stream, buffer).await.ok() });
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> Result<()> {
    let mut bytes = vec![0; buffer];
    loop {
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..n]).await?;
    }
}
