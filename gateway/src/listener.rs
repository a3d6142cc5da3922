//! Listening sockets: bound here, one per shard on the same port (SO_REUSEPORT), or inherited from `tidegate up` or
//! systemd. An inherited socket outlives this process with its backlog: a successor takes over and nobody is refused.
//!
//! The kernel spreads newcomers over the sockets of a port by hash, whoever waits at them. So each shard accepts from
//! sockets of its own, and looks after its siblings' ([`Siblings`](crate::driver::siblings::Siblings)): whoever was
//! given to a gateway that is stopped, full or between two lives is let in by another.
//!
//! Accepted sockets inherit the options that are set here, so that accepting costs no further system call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::config::Config;
use crate::start::StartError;

/// Probes before a silent peer is given up.
const KEEPALIVE_PROBES: u32 = 3;
/// A rush fills a shorter listen queue before a busy shard comes round to it.
const BACKLOG_CONNECTIONS_MIN: u32 = 4_096;

/// The sockets that a process was given.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Its own; none: it binds them.
    pub own: Vec<OwnedFd>,
    /// Those of other processes on the same port.
    pub siblings: Vec<OwnedFd>,
}

impl Inherited {
    /// How many descriptors they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.siblings.len()
    }

    /// True if all is to be bound here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The sockets of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardListeners {
    /// It accepts from these.
    pub own: Vec<Arc<OwnedFd>>,
    /// The other shards', of this process and of others: it helps there.
    pub siblings: Vec<Arc<OwnedFd>>,
}

/// The listeners of each shard: the inherited ones, or one bound for each.
///
/// # Errors
/// When the address can't be bound.
pub fn for_shards(
    config: &Config,
    inherited: Inherited,
    shards: u16,
) -> Result<(Vec<ShardListeners>, SocketAddr), StartError> {
    warn_of_short_backlog(config.listen_backlog);
    let shards = usize::from(shards);
    let Inherited { mut own, siblings } = inherited;
    if own.is_empty() {
        own = bind_each(config, shards)?;
    }
    let address = local_address(&own[0]).unwrap_or(config.listen);
    for socket in own.iter().chain(&siblings) {
        tune(socket, config);
        let _ = rustix::io::ioctl_fionbio(socket, true);
    }
    for socket in &own {
        // Whoever made it may have asked for a shorter queue; asking again only sets its length.
        let _ = net::listen(socket, backlog(config.listen_backlog));
    }
    let own: Vec<Arc<OwnedFd>> = own.into_iter().map(Arc::new).collect();
    let siblings: Vec<Arc<OwnedFd>> = siblings.into_iter().map(Arc::new).collect();
    let per_shard = (0..shards).map(|shard| {
        // Fewer sockets than shards: shards share one; it has one backlog, and whoever comes first takes.
        let is_its = |index: usize| index % shards == shard || index == shard % own.len();
        let (its, others): (Vec<_>, Vec<_>) = (0..own.len()).partition(|&index| is_its(index));
        let pick = |indices: Vec<usize>| indices.into_iter().map(|index| Arc::clone(&own[index]));
        ShardListeners {
            own: pick(its).collect(),
            siblings: pick(others).chain(siblings.iter().cloned()).collect(),
        }
    });
    Ok((per_shard.collect(), address))
}

fn bind_each(config: &Config, shards: usize) -> Result<Vec<OwnedFd>, StartError> {
    let mut address = config.listen;
    if in_use_by_another(address) {
        let in_use = io::Error::from_raw_os_error(libc::EADDRINUSE);
        return Err(StartError::bind(address, &in_use));
    }
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = bind(address, config.listen_backlog, true)
            .map_err(|error| StartError::bind(address, &error))?;
        // Port 0: the others take the port that the first was given.
        address = local_address(&socket).unwrap_or(address);
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A listening socket. `shared`: others may bind the same port (SO_REUSEPORT).
///
/// # Errors
/// What the system calls say.
pub fn bind(address: SocketAddr, backlog_connections: u32, shared: bool) -> io::Result<OwnedFd> {
    let socket = bound(address, shared)?;
    net::listen(&socket, backlog(backlog_connections))?;
    Ok(socket)
}

fn backlog(connections: u32) -> i32 {
    i32::try_from(connections).unwrap_or(i32::MAX)
}

/// The kernel cuts a listen queue to net.core.somaxconn without a word.
fn warn_of_short_backlog(wanted: u32) {
    let Some(allowed) = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse().ok())
    else {
        return;
    };
    if let Some(sentence) = short_backlog(wanted, allowed) {
        tracing::warn!("{sentence}");
    }
}

