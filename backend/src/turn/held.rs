//! Texts that wait for the workers that look at them. The turn asks, goes on, and applies them when they are through all
//! [`super::stages`], each of which ends with an answer or with its default; the turn never waits.
//!
//! A text that is held is not an input yet: it is neither journalled nor accepted nor acknowledged, and the ledger
//! knows nothing of it. Everything that its connection says meanwhile waits behind it, so that order on a connection
//! holds. Its ring is read on but not given back beyond it: a backend that dies leaves it there, and the next one, which
//! cannot know how it would have been answered, has its sender come back and send it again.
//!
//! Asked about is what comes over a socket and over HTTP. Not asked about are repeats of what an earlier process
//! committed, and anything while the turn is careful ([`super::careful`]): that gets the defaults at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shm_bus::{Position, RecordHeader};
use tidegate_protocol::{Id, Kind, View, verify};

use super::careful::content;
use super::stages::{Stage, Stages};
use super::{Turn, http_input, ticket_of};
use crate::app::command::{HttpCommand, Refusal};
use crate::app::handle::Request;
use crate::bus::cold::ColdReader;
use crate::bus::decode::{ANSWER_BYTES_MAX, answer_bytes, decode};
use crate::bus::link::{Gateways, Link};
use crate::engine::connections::Address;
use crate::engine::input::{Input, Ruling};
use crate::engine::kinds::{Reason, Role, Side};
use crate::store::{Store, StoreError};
use crate::workers::{TextQuestion, Verdict};

/// Texts on their way through the stages, and what waits behind them.
pub(super) struct Held {
    pub(super) stages: Stages,
    queues: BTreeMap<Address, VecDeque<HeldRecord>>,
    requests: BTreeMap<u64, Request>,
    /// Connections whose first record may be applied.
    due: BTreeSet<Address>,
}

/// A record that waits: a text, or what came behind one.
struct HeldRecord {
    header: RecordHeader,
    payload: Box<[u8]>,
    /// From where to where it lies in its ring.
    start: u64,
    end: u64,
    again: (bool, bool),
    fate: Fate,
}

/// What is known of a held record.
enum Fate {
    /// It is this text of the stages', which know, or will.
    Asked(u64),
    /// How it is applied when its turn comes.
    Known(Verdict),
}

