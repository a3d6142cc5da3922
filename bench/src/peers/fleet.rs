//! Several processes of one server on one port: how a machine holds more connections than a process has descriptors. Each
//! has a listening socket of its own, and the kernel spreads connections over them (SO_REUSEPORT).
//!
//! The sockets of our gateways are made here and handed on as `tidegate up` does: each also helps at the others'. A peer
//! makes its own.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};

use super::{Peer, Sharing, listener};
use crate::process::Process;
use crate::target::Target;

/// The first descriptor that a child inherits, by the systemd socket-activation protocol.
const FIRST_LISTEN_FD: i32 = 3;

/// Processes that run.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
    /// The port of all of them.
    pub target: Target,
}

impl Fleet {
    /// Starts so many on a core (any, without one).
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(peer: Peer, processes: usize, core: Option<usize>) -> Result<Self> {
        match peer {
            Peer::Tidegate => Self::gateways(processes, core),
            _ => Self::peers(peer, processes, core),
        }
    }

    fn peers(peer: Peer, count: usize, core: Option<usize>) -> Result<Self> {
        let mut listen = "127.0.0.1:0".to_owned();
        let mut processes = Vec::with_capacity(count);
        for _ in 0..count {
            let server = peer.listen(&listen, Sharing::Shared, core)?;
            // The first one takes any port, the others the same.
            listen = server.target.address.to_string();
            processes.push(server.process);
        }
        Ok(Self {
            processes,
            target: Target::parse(&format!("ws://{listen}/"))?,
        })
    }

    fn gateways(gateways: usize, core: Option<usize>) -> Result<Self> {
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sockets = Vec::with_capacity(gateways);
        for _ in 0..gateways {
            let socket = listener(address, Sharing::Shared)?;
            address = socket.local_addr()?;
            sockets.push(socket);
        }
        let start =
            |place| Process::start(&mut gateway(&sockets, place)?, core).map_err(Into::into);
        let mut processes = (0..gateways).map(start).collect::<Result<Vec<Process>>>()?;
        for process in &mut processes {
            process
                .word_after("ws://")
                .context("a gateway did not come up")?;
        }
        Ok(Self {
            processes,
            target: Target::parse(&format!("ws://{address}/"))?,
        })
    }

    /// The processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }
}

/// The command for the gateway that has the socket at `place`.
fn gateway(sockets: &[TcpListener], place: usize) -> Result<Command> {
    let mut mappings = Vec::with_capacity(sockets.len());
    let mut names = Vec::with_capacity(sockets.len());
    for (child_fd, (index, socket)) in (FIRST_LISTEN_FD..).zip(sockets.iter().enumerate()) {
        mappings.push(FdMapping {
            parent_fd: OwnedFd::from(socket.try_clone()?),
            child_fd,
        });
        names.push(if index == place { "gateway" } else { "sibling" });
    }
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["gateway", "--echo", "--shards", "1"])
        .env("TIDEGATE_LOG__LEVEL", "warn")
        .env_remove("LISTEN_PID")
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .fd_mappings(mappings)
        .context("two sockets on one descriptor")?;
    Ok(command)
}
