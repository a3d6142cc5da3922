//! Listening sockets: bound here, one per shard on the same port (SO_REUSEPORT), or inherited from `tidegate up` or
//! systemd. An inherited socket outlives this process with
//! its backlog: a successor takes over and nobody is refused.
//!
//! Accepted sockets inherit the options that are set here, so that accepting costs no further system call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::config::Config;
use crate::start::StartError;

/// Probes before a silent peer is given up.
const KEEPALIVE_PROBES: u32 = 3;

/// The listeners of each shard: the inherited ones, or one bound for each.
///
/// # Errors
/// When the address can't be bound.
pub fn for_shards(
    config: &Config,
    inherited: Vec<OwnedFd>,
    shards: u16,
) -> Result<(Vec<Vec<OwnedFd>>, SocketAddr), StartError> {
    let shards = usize::from(shards);
    let mut listeners = inherited;
    if listeners.is_empty() {
        let mut address = config.listen;
        if in_use_by_another(address) {
            let in_use = io::Error::from_raw_os_error(libc::EADDRINUSE);
            return Err(StartError::bind(address, &in_use));
        }
        for _ in 0..shards {
            let socket = bind(address, config.listen_backlog, true)
                .map_err(|error| StartError::bind(address, &error))?;
            // Port 0: the others take the port that the first was given.
            address = local_address(&socket).unwrap_or(address);
            listeners.push(socket);
        }
    }
    let address = local_address(&listeners[0]).unwrap_or(config.listen);
    for socket in &listeners {
        tune(socket, config);
        let _ = rustix::io::ioctl_fionbio(socket, true);
    }
    let mut per_shard: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    // Fewer sockets than shards: shards share one; it has one backlog, and whoever comes first takes.
    for shard in listeners.len()..shards {
        let shared = &listeners[shard % listeners.len()];
        let copy = rustix::io::fcntl_dupfd_cloexec(shared, 0).map_err(|error| {
            StartError::Descriptors {
                detail: error.to_string(),
            }
        })?;
        per_shard[shard].push(copy);
    }
    for (index, socket) in listeners.into_iter().enumerate() {
        per_shard[index % shards].push(socket);
    }
    Ok((per_shard, address))
}

/// A listening socket. `shared`: others may bind the same port (SO_REUSEPORT).
///
/// # Errors
/// What the system calls say.
pub fn bind(address: SocketAddr, backlog: u32, shared: bool) -> io::Result<OwnedFd> {
    let socket = bound(address, shared)?;
    net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// SO_REUSEPORT would let two gateways of one user share a port without noticing: a port that somebody listens on shows
/// when it is bound plainly. Nothing listens here meanwhile, so that no peer meets it.
fn in_use_by_another(address: SocketAddr) -> bool {
    address.port() != 0
        && bound(address, false).is_err_and(|error| error.raw_os_error() == Some(libc::EADDRINUSE))
}

/// Options that accepted sockets inherit. An inherited socket gets them too; where one is refused (a Unix socket in a
/// test), the connection only lacks it.
fn tune(socket: &OwnedFd, config: &Config) {
    let keepalive = Duration::from_secs(u64::from(config.tcp_keepalive_s.max(1)));
    let _ = sockopt::set_tcp_nodelay(socket, true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, keepalive);
    let _ = sockopt::set_tcp_keepintvl(socket, keepalive.div_f32(4.0).max(Duration::from_secs(1)));
    let _ = sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES);
    let _ = sockopt::set_tcp_user_timeout(socket, config.tcp_user_timeout_ms);
}

/// The address that a socket is bound to.
#[must_use]
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(net::getsockname(socket).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_inherits_the_options_of_its_listener() {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let (mut shards, address) = for_shards(&config, Vec::new(), 1).unwrap();
        let listener = std::net::TcpListener::from(shards.pop().unwrap().pop().unwrap());
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap().as_secs(), 60);
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 30_000);
    }

    #[test]
    fn each_shard_gets_a_listener_however_many_were_inherited() {
        let config = Config::default();
        let inherited = |count: usize| -> Vec<OwnedFd> {
            let address = "127.0.0.1:0".parse().unwrap();
            (0..count)
                .map(|_| bind(address, 16, true).unwrap())
                .collect()
        };
        for (sockets, shards, expected) in [(1, 3, 3), (3, 1, 3), (2, 2, 2), (5, 2, 5)] {
            let (per_shard, _) = for_shards(&config, inherited(sockets), shards).unwrap();
            assert!(per_shard.iter().all(|listeners| !listeners.is_empty()));
            assert_eq!(per_shard.iter().map(Vec::len).sum::<usize>(), expected);
        }
    }
}
