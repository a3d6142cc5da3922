//! The backend's role: all rings of all gateways in turn, gateways found as they come and removed when they are dead
//! and all that they sent was released.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use shm_bus::{AttachedGateway, BackendSeat, BusDirectory, InstanceId, Read, RecordCopy};

use crate::{
    failure::{Failure, Outcome, TIDEGATE_BUS_EMPTY, TIDEGATE_BUS_OK, TIDEGATE_BUS_REFUSED},
    port::{Outgoing, Port},
    record::Record,
};

/// Records that one ring gives before the next one has its turn.
const RECORDS_IN_A_ROW_MAX: usize = 256;
/// How often the dead are looked for, the backend beats, and its names are looked at.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Backend {
    pub(crate) seat: BackendSeat,
    gateways: Vec<AttachedGateway>,
    pub(crate) ports: Vec<Port>,
    /// Which port is read, and how many records it gave in a row.
    turn: usize,
    in_a_row: usize,
    copy: RecordCopy,
    looked_around: Option<Instant>,
    /// What was refused and not told yet.
    refusals: VecDeque<Failure>,
}

impl Backend {
    pub(crate) fn take(bus: &BusDirectory, protocol: u32) -> Result<Self, Failure> {
        Ok(Self {
            seat: BackendSeat::take_for(bus, protocol)?,
            gateways: Vec::new(),
            ports: Vec::new(),
            turn: 0,
            in_a_row: 0,
            copy: RecordCopy::default(),
            looked_around: None,
            refusals: VecDeque::new(),
        })
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.gateways.iter().map(AttachedGateway::instance)
    }

    pub(crate) fn next(&mut self, record: &mut Record) -> Outcome {
        self.look_around()?;
        // One more than there are: back to the first, which may have had its turn.
        for _ in 0..=self.ports.len() {
            let Some(port) = self.ports.get_mut(self.turn) else {
                self.turn = 0;
                continue;
            };
            if self.in_a_row < RECORDS_IN_A_ROW_MAX {
                match port.from.next(&mut self.copy) {
                    Read::Record(header) => {
                        self.in_a_row += 1;
                        let (end, payload) = (port.from.position(), self.copy.payload());
                        *record = Record::new(header, port.gateway, port.ring, false, end, payload);
                        return Ok(TIDEGATE_BUS_OK);
                    }
                    Read::Bad(bad) if bad.condemned => {
                        let gateway = port.gateway;
                        self.refuse(gateway);
                        return Err(Failure::new(
                            TIDEGATE_BUS_REFUSED,
                            format!("gateway {gateway}: {}", bad.damage),
                        ));
                    }
                    // One record was skipped, and counted.
                    Read::Bad(_) => continue,
                    Read::Empty => {}
                }
            }
            (self.turn, self.in_a_row) = ((self.turn + 1) % self.ports.len(), 0);
        }
        Ok(TIDEGATE_BUS_EMPTY)
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Outcome {
        self.look_around()?;
        self.seat.bell().prepare();
        if self.ports.iter_mut().any(|port| !port.from.is_empty()) {
            self.seat.bell().awake();
            return Ok(TIDEGATE_BUS_OK);
        }
        self.seat.bell().sleep(timeout);
        self.look_around()?;
        let some = self.ports.iter_mut().any(|port| !port.from.is_empty());
        Ok(if some {
            TIDEGATE_BUS_OK
        } else {
            TIDEGATE_BUS_EMPTY
        })
    }

    /// Finds new gateways (a load while there is none); now and then beats, and looks for the dead.
    fn look_around(&mut self) -> Result<(), Failure> {
        for instance in self.seat.discover()? {
            match self.seat.attach(instance) {
                Ok(gateway) => self.serve(gateway),
                Err(shm_bus::AttachError::Gone(_)) => {}
                Err(error) => self.refusals.push_back(error.into()),
            }
        }
        let due = self
            .looked_around
            .is_none_or(|at| at.elapsed() >= LOOK_AROUND_EVERY);
        if due {
            self.looked_around = Some(Instant::now());
            self.seat.place().look()?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_us = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            self.seat.control().beat(now_us);
            self.bury();
        }
        self.refusals.pop_front().map_or(Ok(()), Err)
    }

    fn serve(&mut self, mut gateway: AttachedGateway) {
        let instance = gateway.instance();
        let shards = std::mem::take(&mut gateway.shards);
        self.ports.extend(shards.into_iter().map(|ports| Port {
            gateway: instance,
            ring: ports.shard,
            from: ports.to_backend,
            to: Outgoing::new(ports.to_gateway),
        }));
        self.gateways.push(gateway);
    }

    /// Removes gateways that are dead and of which everything was released. Death is asked first: what was published
    /// before it is all there then.
    fn bury(&mut self) {
        self.seat.bury_refused();
        let dead = self.gateways.iter().filter(|gateway| !gateway.is_alive());
        for instance in dead.map(AttachedGateway::instance).collect::<Vec<_>>() {
            let mut own = self
                .ports
                .iter_mut()
                .filter(|port| port.gateway == instance);
            if own.all(|port| port.from.is_empty() && port.from.released() == port.from.published())
                && let Some(gateway) = self.let_go(instance)
                && let Err(error) = gateway.unlink()
            {
                self.refusals.push_back(error.into());
            }
        }
    }

    /// Tells a gateway that it is not served, and forgets it.
    fn refuse(&mut self, instance: InstanceId) {
        // The word first, then the bells, so that who wakes finds it.
        if let Some(gateway) = self.take_gateway(instance) {
            self.seat.refuse(gateway);
        }
        for port in &mut self.ports {
            if port.gateway == instance {
                port.to.abandon();
                let _no_claim_is_open = port.to.ring();
            }
        }
        self.ports.retain(|port| port.gateway != instance);
        (self.turn, self.in_a_row) = (0, 0);
    }

    fn let_go(&mut self, instance: InstanceId) -> Option<AttachedGateway> {
        self.ports.retain(|port| port.gateway != instance);
        (self.turn, self.in_a_row) = (0, 0);
        self.take_gateway(instance)
    }

    fn take_gateway(&mut self, instance: InstanceId) -> Option<AttachedGateway> {
        let place = self.gateways().position(|one| one == instance)?;
        Some(self.gateways.swap_remove(place))
    }
}
