//! Asks a process over HTTP whether it is ready. Plain and blocking: it runs a few times at start, never later.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ASK_MS_MAX: u64 = 1_000;
const ANSWER_BYTES_MAX: u64 = 4_096;

/// True where `GET path` is answered with status 200.
pub fn is_ready(address: SocketAddr, path: &str) -> bool {
    ask(address, path).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_millis(ASK_MS_MAX);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
