//! From a configuration to chat shards: the key, the segment on the bus, one [`Chat`] per shard.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::bus_echo::BusEcho;
use super::counters::{TALLIES, prometheus};
use super::{Chat, Settings};
use crate::config::{Config, EchoConfig};
use crate::listener::Inherited;
use crate::run::{ExitReason, Handle, Metrics, Plan, Seat, run_shards};
use crate::start::StartError;
use shm_bus::{
    BusDirectory, Counters, GatewaySegment, Placement, RECORD_BYTES_MAX_DEFAULT, SegmentOptions,
    ShardEnd,
};
use tidegate_protocol::token::Key;
use tidegate_protocol::ws::handshake::{Policy, Subprotocols};

/// Serves the chat until `handle` drains it: blocks. Listeners are inherited, or bound here if there are none.
///
/// # Errors
/// What keeps it from starting, or what made a shard stop.
pub fn run(
    config: Config,
    listeners: Inherited,
    handle: &Handle,
) -> Result<ExitReason, StartError> {
    let key = read_key(&config.token_key_file)?;
    let allowed_origins = config.allowed_origins.clone();
    let bus = Bus::new(&config)?;
    let plan = Plan {
        policy: Policy {
            allowed_origins,
            subprotocols: Subprotocols::Codecs,
        },
        metrics: Some(bus.metrics()),
        config: config.clone(),
        listeners,
    };
    run_shards(plan, handle, move |seat| {
        let now = seat.clock.now();
        let settings = Settings {
            connections_max: seat.connections_max,
            ..Settings::new(&config, key, now.us())
        };
        Ok(Chat::new(settings, bus.end_of(seat)?, now))
    })
}

/// Serves the echo through the bus until `handle` drains it: blocks. [`consumer_main`](super::bus_echo::consumer_main)
/// is its other process.
///
/// # Errors
/// What keeps it from starting, or what made a shard stop.
pub fn run_bus_echo(
    config: EchoConfig,
    listeners: Inherited,
    handle: &Handle,
) -> Result<ExitReason, StartError> {
    let (base, policy) = config.into_plan()?;
    let bus = Bus::new(&base)?;
    let plan = Plan {
        config: base,
        listeners,
        policy,
        metrics: None,
    };
    run_shards(plan, handle, move |seat| {
        Ok(BusEcho::new(bus.end_of(seat)?))
    })
}

fn read_key(path: &Path) -> Result<Key, StartError> {
    let refused = |found: String| {
        StartError::Service(format!(
            "the token key {} {found}: start `tidegate up` or the backend first, which make it, or name another \
             file by token_key_file",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("can't be read ({error})")))?;
    Key::from_hex(&text).ok_or_else(|| refused("is not 64 hex digits".to_owned()))
}

/// This process's segment. It is made when the first shard asks: only then the number of shards is known.
#[derive(Clone)]
struct Bus {
    directory: BusDirectory,
    ring_bytes: usize,
    placement: Placement,
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    segment: Option<GatewaySegment>,
    counters: Vec<Counters>,
}

impl Bus {
    fn new(config: &Config) -> Result<Bus, StartError> {
        let directory = BusDirectory::open_or_create(&config.bus_dir)
            .map_err(|error| StartError::Service(error.to_string()))?;
        Ok(Bus {
            directory,
            ring_bytes: config.ring_bytes as usize,
            placement: Placement {
                huge_pages: config.ring_huge_pages,
                numa_node: config.ring_numa_node,
            },
            made: Arc::default(),
        })
    }

    fn end_of(&self, seat: Seat) -> Result<ShardEnd, StartError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.segment.is_none() {
            let options = SegmentOptions {
                shards: usize::from(seat.shards),
                ring_bytes: self.ring_bytes,
                // The largest message fits with its header; a multicast's list of receivers stands beside it.
                record_bytes_max: RECORD_BYTES_MAX_DEFAULT.min(self.ring_bytes / 4),
                protocol: tidegate_protocol::bus::BUS_PROTOCOL,
                build: concat!("tidegate gateway ", env!("CARGO_PKG_VERSION")).to_owned(),
            };
            let segment = GatewaySegment::create_placed(&self.directory, &options, self.placement)
                .map_err(|error| StartError::Service(error.to_string()))?;
            tracing::info!(instance = %segment.instance(), bus = %self.directory.path().display(), "segment made");
            if self.placement != Placement::default() {
                tracing::info!("the rings got {}", segment.placed());
            }
            made.segment = Some(segment);
        }
        let end = made
            .segment
            .as_mut()
            .and_then(|segment| segment.take_shard(seat.shard));
        let end = end
            .ok_or_else(|| StartError::Service(format!("shard {} was taken before", seat.shard)))?;
        made.counters.push(end.counters.clone());
        Ok(end)
    }

    fn metrics(&self) -> Metrics {
        let made = Arc::clone(&self.made);
        Arc::new(move |into: &mut String| {
            let made = made.lock().unwrap_or_else(PoisonError::into_inner);
            prometheus(&made.counters, TALLIES, into);
        })
    }
}
