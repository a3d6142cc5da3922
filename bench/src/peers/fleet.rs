//! Several echo gateways of ours on one port: how a machine holds more connections than a process has descriptors. The
//! sockets are made here and handed on as `tidegate up` does: each gateway has one of its own, and helps at the others'.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};

use super::{Sharing, listener};
use crate::process::Process;
use crate::target::Target;

/// The first descriptor that a child inherits, by the systemd socket-activation protocol.
const FIRST_LISTEN_FD: i32 = 3;

/// Gateways that run.
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
    pub fn start(gateways: usize, core: Option<usize>) -> Result<Self> {
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