fn short_backlog(wanted: u32, allowed: u32) -> Option<String> {
    let effect = "a rush of visitors overflows it, and those wait a second and more for the kernel's next try";
    if wanted.min(allowed) >= BACKLOG_CONNECTIONS_MIN {
        None
    } else if wanted <= allowed {
        Some(format!(
            "listen_backlog = {wanted}: {effect}; set {BACKLOG_CONNECTIONS_MIN} or more"
        ))
    } else {
        Some(format!(
            "this machine cuts listen queues to {allowed} connections (net.core.somaxconn): {effect}; type \
             `sudo sysctl net.core.somaxconn={BACKLOG_CONNECTIONS_MIN}`, then start again"
        ))
    }
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

/// How long the kernel waits for an acknowledgement, of data or of its probes, before it gives a peer up. Not less than all
/// probes take: where a user timeout is set the kernel counts no probes, so that a shorter one would give up a healthy
/// peer as soon as one probe is lost.
fn user_timeout_ms(keepalive: Duration, interval: Duration) -> u32 {
    let whole = keepalive + interval * KEEPALIVE_PROBES;
    u32::try_from(whole.as_millis()).unwrap_or(u32::MAX)
}

/// Options that accepted sockets inherit. An inherited socket gets them too; where one is refused (a Unix socket in a
/// test), the connection only lacks it.
fn tune(socket: &OwnedFd, config: &Config) {
    let keepalive = Duration::from_secs(u64::from(config.tcp_keepalive_s.max(1)));
    let interval = (keepalive / 4).max(Duration::from_secs(1));
    let _ = sockopt::set_tcp_nodelay(socket, true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, keepalive);
    let _ = sockopt::set_tcp_keepintvl(socket, interval);
    let _ = sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES);
    let _ = sockopt::set_tcp_user_timeout(socket, user_timeout_ms(keepalive, interval));
}

/// The address that a socket is bound to.
#[must_use]
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(net::getsockname(socket).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn sockets(count: usize, backlog: u32) -> Vec<OwnedFd> {
        let mut address = "127.0.0.1:0".parse().unwrap();
        (0..count)
            .map(|_| {
                let socket = bind(address, backlog, true).unwrap();
                address = local_address(&socket).unwrap();
                socket
            })
            .collect()
    }

    #[test]
    fn what_is_accepted_inherits_the_options_of_its_listener() {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let (shards, address) = for_shards(&config, Inherited::default(), 1).unwrap();
        let listener = shards[0].own[0].try_clone().unwrap();
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        let idle = sockopt::tcp_keepidle(&accepted).unwrap();
        assert!(idle > Duration::from_millis(config.heartbeat_ms_max.into()));
        let interval = sockopt::tcp_keepintvl(&accepted).unwrap();
        let probes = sockopt::tcp_keepcnt(&accepted).unwrap();
        let given_up = sockopt::tcp_user_timeout(&accepted).unwrap();
        assert!(probes > 1, "one lost packet must not end a connection");
        assert_eq!(
            Duration::from_millis(given_up.into()),
            idle + interval * probes
        );
    }

    #[test]
    fn each_shard_accepts_from_a_socket_and_helps_at_all_that_are_not_its_own() {
        for (own, shards) in [(1, 3), (3, 1), (2, 2), (5, 2), (2, 5)] {
            let inherited = Inherited {
                own: sockets(own, 16),
                siblings: sockets(4, 16),
            };
            let (per_shard, _) = for_shards(&Config::default(), inherited, shards).unwrap();
            assert_eq!(per_shard.len(), usize::from(shards));
            let mut owned = Vec::new();
            for listeners in &per_shard {
                assert!(!listeners.own.is_empty());
                assert_eq!(listeners.own.len() + listeners.siblings.len(), own + 4);
                owned.extend(listeners.own.iter().map(Arc::as_ptr));
            }
            owned.sort_unstable();
            owned.dedup();
            assert_eq!(owned.len(), own, "nobody accepts from one of them");
        }
    }

    #[test]
    fn an_inherited_socket_with_a_short_queue_gets_the_one_that_is_configured() {
        let config = Config::default();
        let inherited = Inherited {
            own: sockets(1, 1),
            siblings: Vec::new(),
        };
        let (_shards, address) = for_shards(&config, inherited, 1).unwrap();
        // Nobody accepts: beyond its queue the kernel answers no more.
        let waiting: Vec<TcpStream> = (0..32)
            .map(|_| TcpStream::connect_timeout(&address, PATIENCE).unwrap())
            .collect();
        assert_eq!(waiting.len(), 32);
    }

    #[test]
    fn a_short_listen_queue_is_told_with_what_to_type() {
        assert_eq!(short_backlog(65_535, 4_096), None);
        let cut = short_backlog(65_535, 128).unwrap();
        assert!(cut.contains("`sudo sysctl net.core.somaxconn=4096`"));
        let chosen = short_backlog(1_024, 4_096).unwrap();
        assert!(chosen.contains("listen_backlog = 1024"));
    }
}
