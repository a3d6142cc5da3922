//! The load: many connections over several processes, each with a ring of its own.
//!
//! A child is this program again (`tidegate bench load`). It gets [`Order`]s on its standard input and gives an
//! [`Answer`] for each on its standard output, a JSON object a line. Times of orders are of the monotonic clock, which all
//! processes share, so that children begin and measure together.

mod answers;
mod child;
mod connecting;
mod exchanging;
mod visiting;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use child::run as run_child;
pub use visiting::Visitors;

use crate::latency::Latencies;
use crate::process::Process;
use crate::progress::Progress;
use crate::target::Target;

/// Connections of one child: below the 20,000 descriptors that a process often has at most.
pub const CONNECTIONS_PER_CHILD_MAX: u64 = 18_000;

/// Connections that share a source address: an address has 28,000 ports, which stay taken for a minute after a close.
const CONNECTIONS_PER_SOURCE: u64 = 64;

/// Orders reach every child before they begin.
const BEGIN_MS: u64 = 80;

/// What a child is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Open more connections.
    Connect(Connect),
    /// Send and receive on those that are open.
    Exchange(Exchange),
}

/// Open more connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connect {
    /// Where.
    pub target: Target,
    /// How many connections of the whole load come before the first of these: it decides on the source addresses.
    pub before: u64,
    /// How many.
    pub connections: u64,
    /// Evenly over so long, whatever the server does; 0: as fast as it upgrades.
    pub over_ms: u64,
    /// When to begin.
    pub begin_ns: u64,
    /// Each says Hello as one of these, and is open when it was welcomed.
    pub visitors: Option<Visitors>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Connected {
    /// Upgraded (or welcomed) connections, of these.
    pub open: u64,
    /// Refused, reset, timed out.
    pub failed: u64,
    /// Why the first one failed.
    pub first_error: Option<String>,
    /// From the moment at which each was due until its 101 (or its Welcome) was read.
    pub upgrades: Latencies,
    /// How late each was begun.
    pub lag: Latencies,
    /// From the first one's due time to the last one's 101, seconds.
    pub elapsed_s: f64,
    /// CPU time of the load meanwhile, µs.
    pub load_cpu_us: f64,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A binary message of so many bytes, which comes back as it is.
    Binary {
        /// Its payload.
        bytes: usize,
    },
    /// A ping, which comes back as a pong.
    Ping,
}

/// When it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// Closed loop: each connection has so many messages under way, always.
    Closed {
        /// Messages under way per connection.
        depth: usize,
    },
    /// Open loop: so many a second over all connections in turn, whatever came back. Latency counts from the moment
    /// at which a message was due (no coordinated omission).
    Open {
        /// Messages a second.
        per_s: f64,
    },
}

/// Send and receive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exchange {
    /// What.
    pub message: Message,
    /// When.
    pub pace: Pace,
    /// When to begin.
    pub begin_ns: u64,
    /// What happens in the first so many ms is not counted.
    pub warm_ms: u64,
    /// What happens in the next so many ms is.
    pub window_ms: u64,
    /// Processes whose CPU time and memory are read at both ends of the window, and in between for the plots.
    pub watched: Vec<u32>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Exchanged {
    /// Answers that came inside the window.
    pub messages: u64,
    /// The window as it was, seconds.
    pub window_s: f64,
    /// Of the messages that were due inside the window.
    pub latencies: Latencies,
    /// How late each message was given to the kernel (open loop).
    pub lag: Latencies,
    /// Due inside the window, and not answered two seconds after it. They count in `latencies` with that time.
    pub unanswered: u64,
    /// Connections that the server closed meanwhile.
    pub lost: u64,
    /// Why the first one was lost.
    pub first_error: Option<String>,
    /// CPU time of the load in the window, µs, and as a part of the load's cores.
    pub load_cpu_us: f64,
    /// CPU time of each watched process in the window, µs.
    pub watched_cpu_us: Vec<f64>,
    /// What happened over time.
    pub samples: Vec<Sample>,
}

/// One moment of the window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the window began.
    pub at_s: f64,
    /// Answers a second since the sample before.
    pub rate_per_s: f64,
    /// Resident memory of all watched processes, bytes.
    pub resident_bytes: u64,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// It goes on: so many connections are open.
    Open(u64),
    Connected(Connected),
    Exchanged(Exchanged),
    Failed(String),
}

