//! The server under question, as its URL names it.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Where a WebSocket is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The first address that the host's name has.
    pub address: SocketAddr,
    /// Host and port as the Host header names them.
    pub host: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `ws://host:port/path`; the port may be missing (80), and so may the path.
    ///
    /// # Errors
    /// When it is no such URL, or the host has no address.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("ws://") else {
            bail!(
                "{url} is no ws:// URL: type, for example, ws://127.0.0.1:9001/ (TLS ends in front of Tidegate)"
            );
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = if host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("{host} has no address"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        Ok(Self {
            address,
            host: host.to_owned(),
            path: format!("/{path}"),
        })
    }

    /// The URL again.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_address_host_and_path() {
        let target = Target::parse("ws://127.0.0.1:9001/ws?a=b").unwrap();
        assert_eq!(target.address, "127.0.0.1:9001".parse().unwrap());
        assert_eq!(
            (target.host.as_str(), target.path.as_str()),
            ("127.0.0.1:9001", "/ws?a=b")
        );
        assert_eq!(target.url(), "ws://127.0.0.1:9001/ws?a=b");
        let bare = Target::parse("ws://[::1]").unwrap();
        assert_eq!(
            (bare.address, bare.path.as_str()),
            ("[::1]:80".parse().unwrap(), "/")
        );
        assert!(
            Target::parse("wss://shop.example/")
                .unwrap_err()
                .to_string()
                .contains("ws://127.0.0.1:9001/")
        );
    }
}
