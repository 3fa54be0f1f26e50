//! Redis' protocol, as little of it as is needed here.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+OK`.
    Simple(String),
    /// `-ERR …`.
    Error(String),
    /// `:1`.
    Int(i64),
    /// Bytes, or nothing.
    Bulk(Option<Vec<u8>>),
    /// Several, or nothing.
    Array(Option<Vec<Value>>),
}

impl Value {
    /// The elements of an array; of nothing, none.
    pub fn into_array(self) -> Vec<Value> {
        match self {
            Value::Array(Some(values)) => values,
            _ => Vec::new(),
        }
    }

    /// The bytes of a bulk; of anything else, none.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Value::Bulk(Some(bytes)) => bytes,
            _ => Vec::new(),
        }
    }
}

/// Appends a command.
pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one reply off the front: it, and its bytes. `None`: it is not all there.
///
/// # Errors
/// It is none.
pub fn parse(input: &[u8]) -> Result<Option<(Value, usize)>> {
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let strange = || Error::new(ErrorKind::InvalidData, "no reply of Redis");
    let line = std::str::from_utf8(&input[..end]).map_err(|_| strange())?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(strange)?;
    let mut used = end + 2;
    let number = || rest.parse::<i64>().map_err(|_| strange());
    let value = match kind {
        "+" => Value::Simple(rest.to_owned()),
        "-" => Value::Error(rest.to_owned()),
        ":" => Value::Int(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Value::Bulk(None),
            Ok(len) => {
                let Some(bytes) = input.get(used..used + len + 2) else { return Ok(None) };
                used += len + 2;
                Value::Bulk(Some(bytes[..len].to_vec()))
            }
        },
        "*" => match number()? {
            ..0 => Value::Array(None),
            count => {
                let mut values = Vec::new();
                for _ in 0..count {
                    let Some((value, more)) = parse(&input[used..])? else { return Ok(None) };
                    used += more;
                    values.push(value);
                }
                Value::Array(Some(values))
            }
        },
        _ => return Err(strange()),
    };
    Ok(Some((value, used)))
}

/// A connection that waits for each reply.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    tail: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn open(address: SocketAddr, patience: Duration) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Connection { stream, tail: Vec::new() })
    }

    /// Sends a command, and waits for its reply.
    ///
    /// # Errors
    /// The connection broke, or the reply is an error.
    pub fn ask(&mut self, parts: &[&[u8]]) -> Result<Value> {
        let mut out = Vec::new();
        command(&mut out, parts);
        self.stream.write_all(&out)?;
        let mut scratch = vec![0; 256 * 1024];
        loop {
            if let Some((value, used)) = parse(&self.tail)? {
                self.tail.drain(..used);
                return match value {
                    Value::Error(text) => Err(Error::other(text)),
                    value => Ok(value),
                };
            }
            match self.stream.read(&mut scratch)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.tail.extend_from_slice(&scratch[..n]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_once_all_of_it_is_there() {
        let bytes = b"*2\r\n$3\r\na\r\n\r\n*-1\r\n+next";
        for cut in 0..bytes.len() - 5 {
            assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let (value, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(value, Value::Array(Some(vec![Value::Bulk(Some(b"a\r\n".to_vec())), Value::Array(None)])));
        assert_eq!(&bytes[used..], b"+next");
        assert!(parse(b"hello\r\n").is_err());
    }

    #[test]
    fn a_command_is_an_array_of_its_parts() {
        let mut out = Vec::new();
        command(&mut out, &[b"GET", b"k"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
