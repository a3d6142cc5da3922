//! Proxies whose word about the client's address is believed.

use std::net::IpAddr;

/// Networks of trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug)]
struct Network {
    address: u128,
    prefix: u8,
    v4: bool,
}

impl TrustedProxies {
    /// Reads addresses (`10.1.2.3`, `::1`) and networks (`10.0.0.0/8`).
    ///
    /// # Errors
    /// The entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        entries
            .iter()
            .map(|entry| Network::parse(entry).ok_or_else(|| entry.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// True if nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client that an `X-Forwarded-For` chain names, read from its end: the first address that is no trusted
    /// proxy. What stands before it could be the client's invention.
    #[must_use]
    pub fn client(&self, forwarded_for: &str) -> Option<IpAddr> {
        let mut last = None;
        for entry in forwarded_for.rsplit(',') {
            let address = address(entry.trim())?;
            last = Some(address);
            if !self.contains(address) {
                break;
            }
        }
        last
    }
}

fn address(entry: &str) -> Option<IpAddr> {
    // Some proxies write a port: 192.0.2.1:4711, [::1]:4711.
    entry.parse().ok().or_else(|| {
        entry
            .parse()
            .ok()
            .map(|with_port: std::net::SocketAddr| with_port.ip())
    })
}

impl Network {
    fn parse(entry: &str) -> Option<Self> {
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return None;
        }
        // `::ffff:10.0.0.0/104` is 10.0.0.0/8: addresses are looked up in their short form.
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(96)) {
            (short @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => (short, prefix),
            _ => (address, prefix),
        };
        Some(Self {
            address: left_aligned(address),
            prefix,
            v4: address.is_ipv4(),
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differing = self.address ^ left_aligned(address);
        self.v4 == address.is_ipv4() && differing.leading_zeros() >= u32::from(self.prefix)
    }
}

fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(entries: &[&str]) -> TrustedProxies {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        TrustedProxies::parse(&entries).unwrap()
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let proxies = trusted(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.1.1.1"] {
            assert!(proxies.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1"] {
            assert!(!proxies.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(trusted(&["0.0.0.0/0"]).contains("8.8.8.8".parse().unwrap()));
        let mapped = trusted(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.7"]);
        assert!(mapped.contains("10.1.1.1".parse().unwrap()));
        assert!(mapped.contains("192.0.2.7".parse().unwrap()));
        assert!(!mapped.contains("11.1.1.1".parse().unwrap()));
    }

    #[test]
    fn bad_entries_are_named() {
        for bad in ["10.0.0.0/33", "localhost", "", "1.2.3"] {
            assert_eq!(TrustedProxies::parse(&[bad.to_owned()]).unwrap_err(), bad);
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        let proxies = trusted(&["10.0.0.0/8"]);
        let client = |chain| proxies.client(chain).map(|ip| ip.to_string());
        assert_eq!(client("203.0.113.9"), Some("203.0.113.9".into()));
        assert_eq!(
            client("6.6.6.6, 203.0.113.9, 10.0.0.1"),
            Some("203.0.113.9".into()),
            "what the client wrote itself is not believed"
        );
        assert_eq!(client("10.0.0.2, 10.0.0.1"), Some("10.0.0.2".into()));
        assert_eq!(client("203.0.113.9:81"), Some("203.0.113.9".into()));
        assert_eq!(client("unknown"), None);
    }
}
