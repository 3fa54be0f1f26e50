//! compio: a task for each connection on io_uring, completions on a thread's own proactor.

use std::io::Result;
use std::net;
use std::process::ExitCode;

use clap::Parser;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use runtimes::Args;

fn main() -> ExitCode {
    let Args { flags, buffer } = Args::parse();
    peers::serve::run("compio", &flags, move |listener| Runtime::new()?.block_on(serve(listener, buffer)))
}

async fn serve(listener: net::TcpListener, buffer: usize) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A broken connection concerns nobody else.
        compio::runtime::spawn(async move { echo(stream, buffer).await.ok() }).detach();
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> Result<()> {
    let mut bytes = Vec::with_capacity(buffer);
    loop {
        let (read, back) = stream.read(bytes).await.into();
        if read? == 0 {
            return Ok(());
        }
        let (written, back) = stream.write_all(back).await.into();
        written?;
        bytes = back;
        bytes.clear();
    }
}