impl Held {
    /// When something has to be done though nothing comes.
    pub(super) fn wake_at_us(&self, room_us: u64) -> u64 {
        if self.due.is_empty() {
            self.stages.deadline_us()
        } else {
            room_us
        }
    }
}

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    /// Has texts pass these stages from now on.
    pub fn set_stages(&mut self, stages: Vec<Stage>) {
        self.held = Some(Held {
            stages: Stages::new(stages),
            queues: BTreeMap::new(),
            requests: BTreeMap::new(),
            due: BTreeSet::new(),
        });
    }

    /// What is to be done with a record of a ring: `None`, it is held; else how the stages rule, if they do.
    pub(super) fn hold(
        &mut self,
        input: &Input<'_>,
        (header, payload): (&RecordHeader, &[u8]),
        (start, end): (u64, u64),
        now_us: u64,
    ) -> Option<Verdict> {
        let Some(held) = &mut self.held else {
            return Some(Verdict::Allow);
        };
        let (address, again) = match input {
            Input::Envelope(envelope) => (envelope.address, (envelope.settled, envelope.left_over)),
            Input::Closed { address } => (*address, (false, false)),
            _ => return Some(Verdict::Allow),
        };
        let asks = !self.careful.is_on();
        let mut fate = Fate::Known(Verdict::Allow);
        if let Input::Envelope(envelope) = input
            && !envelope.settled
            && envelope.kind == Kind::Send as u8
            && let role = self.engine.agents().role_of(envelope.principal)
            && let by = role.map_or(Side::Visitor, Role::side)
            && held.stages.look_at(by)
            && let Ok(View::Send(send)) = verify(Kind::Send, payload)
        {
            let text = TextQuestion {
                sender: envelope.principal,
                by,
                conversation: Id::from(send.conversation()),
                text: send.text().unwrap_or_default().to_owned(),
            };
            fate = match held.stages.enter(Some(address), text, asks, now_us) {
                Ok(number) => Fate::Asked(number),
                Err(verdict) => Fate::Known(verdict),
            };
        }
        if let Fate::Known(verdict) = &fate
            && !held.queues.contains_key(&address)
        {
            return Some(verdict.clone());
        }
        let queue = held.queues.entry(address).or_default();
        queue.push_back(HeldRecord {
            header: *header,
            payload: payload.into(),
            start,
            end,
            again,
            fate,
        });
        if let Some(gateway) = self.bus.attached.get_mut(&address.gateway)
            && let Some(port) = gateway.ports.get_mut(usize::from(address.shard))
        {
            port.held.insert(start);
        }
        None
    }

    /// Applies what was held and is answered, or waited too long.
    pub(super) fn take_held(&mut self, now_us: u64, seed: u64) -> Result<(), StoreError> {
        let Some(Held {
            stages,
            requests,
            due,
            ..
        }) = &mut self.held
        else {
            return Ok(());
        };
        stages.hear(now_us, |address| due.extend(address));
        let is_through = |number: &&u64| stages.ruling(**number).is_some();
        let answered: Vec<u64> = requests.keys().filter(is_through).copied().collect();
        for number in answered {
            if self.is_full() {
                return Ok(());
            }
            self.apply_request(number, now_us, seed)?;
        }
        self.apply_due(now_us, seed, false)
    }

    /// Applies everything that a gateway's connections wait with: it is gone. Without one: everything.
    pub(super) fn settle_held(
        &mut self,
        gateway: Option<u64>,
        now_us: u64,
        seed: u64,
    ) -> Result<(), StoreError> {
        let Some(Held { stages, due, .. }) = &mut self.held else {
            return Ok(());
        };
        stages.settle(
            |address| gateway.is_none_or(|gateway| address.gateway == gateway),
            |address| due.extend(address),
        );
        self.apply_due(now_us, seed, true)
    }

    fn apply_due(&mut self, now_us: u64, seed: u64, all: bool) -> Result<(), StoreError> {
        let due = self.held.as_ref().map(|held| held.due.clone());
        for address in due.into_iter().flatten() {
            while let Some((record, verdict)) = self.next_due(address, all) {
                self.apply_held(address, &record, verdict, now_us, seed)?;
            }
        }
        Ok(())
    }

    /// The first record of a connection, if it may be applied now.
    fn next_due(&mut self, address: Address, all: bool) -> Option<(HeldRecord, Verdict)> {
        let full = self.is_full();
        let held = self.held.as_mut()?;
        let Some(queue) = held.queues.get_mut(&address) else {
            held.due.remove(&address);
            return None;
        };
        let Some(first) = queue.front() else {
            held.queues.remove(&address);
            held.due.remove(&address);
            return None;
        };
        if let Fate::Asked(text) = &first.fate
            && held.stages.ruling(*text).is_none()
        {
            held.due.remove(&address);
            return None;
        }
        if !all {
            let has_room = match self.bus.attached.get_mut(&address.gateway) {
                Some(gateway) if !gateway.dead => {
                    let port = &mut gateway.ports[usize::from(address.shard)];
                    port.may_take(gateway.link.to_gateway(address.shard), ANSWER_BYTES_MAX)
                }
                _ => true,
            };
            if full || !has_room {
                return None;
            }
        }
        let record = queue.pop_front()?;
        let verdict = match &record.fate {
            Fate::Asked(text) => held.stages.take_ruling(*text)?,
            Fate::Known(verdict) => verdict.clone(),
        };
        Some((record, verdict))
    }

    fn apply_held(
        &mut self,
        address: Address,
        record: &HeldRecord,
        verdict: Verdict,
        now_us: u64,
        seed: u64,
    ) -> Result<(), StoreError> {
        let (gateway, shard) = (address.gateway, address.shard);
        if let Some(attached) = self.bus.attached.get_mut(&gateway) {
            let port = &mut attached.ports[usize::from(shard)];
            port.held.remove(&record.start);
            port.reserved_bytes += answer_bytes(&record.header, &record.payload);
            // What was not given back for its sake is, behind this turn's commit.
            port.release_to
                .get_or_insert(Position::from_raw(port.read_to));
        }
        let said = content(record.header.principal, &record.payload);
        let _known_when_it_came = self.careful.before(gateway, shard, record.end, said);
        let Some(input) = decode(
            gateway,
            shard,
            &record.header,
            &record.payload,
            record.again,
        ) else {
            return Ok(());
        };
        self.apply(&ruled(input, &verdict), now_us, seed)
    }

    /// A text over HTTP: held, or given back with the verdict on it. Everything else is given back as it is.
    pub(super) fn hold_request(
        &mut self,
        request: Request,
        now_us: u64,
    ) -> Option<(Request, Verdict)> {
        let (
            Some(held),
            HttpCommand::Send {
                by,
                conversation,
                text,
                ..
            },
        ) = (&mut self.held, &request.command)
        else {
            return Some((request, Verdict::Allow));
        };
        let text = TextQuestion {
            sender: by.id,
            by: by.role.side(),
            conversation: conversation.unwrap_or(Id::ABSENT),
            text: text.clone(),
        };
        match held.stages.enter(None, text, !self.careful.is_on(), now_us) {
            Ok(number) => {
                held.requests.insert(number, request);
                None
            }
            Err(verdict) => Some((request, verdict)),
        }
    }

    fn apply_request(&mut self, number: u64, now_us: u64, seed: u64) -> Result<(), StoreError> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let verdict = held.stages.take_ruling(number);
        match verdict.zip(held.requests.remove(&number)) {
            Some((verdict, request)) => self.apply_ruled(request, verdict, now_us, seed),
            None => Ok(()),
        }
    }

    /// A request over HTTP with the verdict on its text.
    pub(super) fn apply_ruled(
        &mut self,
        request: Request,
        verdict: Verdict,
        now_us: u64,
        seed: u64,
    ) -> Result<(), StoreError> {
        let Request { command, answer } = request;
        if let Verdict::Refuse(reason) = verdict {
            let refusal = Refusal {
                reason: Reason::Forbidden,
                detail: reason.into(),
                retry_ms: 0,
            };
            // The asker may have gone.
            let _ = answer.send(Err(refusal));
            return Ok(());
        }
        let ticket = self.asked.len();
        self.asked.push(Some(answer));
        self.careful.before_other();
        let input = match verdict {
            Verdict::Replace(text) => Input::HttpReplaced {
                ticket: ticket_of(ticket),
                command: Cow::Owned(command),
                text: Cow::Owned(text),
            },
            _ => http_input(ticket, command),
        };
        self.apply(&input, now_us, seed)
    }
}

/// A record's input with the verdict on it.
pub(super) fn ruled<'a>(input: Input<'a>, verdict: &'a Verdict) -> Input<'a> {
    let ruling = match verdict {
        Verdict::Allow => return input,
        Verdict::Refuse(reason) => Ruling::Refuse(reason),
        Verdict::Replace(text) => Ruling::Replace(text),
    };
    match input {
        Input::Envelope(envelope) => Input::Ruled { envelope, ruling },
        other => other,
    }
}
