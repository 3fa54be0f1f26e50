//! tokio that parses: a `tokio_util` codec for the protocol's header, READY for AUTH, frames echoed.

use std::io::{Error, ErrorKind, Result};
use std::net;
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures_util::StreamExt;
use runtimes::Args;
use tidegate::proto::{AuthReady, Command, HEADER_LEN};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder, Framed};

const MAGIC: u8 = 0x4D;
/// Offset of `cmd` in the header.
const CMD: usize = 8;

fn main() -> ExitCode {
    let Args { flags, buffer } = Args::parse();
    peers::serve::run("tokio-framed", &flags, move |listener| {
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

/// `forward` flushes when no further frame is there: what came in one read is answered by one write.
async fn echo(stream: TcpStream, buffer: usize) -> Result<()> {
    let mut framed = Framed::with_capacity(stream, Mcp, buffer);
    framed.set_backpressure_boundary(buffer);
    let (sink, frames) = framed.split();
    frames.map(|frame| Ok(answer(frame?))).forward(sink).await
}

fn answer(frame: Bytes) -> Bytes {
    if frame[CMD] != Command::AUTH.0 {
        return frame;
    }
    let seq = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let mut ready = Vec::new();
    AuthReady { session: [0; 16], resumed: false, heartbeat_ms: 30_000, max_payload: 65_535, session_ttl_s: 300 }
        .encode(&mut ready, seq);
    ready.into()
}

/// Frames as they are on the wire.
struct Mcp;

impl Decoder for Mcp {
    type Item = Bytes;
    type Error = Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Bytes>> {
        if bytes.len() < HEADER_LEN {
            return Ok(None);
        }
        if bytes[0] != MAGIC {
            return Err(Error::new(ErrorKind::InvalidData, "no frame"));
        }
        let whole = HEADER_LEN + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        if bytes.len() < whole {
            bytes.reserve(whole - bytes.len());
            return Ok(None);
        }
        Ok(Some(bytes.split_to(whole).freeze()))
    }
}

impl Encoder<Bytes> for Mcp {
    type Error = Error;

    fn encode(&mut self, frame: Bytes, out: &mut BytesMut) -> Result<()> {
        out.extend_from_slice(&frame);
        Ok(())
    }
}
