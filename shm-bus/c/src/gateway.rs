//! A gateway's role: a segment of one shard. A process that wants several makes several.

use std::time::Duration;

use shm_bus::{
    BackendWatch, BusDirectory, GatewaySegment, Place, Read, RecordCopy, SegmentOptions, Sleeper,
};

use crate::{
    failure::{Failure, Outcome, TIDEGATE_BUS_EMPTY, TIDEGATE_BUS_OK, TIDEGATE_BUS_REFUSED},
    port::{Outgoing, Port},
    record::Record,
};

pub(crate) struct Gateway {
    /// Nothing is asked of it any more, but it holds the role.
    _segment: GatewaySegment,
    pub(crate) port: Port,
    sleeper: Sleeper,
    pub(crate) backend: BackendWatch,
    place: Place,
    copy: RecordCopy,
}

impl Gateway {
    pub(crate) fn make(bus: &BusDirectory, options: &SegmentOptions) -> Result<Self, Failure> {
        let mut segment = GatewaySegment::create(bus, options)?;
        let end = segment.take_shard(0);
        let end =
            end.ok_or_else(|| Failure::new(TIDEGATE_BUS_REFUSED, "a segment of no shards"))?;
        Ok(Self {
            port: Port {
                gateway: segment.instance(),
                ring: end.shard,
                from: end.to_gateway,
                to: Outgoing::new(end.to_backend),
            },
            _segment: segment,
            sleeper: end.sleeper,
            backend: end.backend,
            place: end.place,
            copy: RecordCopy::default(),
        })
    }

    pub(crate) fn next(&mut self, record: &mut Record) -> Outcome {
        let port = &mut self.port;
        loop {
            match port.from.next(&mut self.copy) {
                Read::Record(header) => {
                    let (end, payload) = (port.from.position(), self.copy.payload());
                    *record = Record::new(header, port.gateway, port.ring, true, end, payload);
                    return Ok(TIDEGATE_BUS_OK);
                }
                Read::Empty => return Ok(TIDEGATE_BUS_EMPTY),
                Read::Bad(bad) if bad.condemned => return Err(bad.damage.into()),
                // One record was skipped, and counted; the next call goes on behind it.
                Read::Bad(_) => {}
            }
        }
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Outcome {
        self.sleeper.prepare();
        if self.port.from.is_empty() {
            self.sleeper.sleep(timeout);
        } else {
            self.sleeper.awake();
            return Ok(TIDEGATE_BUS_OK);
        }
        self.place.look()?;
        if let Some(backend) = self.backend.refused_by() {
            let said = format!(
                "the backend {backend} (pid {}) does not serve this gateway: its log says why; start this process again",
                self.backend.pid()
            );
            return Err(Failure::new(TIDEGATE_BUS_REFUSED, said));
        }
        Ok(if self.port.from.is_empty() {
            TIDEGATE_BUS_EMPTY
        } else {
            TIDEGATE_BUS_OK
        })
    }
}
