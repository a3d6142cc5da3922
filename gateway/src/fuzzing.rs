//! The bodies of the fuzz targets with what they assert: what a proxy says of its clients, before anybody is believed.

use std::net::IpAddr;

use crate::connection::proxy::{Proxy, parse};
use crate::trusted::TrustedProxies;

/// A body: bytes in, a panic where something does not hold.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[
    ("forwarded_for", forwarded_for),
    ("proxy_header", proxy_header),
];

/// The PROXY header of a connection: a header is whole at one byte and not before, whatever follows it.
pub fn proxy_header(input: &[u8]) {
    match parse(input) {
        Proxy::Header { bytes, client } => {
            assert!(bytes <= input.len());
            let whole = Proxy::Header { bytes, client };
            assert_eq!(
                parse(&input[..bytes]),
                whole,
                "what follows is no part of it"
            );
            for there in 0..bytes {
                assert_eq!(
                    parse(&input[..there]),
                    Proxy::Incomplete,
                    "{there} of {bytes}"
                );
            }
        }
        Proxy::Incomplete => {
            // It may become anything but the peer's own words.
            let longer = [input, &[0; 32]].concat();
            assert!(input.is_empty() || parse(&longer[..input.len()]) == Proxy::Incomplete);
        }
        found @ (Proxy::Absent | Proxy::Malformed) => {
            let longer = [input, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&longer), found, "more bytes mend nothing");
        }
    }
}

/// Trusted networks, a line each, then an `X-Forwarded-For` chain: the client is the last address that is no proxy, and
/// nothing that stands before it matters.
pub fn forwarded_for(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else {
        return;
    };
    let (networks, chain) = text.rsplit_once('\n').unwrap_or(("", text));
    let entries: Vec<String> = networks.lines().map(str::to_owned).collect();
    let trusted = match TrustedProxies::parse(&entries) {
        Ok(trusted) => trusted,
        Err(entry) => {
            assert!(entries.contains(&entry), "the entry at fault is named");
            return;
        }
    };
    assert_eq!(trusted.is_empty(), entries.is_empty());
    for entry in &entries {
        let address = entry
            .split('/')
            .next()
            .and_then(|text| text.parse::<IpAddr>().ok());
        let address = address.expect("an entry that was taken begins with an address");
        // A network wider than all of IPv4 that begins within it is none that anybody has.
        let odd = address.is_ipv6() && address.to_canonical().is_ipv4() && entry.contains('/');
        assert!(
            odd || trusted.contains(address),
            "{entry} holds its own address"
        );
    }
    let client = trusted.client(chain);
    assert_eq!(
        trusted.client(&format!("6.6.6.6, {chain}")).is_some(),
        client.is_some()
    );
    if let Some(client) = client
        && !trusted.contains(client)
    {
        let invented = format!("192.0.2.66, {chain}");
        assert_eq!(
            trusted.client(&invented),
            Some(client),
            "the client's invention"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_fails_on_arbitrary_bytes(bytes: Vec<u8>) {
            for (_, body) in BODIES {
                body(&bytes);
            }
        }

        #[test]
        fn no_body_fails_on_what_resembles_a_chain(text in "[0-9a-f:./, \\[\\]\n]{0,60}") {
            forwarded_for(text.as_bytes());
        }
    }
}
