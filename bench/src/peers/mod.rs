//! The servers beside which ours runs: each reflects every message, on one thread, in a process of its own
//! (`tidegate bench peer NAME`).
//!
//! Peers get what is fair: no delay of small segments, a backlog of 4,096, one thread on one core, the same allocator.

mod bare;
#[cfg(feature = "peers")]
mod fastwebsockets;
mod fleet;
#[cfg(feature = "peers")]
mod tungstenite;

use std::net::{SocketAddr, TcpListener};

use anyhow::{Result, ensure};
pub use fleet::Fleet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::process::{Process, end_with_parent};
use crate::target::Target;

const BACKLOG: i32 = 4_096;

/// `tidegate bench peer NAME`
#[derive(Debug, clap::Args)]
pub struct PeerArguments {
    /// Which
    peer: Peer,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Let others listen there as well
    #[arg(long)]
    shared: bool,
}

/// A server that reflects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Peer {
    /// Ours: `tidegate gateway --echo`, default configuration, all limits on
    Tidegate,
    /// The floor: an io_uring loop without checks, timers or limits
    Bare,
    /// fastwebsockets on tokio
    Fastwebsockets,
    /// tokio-tungstenite with a read buffer of 4 KB (its default of 128 KB makes it look worse than it is)
    Tungstenite,
}

/// A peer that runs.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where it reflects.
    pub target: Target,
}

impl Peer {
    /// All that this program was built with.
    pub const ALL: &'static [Self] = if cfg!(feature = "peers") {
        &[
            Self::Tidegate,
            Self::Bare,
            Self::Fastwebsockets,
            Self::Tungstenite,
        ]
    } else {
        &[Self::Tidegate, Self::Bare]
    };

    /// As tables name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Bare => "bare",
            Self::Fastwebsockets => "fastwebsockets",
            Self::Tungstenite => "tokio-tungstenite",
        }
    }

    /// Starts it on a core (any, without one).
    ///
    /// # Errors
    /// When it can't be started, or was not built in.
    pub fn start(self, core: Option<usize>) -> Result<Server> {
        self.listen("127.0.0.1:0", Sharing::Alone, core)
    }

    fn listen(self, address: &str, sharing: Sharing, core: Option<usize>) -> Result<Server> {
        ensure!(
            Self::ALL.contains(&self),
            "{} is not in this program: build with `cargo build --release -p tidegate --features peers`",
            self.name()
        );
        let mut words = match self {
            Self::Tidegate => ["gateway", "--echo", "--shards", "1"].to_vec(),
            Self::Bare => ["bench", "peer", "bare"].to_vec(),
            Self::Fastwebsockets => ["bench", "peer", "fastwebsockets"].to_vec(),
            Self::Tungstenite => ["bench", "peer", "tungstenite"].to_vec(),
        };
        words.extend(["--listen", address]);
        if sharing == Sharing::Shared {
            words.push("--shared");
        }
        let mut process = Process::again(&words, core)?;
        let url = format!("ws://{}", process.word_after("ws://")?);
        Ok(Server {
            process,
            target: Target::parse(&url)?,
        })
    }
}

/// Runs a peer until its parent ends.
///
/// # Errors
/// When it can't listen, or was not built in.
pub fn run(arguments: &PeerArguments) -> Result<()> {
    end_with_parent();
    let sharing = if arguments.shared {
        Sharing::Shared
    } else {
        Sharing::Alone
    };
    let listener = listener(arguments.listen, sharing)?;
    match arguments.peer {
        Peer::Tidegate => anyhow::bail!("it is started by `tidegate gateway --echo`"),
        Peer::Bare => bare::run(&listener),
        #[cfg(feature = "peers")]
        Peer::Fastwebsockets => fastwebsockets::run(listener),
        #[cfg(feature = "peers")]
        Peer::Tungstenite => tungstenite::run(listener),
        #[cfg(not(feature = "peers"))]
        _ => anyhow::bail!("this program was built without the feature `peers`"),
    }
}

/// Whether others may bind the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Shared,
}

/// What is accepted from it inherits that small segments are not held back.
fn listener(address: SocketAddr, sharing: Sharing) -> Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, sharing == Sharing::Shared)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Tells the parent that all descriptors of its own are open, and newcomers are let in.
fn ready(address: SocketAddr) {
    println!("echo on ws://{address}/");
}

/// What both peers on tokio stand on.
#[cfg(feature = "peers")]
fn on_one_thread<F: Future<Output = Result<()>>>(
    listener: TcpListener,
    serve: impl FnOnce(tokio::net::TcpListener) -> F,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        ready(listener.local_addr()?);
        serve(listener).await
    })
}
