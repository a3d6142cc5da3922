//! The diagnostic echo: every message back, text or binary, without a backend, on the same data plane.

use protocol::ws::handshake::{Policy, Subprotocols};

use crate::config::{Config, EchoConfig};
use crate::listener::Inherited;
use crate::run::{ExitReason, Handle, Plan, run_shards};
use crate::service::{CloseCause, ConnectionId, Message, Service, Sockets, Taken, Told, Upgrade};
use crate::start::StartError;

/// Longest message that an echo may be configured for: 16 MiB.
pub const ECHO_MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// The service that reflects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Service for Echo {
    fn on_upgraded(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _upgrade: &Upgrade<'_>) {}

    #[inline]
    fn on_message(
        &mut self,
        _io: &mut impl Sockets,
        _id: ConnectionId,
        _message: Message<'_>,
    ) -> Taken {
        Taken::Reflect
    }

    fn on_closed(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _cause: CloseCause) -> Told {
        Told::Now
    }
}

impl EchoConfig {
    /// The settings of the data plane, and who may upgrade: anybody, to any subprotocol.
    pub(crate) fn into_plan(self) -> Result<(Config, Policy), StartError> {
        if self.max_message_bytes > ECHO_MESSAGE_BYTES_MAX {
            return Err(StartError::Setting {
                key: "max_message_bytes",
                found: self.max_message_bytes.to_string(),
                expected: "the echo takes messages of up to 16777216 bytes",
            });
        }
        let mut base = self.base;
        base.listen = self.listen;
        base.shards = self.shards;
        base.max_message_bytes = self.max_message_bytes;
        let allowed_origins = if self.allowed_origins.is_empty() {
            vec!["*".to_owned()]
        } else {
            self.allowed_origins
        };
        let policy = Policy {
            allowed_origins,
            subprotocols: Subprotocols::Ignored,
        };
        Ok((base, policy))
    }
}

/// Runs the echo until `handle` drains it. Listeners are inherited, or bound here if there are none.
///
/// # Errors
/// What keeps it from starting, or what made a shard stop.
pub fn run_echo(
    config: EchoConfig,
    listeners: Inherited,
    handle: &Handle,
) -> Result<ExitReason, StartError> {
    let (config, policy) = config.into_plan()?;
    let plan = Plan {
        config,
        listeners,
        policy,
        metrics: None,
    };
    run_shards(plan, handle, |_seat| Ok(Echo))
}
