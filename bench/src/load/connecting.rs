//! Opening connections: on schedule, or as fast as the server upgrades them.

use std::time::Duration;

use anyhow::{Result, bail};
use tidegate_protocol::Codec;
use tidegate_protocol::ws::client::UpgradeRequest;

use super::answers::Wrong;
use super::child::{Child, own_cpu_us, say, until};
use super::visiting::Visiting;
use super::{Answer, Connect, Connected, now_ns, source};
use crate::uring::{KernelAddress, socket};

/// Handshakes under way where the server sets the pace: enough that it never waits, few enough for any backlog.
const HANDSHAKES_UNDER_WAY_MAX: u64 = 200;

/// Without any progress for so long, what is missing counts as failed.
const STALLED_MS_MAX: u64 = 10_000;

const PROGRESS_EVERY_MS: u64 = 500;

const MS: u64 = 1_000_000;

/// The nonce is the same for all: what it protects from is a cache in between, and here is none.
const NONCE: [u8; 16] = *b"tidegate's bench";

/// The connections that are being opened.
pub(super) struct Connecting {
    pub(super) request: &'static [u8],
    host: String,
    path: String,
    pub(super) visiting: Option<Visiting>,
    /// What this order's first connection is called in the child, and in the whole load.
    first: (usize, u64),
    result: Connected,
    last_ns: u64,
}

impl Connecting {
    fn new(order: &Connect, first: usize) -> Result<Self> {
        let mut this = Self {
            visiting: order.visitors.as_ref().map(Visiting::new).transpose()?,
            first: (first, order.before),
            request: &[],
            host: order.target.host.clone(),
            path: order.target.path.clone(),
            result: Connected::default(),
            last_ns: order.begin_ns,
        };
        let mut request = Vec::new();
        this.asked().append(&mut request);
        // A few hundred bytes for each order, in a process that gets a handful.
        this.request = Box::leak(request.into_boxed_slice());
        Ok(this)
    }

    /// The number in the whole load of the child's connection `index`.
    pub(super) fn number(&self, index: usize) -> u64 {
        let (first, before) = self.first;
        before + (index - first) as u64
    }

    pub(super) fn asked(&self) -> UpgradeRequest<'_> {
        UpgradeRequest {
            host: &self.host,
            target: &self.path,
            nonce: NONCE,
            subprotocols: if self.visiting.is_some() {
                Codec::Flat.subprotocol()
            } else {
                ""
            },
            origin: "",
        }
    }

    pub(super) fn upgraded(&mut self, due_ns: Option<u64>) {
        self.last_ns = now_ns();
        self.result.open += 1;
        let due_ns = due_ns.unwrap_or(self.last_ns);
        let took = Duration::from_nanos(self.last_ns.saturating_sub(due_ns));
        self.result.upgrades.record(took);
    }

    pub(super) fn failed(&mut self, why: Wrong) {
        self.last_ns = now_ns();
        self.result.failed += 1;
        self.result.first_error.get_or_insert(why);
    }

    fn over(&self) -> u64 {
        self.result.open + self.result.failed
    }
}

impl Child {
    pub(super) fn connect(&mut self, order: &Connect) -> Result<Connected> {
        self.connecting = Some(Connecting::new(order, self.connections.len())?);
        let address = KernelAddress::leaked(order.target.address);
        while now_ns() < order.begin_ns {
            self.turn(until(order.begin_ns))?;
        }
        let cpu_us = own_cpu_us();
        let (mut begun, mut told_ns) = (0, order.begin_ns);
        loop {
            let Some(connecting) = &mut self.connecting else {
                bail!("invariant: it is set above");
            };
            let (over, now) = (connecting.over(), now_ns());
            if over == order.connections {
                break;
            }
            if begun > over && now > connecting.last_ns + STALLED_MS_MAX * MS {
                let missing = order.connections - over;
                connecting.result.failed += missing;
                let why = format!(
                    "{missing} handshakes stalled for {} s",
                    STALLED_MS_MAX / 1_000
                );
                connecting.result.first_error.get_or_insert(why);
                break;
            }
            if now > told_ns + PROGRESS_EVERY_MS * MS {
                told_ns = now;
                say(&Answer::Open(connecting.result.open))?;
            }
            let due_ns =
                |nth: u64| order.begin_ns + order.over_ms * MS * nth / order.connections.max(1);
            let under_way = begun - over;
            let may_begin = match order.over_ms {
                0 => HANDSHAKES_UNDER_WAY_MAX
                    .saturating_sub(under_way)
                    .min(order.connections - begun),
                _ => (begun..order.connections)
                    .take_while(|nth| due_ns(*nth) <= now)
                    .count() as u64,
            };
            for nth in begun..begun + may_begin {
                let due_ns = if order.over_ms == 0 { now } else { due_ns(nth) };
                self.begin_one(order, nth, due_ns, address)?;
            }
            begun += may_begin;
            let next_ns = if order.over_ms > 0 && begun < order.connections {
                due_ns(begun)
            } else {
                now + PROGRESS_EVERY_MS * MS
            };
            self.turn(until(next_ns))?;
        }
        let Some(connecting) = self.connecting.take() else {
            bail!("invariant: it is set above");
        };
        let elapsed = Duration::from_nanos(connecting.last_ns.saturating_sub(order.begin_ns));
        Ok(Connected {
            elapsed_s: elapsed.as_secs_f64(),
            load_cpu_us: own_cpu_us() - cpu_us,
            ..connecting.result
        })
    }

    fn begin_one(
        &mut self,
        order: &Connect,
        nth: u64,
        due_ns: u64,
        address: &'static KernelAddress,
    ) -> Result<()> {
        let target = order.target.address;
        let made = socket(target, source(target, order.before + nth));
        let Some(connecting) = &mut self.connecting else {
            bail!("invariant: connections are begun while connecting");
        };
        match made {
            Ok(socket) => {
                let late = Duration::from_nanos(now_ns().saturating_sub(due_ns));
                connecting.result.lag.record(late);
                self.open(socket, due_ns, address);
            }
            Err(error) => connecting.failed(format!("no socket: {error}")),
        }
        Ok(())
    }
}
