//! Just enough HTTP for the admin port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Status and body of a GET.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "GET", path)
}

/// Status and body of a POST without a body.
pub fn post(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "POST", path)
}

/// A connection for several requests.
pub struct Persistent(BufReader<TcpStream>);

impl Persistent {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Persistent {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Persistent(BufReader::new(stream))
    }

    /// Status and body of a GET.
    pub fn get(&mut self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "closed within {head}");
            head += &line;
        }
        let length = head.to_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head.split_whitespace().nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }
}

fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
