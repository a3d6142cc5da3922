//! iceoryx2: publish and subscribe over shared memory, both ends looking again and again. Loaned samples, written in place
//! and read in place: it copies nothing, where our ring copies each record out.

use anyhow::{Result, anyhow};
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::link::{Link, PAYLOAD_BYTES};

/// Samples that wait for a subscriber: beyond, the publisher tries again.
const BUFFERED_SAMPLES: usize = 1_024;

type Record = [u8; PAYLOAD_BYTES];

/// One end: a publisher of one service, a subscriber of the other.
pub struct Services {
    to: Publisher<ipc::Service, Record, ()>,
    from: Subscriber<ipc::Service, Record, ()>,
    _node: Node<ipc::Service>,
}

impl Services {
    /// # Errors
    /// When the services can't be made or opened.
    pub fn open(to: &str, from: &str) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
        let service = |name: &str| {
            let name = name
                .try_into()
                .map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
            node.service_builder(&name)
                .publish_subscribe::<Record>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(BUFFERED_SAMPLES)
                .open_or_create()
                .map_err(|error| anyhow!("iceoryx2: {error:?}"))
        };
        let to = service(to)?
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
        let from = service(from)?
            .subscriber_builder()
            .create()
            .map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
        Ok(Self {
            to,
            from,
            _node: node,
        })
    }
}

impl Link for Services {
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut sample = self
            .to
            .loan_uninit()
            .map_err(|error| anyhow!("iceoryx2: {error:?}"))?
            .write_payload([0; PAYLOAD_BYTES]);
        fill(sample.payload_mut());
        sample
            .send()
            .map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
        Ok(())
    }

    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        loop {
            let received = self.from.receive();
            match received.map_err(|error| anyhow!("iceoryx2: {error:?}"))? {
                Some(sample) => return read(sample.payload().as_slice()),
                None => std::hint::spin_loop(),
            }
        }
    }
}