/// The children, and what is open.
#[derive(Debug)]
pub struct Load {
    children: Vec<Child>,
    visitors: Option<Visitors>,
}

#[derive(Debug)]
struct Child {
    process: Process,
    connections: u64,
}

impl Load {
    /// Starts as many children as so many connections need, over these cores in turn (any, without one).
    ///
    /// # Errors
    /// When one can't be started.
    pub fn start(connections: u64, cores: &[usize]) -> Result<Self> {
        let count = connections.div_ceil(CONNECTIONS_PER_CHILD_MAX).max(1);
        let children = (0..usize::try_from(count)?).map(|index| {
            let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
            let process = Process::again(&["bench", "load"], core)?;
            Ok(Child {
                process,
                connections: 0,
            })
        });
        Ok(Self {
            children: children.collect::<Result<_>>()?,
            visitors: None,
        })
    }

    /// All connections that it opens from here on are visitors', who say Hello and are welcomed.
    #[must_use]
    pub fn of_visitors(mut self, visitors: Visitors) -> Self {
        self.visitors = Some(visitors);
        self
    }

    /// Opens more connections, spread over the children: over so long, or as fast as the server upgrades.
    ///
    /// # Errors
    /// When a child ends. Connections that fail are counted in the answer.
    pub fn connect(
        &mut self,
        progress: &Progress,
        target: &Target,
        connections: u64,
        over: Duration,
    ) -> Result<Connected> {
        let children = self.children.len() as u64;
        let begin_ns = now_ns() + BEGIN_MS * 1_000_000;
        let mut before: u64 = self.children.iter().map(|child| child.connections).sum();
        for (index, child) in self.children.iter_mut().enumerate() {
            let share = connections / children + u64::from((index as u64) < connections % children);
            ensure!(
                child.connections + share <= CONNECTIONS_PER_CHILD_MAX,
                "{} connections are too many for {children} processes of the load",
                before + share
            );
            child.order(&Order::Connect(Connect {
                target: target.clone(),
                before,
                connections: share,
                over_ms: u64::try_from(over.as_millis())?,
                begin_ns,
                visitors: self.visitors.clone(),
            }))?;
            before += share;
            child.connections += share;
        }
        let mut all = Connected::default();
        let mut open_elsewhere = 0;
        for child in &mut self.children {
            let one = child.answer(|open| {
                progress.say(format!("{} connections are open", open_elsewhere + open));
            })?;
            let Answer::Connected(one) = one else {
                bail!("a process of the load answered something else than was asked");
            };
            open_elsewhere += child.connections;
            all.add(one)?;
        }
        Ok(all)
    }

    /// The same, and all of them must open.
    ///
    /// # Errors
    /// When one does not, with the reason.
    pub fn connect_all(
        &mut self,
        progress: &Progress,
        target: &Target,
        connections: u64,
    ) -> Result<Connected> {
        let connected = self.connect(progress, target, connections, Duration::ZERO)?;
        if connected.failed > 0 {
            bail!(
                "{} of {connections} connections to {} failed: {}",
                connected.failed,
                target.url(),
                connected.first_error.unwrap_or_default()
            );
        }
        Ok(connected)
    }

    /// Sends and receives on all of them. An order's `begin_ns` is set here.
    ///
    /// # Errors
    /// When a child ends, or the server closed a connection.
    pub fn exchange(&mut self, order: &Exchange) -> Result<Exchanged> {
        let open: u64 = self.children.iter().map(|child| child.connections).sum();
        let begin_ns = now_ns() + BEGIN_MS * 1_000_000;
        for (index, child) in self.children.iter_mut().enumerate() {
            let mut order = order.clone();
            order.begin_ns = begin_ns;
            if index > 0 {
                order.watched.clear();
            }
            if let Pace::Open { per_s } = &mut order.pace {
                let share = count(child.connections) / count(open.max(1));
                *per_s *= share;
            }
            child.order(&Order::Exchange(order))?;
        }
        let mut all = Exchanged::default();
        for child in &mut self.children {
            let Answer::Exchanged(one) = child.answer(|_| {})? else {
                bail!("a process of the load answered something else than was asked");
            };
            all.add(one)?;
        }
        if all.lost > 0 {
            bail!(
                "{} of {open} connections were lost: {}",
                all.lost,
                all.first_error.unwrap_or_default()
            );
        }
        Ok(all)
    }

