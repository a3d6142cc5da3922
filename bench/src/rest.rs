//! HTTP calls: blocking, one connection each; and the figures that a process serves.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The longest that a call may take between two steps of it, s.
pub const CALL_S_MAX: u64 = 10;

/// One call; the answer's status and body.
///
/// # Errors
/// Nobody answers within [`CALL_S_MAX`], or what comes is no HTTP.
pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<(u16, String)> {
    let limit = Duration::from_secs(CALL_S_MAX);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let bearer = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{bearer}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("{method} {path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{method} {path}: expected an HTTP answer, found {answer:?}");
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Ok((status.context("an HTTP status")?, body))
}

/// One call whose answer is JSON.
///
/// # Errors
/// As [`call`], and any status but 2xx.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let (status, text) = call(address, method, path, token, body)?;
    ensure!(
        (200..300).contains(&status),
        "{method} {path}: {status} {text}"
    );
    serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text:?}"))
}

fn unchunk(mut text: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        whole.push_str(rest.get(..size).unwrap_or(rest));
        text = rest.get(size + 2..).unwrap_or("");
    }
    whole
}

/// What a process serves at `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks a process for them.
    ///
    /// # Errors
    /// As [`call`], and any status but 200.
    pub fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let (status, text) = call(address, "GET", "/metrics", None, None)?;
        ensure!(status == 200, "{address}/metrics: {status} {text}");
        Ok(Self::parse(&text))
    }

    /// Reads the Prometheus text format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            let is_comment = name.starts_with('#');
            (!is_comment).then(|| Some((name.to_owned(), value.parse().ok()?)))?
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The figure of exactly that name, labels included.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// The figures of that name added up over all labels.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |key: &str| {
            key.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0
            .iter()
            .filter(|(key, _)| of_name(key))
            .map(|(_, value)| value)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_name_and_added_up_over_labels() {
        let metrics = Metrics::parse("# HELP x y\nx{a=\"1\"} 2\nx{a=\"2\"} 3\nxy 9\nz 1.5\n");
        assert_eq!(metrics.get("x{a=\"2\"}"), Some(3.0));
        assert!((metrics.sum("x") - 5.0).abs() < f64::EPSILON);
        assert_eq!(metrics.get("z"), Some(1.5));
    }
}
