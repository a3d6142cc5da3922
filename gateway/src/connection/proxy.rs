//! The PROXY protocol's version 2 header, as a trusted proxy writes it in front of the connection
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2).
//!
//! ```text
//!  0                       12        13        14            16
//!  ├───────────────────────┼─────────┼─────────┼─────────────┼────────── … ┤
//!  │ signature             │ 2 | cmd │ family  │ length (BE) │ addresses, TLVs
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// Addresses and TLVs of a header that is believed; proxies send a few hundred bytes at most.
pub const TAIL_BYTES_MAX: usize = 2_048;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// They could become a header: wait for more.
    Incomplete,
    /// They are no header: the peer speaks for itself.
    Absent,
    /// A whole header.
    Header {
        /// Its length.
        bytes: usize,
        /// Whom the proxy speaks for; absent for the proxy's own health checks and families without ports.
        client: Option<SocketAddr>,
    },
    /// The signature, then something that is no valid header.
    Malformed,
}

/// Looks for a header at the front of `bytes`.
pub fn parse(bytes: &[u8]) -> Proxy {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Proxy::Absent;
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Proxy::Incomplete;
    };
    let [version_command, family] = [fixed[12], fixed[13]];
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version_command >> 4 != 2 || version_command & 0xF > 1 || length > TAIL_BYTES_MAX {
        return Proxy::Malformed;
    }
    let Some(tail) = rest.get(..length) else {
        return Proxy::Incomplete;
    };
    let client = match (version_command & 0xF, family) {
        (0, _) => None,
        (_, 0x11) => match v4(tail) {
            None => return Proxy::Malformed,
            client => client,
        },
        (_, 0x21) => match v6(tail) {
            None => return Proxy::Malformed,
            client => client,
        },
        _ => None,
    };
    Proxy::Header {
        bytes: FIXED_BYTES + length,
        client,
    }
}

fn v4(tail: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = tail.split_first_chunk::<4>()?;
    let port = rest.get(4..6)?;
    Some(SocketAddr::from((
        Ipv4Addr::from(*address),
        u16::from_be_bytes([port[0], port[1]]),
    )))
}

fn v6(tail: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = tail.split_first_chunk::<16>()?;
    let port = rest.get(16..18)?;
    Some(SocketAddr::from((
        Ipv6Addr::from(*address),
        u16::from_be_bytes([port[0], port[1]]),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(tail.len()).unwrap().to_be_bytes());
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn an_ipv4_and_an_ipv6_client_come_out_with_their_ports() {
        let v4 = header(1, 0x11, &[203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80]);
        assert_eq!(
            parse(&v4),
            Proxy::Header {
                bytes: 28,
                client: Some("203.0.113.7:12345".parse().unwrap())
            }
        );
        let mut tail = [0; 40];
        tail[15] = 1;
        tail[32..36].copy_from_slice(&[0x30, 0x39, 0, 80]);
        assert_eq!(
            parse(&header(1, 0x21, &tail[..36])),
            Proxy::Header {
                bytes: 52,
                client: Some("[::1]:12345".parse().unwrap())
            }
        );
    }

    #[test]
    fn every_prefix_of_a_header_waits_for_more() {
        let whole = header(1, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2]);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Proxy::Incomplete, "{end} bytes");
        }
    }

    #[test]
    fn an_upgrade_request_is_no_header() {
        assert_eq!(parse(b"GET /ws HTTP/1.1\r\n"), Proxy::Absent);
    }

    #[test]
    fn bad_versions_commands_and_lengths_are_malformed() {
        let mut version = header(1, 0x11, &[0; 12]);
        version[12] = 0x11;
        assert_eq!(parse(&version), Proxy::Malformed);
        assert_eq!(parse(&header(2, 0x11, &[0; 12])), Proxy::Malformed);
        assert_eq!(parse(&header(1, 0x11, &[0; 5])), Proxy::Malformed);
        assert_eq!(
            parse(&header(1, 0x11, &[0; TAIL_BYTES_MAX + 1])),
            Proxy::Malformed
        );
    }

    #[test]
    fn a_health_check_of_the_proxy_names_no_client() {
        assert_eq!(
            parse(&header(0, 0, &[])),
            Proxy::Header {
                bytes: 16,
                client: None
            }
        );
    }
}