    /// Processes of the load.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.children.len()
    }
}

impl Child {
    fn order(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        let stdin = self.process.stdin();
        stdin
            .write_all(line.as_bytes())
            .context("a process of the load has ended")
    }

    /// The answer to the last order.
    fn answer(&mut self, mut open: impl FnMut(u64)) -> Result<Answer> {
        loop {
            match serde_json::from_str(&self.process.line().context("the load")?)? {
                Answer::Open(count) => open(count),
                Answer::Failed(why) => bail!("the load: {why}"),
                answer => return Ok(answer),
            }
        }
    }
}

impl Connected {
    fn add(&mut self, other: Self) -> Result<()> {
        self.open += other.open;
        self.failed += other.failed;
        self.first_error = self.first_error.take().or(other.first_error);
        self.upgrades.add(&other.upgrades)?;
        self.lag.add(&other.lag)?;
        self.elapsed_s = self.elapsed_s.max(other.elapsed_s);
        self.load_cpu_us += other.load_cpu_us;
        Ok(())
    }
}

impl Exchanged {
    fn add(&mut self, other: Self) -> Result<()> {
        self.messages += other.messages;
        self.window_s = self.window_s.max(other.window_s);
        self.latencies.add(&other.latencies)?;
        self.lag.add(&other.lag)?;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.first_error = self.first_error.take().or(other.first_error);
        self.load_cpu_us += other.load_cpu_us;
        // The first child watches; the others' rates belong to the same moments.
        if self.samples.is_empty() {
            self.watched_cpu_us = other.watched_cpu_us;
            self.samples = other.samples;
        } else {
            for (sample, more) in self.samples.iter_mut().zip(other.samples) {
                sample.rate_per_s += more.rate_per_s;
            }
        }
        Ok(())
    }

    /// Answers a second.
    #[must_use]
    pub fn rate_per_s(&self) -> f64 {
        count(self.messages) / self.window_s.max(1e-9)
    }

    /// CPU time of all watched processes per answer, µs.
    #[must_use]
    pub fn cpu_us_per_message(&self) -> f64 {
        self.watched_cpu_us.iter().sum::<f64>() / count(self.messages.max(1))
    }

    /// Part of one core that all watched processes took, 0 to 1 and more.
    #[must_use]
    pub fn watched_cores(&self) -> f64 {
        self.watched_cpu_us.iter().sum::<f64>() / 1e6 / self.window_s.max(1e-9)
    }

    /// Part of one core that the load took.
    #[must_use]
    pub fn load_cores(&self) -> f64 {
        self.load_cpu_us / 1e6 / self.window_s.max(1e-9)
    }
}

/// A count to reckon with.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes, far below 2^53"
)]
pub fn count(value: u64) -> f64 {
    value as f64
}

/// The clock that all processes of a machine share.
fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(Duration::try_from(time).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// From where the n-th connection of a load comes: within the loopback network from addresses that no other 64
/// connections have, elsewhere from wherever the kernel says.
fn source(target: SocketAddr, connection: u64) -> Option<Ipv4Addr> {
    match target.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => {
            // 127.1.0.0 and on: 127.0.0.0/16 is left to what a person types.
            let number = 0x7F01_0000 + connection / CONNECTIONS_PER_SOURCE % 0x00F0_0000;
            Some(Ipv4Addr::from_bits(
                u32::try_from(number).unwrap_or(0x7F01_0000),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_come_from_many_addresses_of_the_loopback() {
        let target = "127.0.0.1:80".parse().unwrap();
        assert_eq!(source(target, 0), Some(Ipv4Addr::new(127, 1, 0, 0)));
        assert_eq!(source(target, 63), source(target, 0));
        assert_eq!(source(target, 64), Some(Ipv4Addr::new(127, 1, 0, 1)));
        assert_eq!(source(target, 999_999), Some(Ipv4Addr::new(127, 1, 61, 8)));
        assert_eq!(source("192.0.2.1:80".parse().unwrap(), 5), None);
        assert_eq!(source("[::1]:80".parse().unwrap(), 5), None);
    }
}
