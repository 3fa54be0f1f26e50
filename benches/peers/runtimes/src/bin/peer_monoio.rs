//! monoio: a task for each connection on io_uring, buffers owned by the operation.

use std::io::Result;
use std::net;
use std::process::ExitCode;

use clap::Parser;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use runtimes::Args;

fn main() -> ExitCode {
    let Args { flags, buffer } = Args::parse();
    peers::serve::run("monoio", &flags, move |listener| {
        RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(serve(listener, buffer))
    })
}

async fn serve(listener: net::TcpListener, buffer: usize) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A broken connection concerns nobody else.
        monoio::spawn(async move { echo(stream, buffer).await.ok() });
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> Result<()> {
    let mut bytes = Vec::with_capacity(buffer);
    loop {
        let (read, back) = stream.read(bytes).await;
        if read? == 0 {
            return Ok(());
        }
        let (written, back) = stream.write_all(back).await;
        written?;
        bytes = back;
        bytes.clear();
    }
}
