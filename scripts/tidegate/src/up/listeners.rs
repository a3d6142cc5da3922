//! The listening sockets, bound here and inherited by the processes: their backlog outlives any of them.

use std::net::{SocketAddr, TcpListener};

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use rustix::io::Errno;
use tidegate_gateway::listener;

/// How many ports after the wished one are tried when nobody insisted on it.
const NEXT_PORTS_MAX: u16 = 20;

/// Whether another port will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The operator named it: in use is an error.
    Insisted,
    /// A default: the next free one is as good.
    Preferred,
}

/// How many sockets of one SO_REUSEPORT group, and how many connections the kernel holds at each until they are
/// accepted.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub sockets: usize,
    pub backlog_connections: u32,
}

/// Binds a group to the address, or to the next free port.
pub fn bind(
    wish: SocketAddr,
    group: Group,
    port: Port,
    flag: &str,
) -> Result<(SocketAddr, Vec<TcpListener>)> {
    let last = match port {
        Port::Insisted => wish.port(),
        Port::Preferred => wish.port().saturating_add(NEXT_PORTS_MAX),
    };
    for number in wish.port()..=last {
        let address = SocketAddr::new(wish.ip(), number);
        let error = match bind_group(address, group) {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => {}
            Some(Errno::ACCESS) => {
                bail!(
                    "port {number} needs privileges; choose one above 1023: {flag} {}:8600",
                    wish.ip()
                )
            }
            Some(Errno::ADDRNOTAVAIL) => {
                bail!(
                    "{} is no address of this machine; see `ip address`, then: {flag} ADDRESS:PORT",
                    wish.ip()
                )
            }
            _ => bail!("cannot listen on {address}: {error}"),
        }
    }
    if last > wish.port() {
        bail!(
            "ports {} to {last} are all in use; name a free one: {flag} {}:PORT",
            wish.port(),
            wish.ip()
        );
    }
    bail!(
        "port {} is in use (`ss -ltnp 'sport = :{}'` shows by whom); name another: {flag} {}:PORT",
        wish.port(),
        wish.port(),
        wish.ip()
    );
}

fn bind_group(address: SocketAddr, group: Group) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // A socket without SO_REUSEPORT is refused where anybody else listens, even another group of the same user:
    // joining a stranger's group would give it half of our visitors.
    let probe: OwnedFd = listener::bind(address, 1, false)?;
    let address = TcpListener::from(probe).local_addr()?;
    let sockets = (0..group.sockets)
        .map(|_| listener::bind(address, group.backlog_connections, true).map(TcpListener::from));
    Ok((address, sockets.collect::<io::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    fn group(sockets: usize) -> Group {
        Group {
            sockets,
            backlog_connections: 16,
        }
    }

    #[test]
    fn a_group_shares_one_port() {
        let (address, group) = bind(
            ANY.parse().expect("an address"),
            group(3),
            Port::Preferred,
            "--listen",
        )
        .expect("binds");
        assert_eq!(group.len(), 3);
        assert!(
            group
                .iter()
                .all(|socket| socket.local_addr().is_ok_and(|bound| bound == address))
        );
    }

    #[test]
    fn a_preferred_port_in_use_gives_the_next_free_one() {
        let (taken, _hold) = bind(
            ANY.parse().expect("an address"),
            group(1),
            Port::Preferred,
            "--listen",
        )
        .expect("binds");
        let (given, _group) =
            bind(taken, group(1), Port::Preferred, "--listen").expect("another port is free");
        assert!(given.port() > taken.port());
    }

    #[test]
    fn an_insisted_port_in_use_is_refused_with_the_flag_to_type() {
        let (taken, _hold) = bind(
            ANY.parse().expect("an address"),
            group(1),
            Port::Preferred,
            "--listen",
        )
        .expect("binds");
        let error = bind(taken, group(1), Port::Insisted, "--listen")
            .expect_err("the port is taken")
            .to_string();
        assert!(
            error.contains("in use") && error.contains("--listen"),
            "{error}"
        );
    }
}
