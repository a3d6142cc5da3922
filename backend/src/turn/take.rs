//! Taking inputs: from each ring in turn, from HTTP, from workers, from the clock. A ring is visited only while its way back has
//! room for the answers; the ring of a gateway that died is drained to its end, whatever the room.

use shm_bus::{Read, RecordHeader};

use super::Turn;
use super::careful::{Verdict, content};
use super::held::ruled;
use crate::bus::cold::ColdReader;
use crate::bus::decode::{ANSWER_BYTES_MAX, answer_bytes, decode, is_let_in};
use crate::bus::link::{Gateways, Link};
use crate::engine::input::Input;
use crate::store::{Store, StoreError};

/// Requests over HTTP that one turn takes.
const HTTP_PER_TURN_MAX: usize = 256;

/// What a look at one ring gave.
enum Taken {
    /// With where it begins.
    Record(RecordHeader, u64),
    Skipped,
    Nothing,
}

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    pub(super) fn take_all(&mut self, now_us: u64, seed: u64) -> Result<(), StoreError> {
        self.careful.before_other();
        if !std::mem::replace(&mut self.looked, true) {
            for gateway in self.bus.take_vanished() {
                self.apply(&Input::GatewayGone { gateway }, now_us, seed)?;
            }
        }
        // Rings that are never empty must not starve people who ask over HTTP, nor these the rings.
        if !self.careful.is_on() {
            self.take_http(HTTP_PER_TURN_MAX, now_us, seed)?;
        }
        self.take_held(now_us, seed)?;
        self.take_said(now_us, seed)?;
        self.take_rings(now_us, seed)?;
        while let Some(gateway) = self.bus.next_gone() {
            self.settle_held(Some(gateway), now_us, seed)?;
            self.careful.before_other();
            tracing::info!(
                gateway = format!("{gateway:016x}"),
                "gone: its ring is drained, its connections end"
            );
            self.apply(&Input::GatewayGone { gateway }, now_us, seed)?;
        }
        if self.careful.is_on() {
            self.take_http(1, now_us, seed)?;
        }
        if self.engine.next_tick_us() <= now_us {
            self.careful.before_other();
            self.apply(&Input::Tick, now_us, seed)?;
        }
        // Behind everything else: a turn that is full has no time for it.
        if !self.careful.is_on() && !self.is_full() && self.engine.next_retention_us() <= now_us {
            self.careful.before_other();
            self.apply(&Input::Retain, now_us, seed)?;
        }
        Ok(())
    }

    /// Whether the turn has enough.
    pub(super) fn is_full(&self) -> bool {
        let inputs_max = if self.careful.is_on() {
            1
        } else {
            self.limits.inputs_max
        };
        self.inputs >= inputs_max || self.lookups >= self.limits.lookups_max
    }

    fn take_rings(&mut self, now_us: u64, seed: u64) -> Result<(), StoreError> {
        let mut rings: Vec<(u64, u16)> = self
            .bus
            .attached
            .iter()
            .flat_map(|(&instance, gateway)| {
                (0..gateway.link.shards()).map(move |shard| (instance, shard))
            })
            .collect();
        if rings.is_empty() {
            self.careful.leftovers_done(now_us);
            return Ok(());
        }
        self.first_visit = (self.first_visit + 1) % rings.len();
        rings.rotate_left(self.first_visit);
        let mut any = true;
        while any && !self.is_full() {
            any = false;
            for &(instance, shard) in &rings {
                any |= self.visit(instance, shard, now_us, seed)?;
            }
        }
        // What was taken last is through only when it is committed: the next turn tells.
        if self.careful.is_on() && self.inputs == 0 && !self.bus.has_input() {
            self.careful.leftovers_done(now_us);
        }
        Ok(())
    }

    /// Takes from one ring. True if there may be more.
    fn visit(
        &mut self,
        instance: u64,
        shard: u16,
        now_us: u64,
        seed: u64,
    ) -> Result<bool, StoreError> {
        for _ in 0..self.limits.inputs_per_visit {
            if self.is_full() {
                return Ok(false);
            }
            match self.take_record(instance, shard) {
                Taken::Nothing => return Ok(false),
                Taken::Skipped => {}
                Taken::Record(header, start) => {
                    self.apply_record(instance, shard, (&header, start), now_us, seed)?;
                }
            }
        }
        Ok(true)
    }

    fn take_record(&mut self, instance: u64, shard: u16) -> Taken {
        let Some(gateway) = self.bus.attached.get_mut(&instance) else {
            return Taken::Nothing;
        };
        let dead = gateway.dead;
        let port = &mut gateway.ports[usize::from(shard)];
        if port.read_to_end
            || (!dead && !port.may_take(gateway.link.to_gateway(shard), ANSWER_BYTES_MAX))
        {
            return Taken::Nothing;
        }
        let consumer = gateway.link.to_backend(shard);
        let start = consumer.position().get();
        match consumer.next(&mut self.copy) {
            Read::Empty => {
                port.read_to_end = dead;
                Taken::Nothing
            }
            Read::Bad(bad) => {
                self.bus.tally.records_bad += 1;
                port.release_to = Some(consumer.position());
                if bad.condemned {
                    tracing::error!(
                        gateway = format!("{instance:016x}"), shard, damage = %bad.damage,
                        "a ring is beyond reading: its gateway counts as dead"
                    );
                    port.read_to_end = true;
                    gateway.dead = true;
                    return Taken::Nothing;
                }
                Taken::Skipped
            }
            Read::Record(header) => {
                let position = consumer.position();
                if shm_bus::mutant::is_planted("release_before_commit") {
                    consumer.release_to(position);
                }
                port.read_to = position.get();
                port.release_to = Some(position);
                port.taken = true;
                if !dead {
                    port.reserved_bytes += answer_bytes(&header, self.copy.payload());
                }
                Taken::Record(header, start)
            }
        }
    }

    fn apply_record(
        &mut self,
        instance: u64,
        shard: u16,
        (header, start): (&RecordHeader, u64),
        now_us: u64,
        seed: u64,
    ) -> Result<(), StoreError> {
        let port = self
            .bus
            .attached
            .get(&instance)
            .and_then(|gateway| gateway.ports.get(usize::from(shard)));
        let (position, stored, left_over_to) = port.map_or((0, 0, 0), |port| {
            (port.read_to, port.stored, port.left_over_to)
        });
        // The copy is lent to the input while the engine, which does not know of copies, is changed.
        let copy = std::mem::take(&mut self.copy);
        let again = (position <= stored, position <= left_over_to);
        let said = content(header.principal, copy.payload());
        if is_let_in(header, copy.payload()) {
            self.admission.came();
        }
        let applied = match decode(instance, shard, header, copy.payload(), again) {
            None => {
                self.bus.tally.records_bad += 1;
                Ok(())
            }
            Some(input) => match (self.careful.before(instance, shard, position, said), &input) {
                (Verdict::Quarantine { error }, Input::Envelope(envelope)) => {
                    let input = Input::Quarantined {
                        envelope: *envelope,
                        position,
                        error: error.into(),
                    };
                    self.apply(&input, now_us, seed)
                }
                // Nobody waits for an answer to the others; a connection that cannot be welcomed is closed.
                (Verdict::Quarantine { error }, Input::Opened(opened)) => {
                    tracing::error!(%error, principal = %opened.principal, "this Hello broke the engine twice");
                    self.apply(
                        &Input::Unwelcome {
                            address: opened.address,
                        },
                        now_us,
                        seed,
                    )
                }
                (Verdict::Quarantine { .. }, _) => Ok(()),
                (Verdict::Apply, _) => {
                    match self.hold(&input, (header, copy.payload()), (start, position), now_us) {
                        Some(verdict) => self.apply(&ruled(input, &verdict), now_us, seed),
                        None => {
                            self.inputs += 1;
                            Ok(())
                        }
                    }
                }
            },
        };
        self.copy = copy;
        applied
    }

    fn take_http(&mut self, most: usize, now_us: u64, seed: u64) -> Result<(), StoreError> {
        for _ in 0..most {
            if self.is_full() {
                break;
            }
            let Ok(request) = self.door.requests.try_recv() else {
                break;
            };
            if let Some((request, verdict)) = self.hold_request(request, now_us) {
                self.apply_ruled(request, verdict, now_us, seed)?;
            }
        }
        Ok(())
    }
}
