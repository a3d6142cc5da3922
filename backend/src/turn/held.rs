//! Texts that wait for a moderator. The turn asks, goes on, and applies them when the answer is there, or the default
//! when it does not come in time; it never waits.
//!
//! A text that is held is not an input yet: it is neither journalled nor accepted nor acknowledged, and the ledger
//! knows nothing of it. Everything that its connection says meanwhile waits behind it, so that order on a connection
//! holds. Its ring is read on but not given back beyond it: a backend that dies leaves it there, and the next one, which
//! cannot know how it would have been answered, has its sender come back and send it again.
//!
//! Visitors' texts are asked about, over a socket and over HTTP. Not asked about are repeats of what an earlier process
//! committed, and anything while the turn is careful ([`super::careful`]): that gets the default at once. So does what
//! comes while [`Moderation::held_max`] texts are held or no worker is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shm_bus::{Position, RecordHeader};
use tidegate_protocol::{Id, Kind, View, verify};

use super::careful::content;
use super::{Turn, http_input};
use crate::app::command::{HttpCommand, Refusal};
use crate::app::handle::Request;
use crate::bus::cold::ColdReader;
use crate::bus::decode::{ANSWER_BYTES_MAX, answer_bytes, decode};
use crate::bus::link::{Gateways, Link};
use crate::config::ModerationDefault;
use crate::engine::connections::Address;
use crate::engine::input::{Input, Ruling};
use crate::engine::kinds::{Reason, Role};
use crate::store::{Store, StoreError};
use crate::workers::{TextQuestion, Verdict, Worker};

/// Who looks at texts.
type Moderator = dyn Worker<TextQuestion, Verdict>;

/// What a visitor reads whose text nobody looked at.
const UNMODERATED: &str = "this text could not be checked; try again later";

/// Texts under moderation.
pub struct Moderation {
    moderator: Box<Moderator>,
    default: ModerationDefault,
    answer_us_max: u64,
    held_max: usize,
    last_number: u64,
    asked: BTreeMap<u64, Asked>,
    queues: BTreeMap<Address, VecDeque<HeldRecord>>,
    requests: BTreeMap<u64, Request>,
    /// Connections whose first record may be applied.
    due: BTreeSet<Address>,
}

/// A question that is open.
struct Asked {
    /// Whose record it is about; `None`: a request over HTTP.
    address: Option<Address>,
    deadline_us: u64,
    verdict: Option<Verdict>,
}

/// A record that waits: a text, or what came behind one.
struct HeldRecord {
    header: RecordHeader,
    payload: Box<[u8]>,
    /// From where to where it lies in its ring.
    start: u64,
    end: u64,
    again: (bool, bool),
    /// The question about it.
    number: Option<u64>,
}

impl Moderation {
    /// Asks this moderator; what is not answered within `answer_us_max` gets the default, and so does what comes while
    /// `held_max` texts wait.
    #[must_use]
    pub fn new(
        moderator: Box<Moderator>,
        default: ModerationDefault,
        answer_us_max: u64,
        held_max: usize,
    ) -> Self {
        Self {
            moderator,
            default,
            answer_us_max,
            held_max,
            last_number: 0,
            asked: BTreeMap::new(),
            queues: BTreeMap::new(),
            requests: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Whether an answer is there that a sleeping turn would miss.
    pub(super) fn has_answer(&self) -> bool {
        self.moderator.has_answer()
    }

    /// When something has to be done though nothing comes.
    pub(super) fn wake_at_us(&self, room_us: u64) -> u64 {
        if !self.due.is_empty() {
            return room_us;
        }
        // Each waits equally long, so the first is the first to be due.
        let waiting = self.asked.values().find(|asked| asked.verdict.is_none());
        waiting.map_or(u64::MAX, |asked| asked.deadline_us)
    }

    fn by_default(&self) -> Verdict {
        match self.default {
            ModerationDefault::Allow => Verdict::Allow,
            ModerationDefault::Refuse => Verdict::Refuse(UNMODERATED.to_owned()),
        }
    }

    /// Asks about a text; `None`: it is not held, and gets the default.
    fn ask(
        &mut self,
        address: Option<Address>,
        sender: Id,
        to: Id,
        text: &str,
        now_us: u64,
    ) -> Option<u64> {
        let number = self.last_number + 1;
        let question = TextQuestion {
            sender,
            conversation: to,
            text: text.to_owned(),
        };
        if self.asked.len() >= self.held_max || !self.moderator.ask(number, question) {
            return None;
        }
        self.last_number = number;
        let asked = Asked {
            address,
            deadline_us: now_us + self.answer_us_max,
            verdict: None,
        };
        self.asked.insert(number, asked);
        Some(number)
    }

    /// Takes the answers that came, and gives the default to what waited too long. Late answers and those to what
    /// nobody asked are nobody's.
    fn hear(&mut self, now_us: u64) {
        while let Some((number, verdict)) = self.moderator.answer() {
            if let Some(asked) = self.asked.get_mut(&number)
                && asked.verdict.is_none()
            {
                asked.verdict = Some(verdict);
                self.due.extend(asked.address);
            }
        }
        let default = self.by_default();
        for asked in self.asked.values_mut() {
            if asked.deadline_us > now_us {
                break;
            }
            if asked.verdict.is_none() {
                asked.verdict = Some(default.clone());
                self.due.extend(asked.address);
            }
        }
    }

    /// Everything that is held for such addresses is due now.
    fn settle(&mut self, of: impl Fn(Address) -> bool) {
        let default = self.by_default();
        for asked in self.asked.values_mut() {
            if let Some(address) = asked.address
                && of(address)
            {
                asked.verdict.get_or_insert_with(|| default.clone());
                self.due.insert(address);
            }
        }
    }
}

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    /// Has visitors' texts looked at from now on.
    pub fn set_moderation(&mut self, moderation: Moderation) {
        self.moderation = Some(moderation);
    }

    /// What is to be done with a record of a ring: `Ok(None)`, it is held; else how a moderator rules, if it does.
    pub(super) fn hold(
        &mut self,
        input: &Input<'_>,
        (header, payload): (&RecordHeader, &[u8]),
        (start, end): (u64, u64),
        now_us: u64,
    ) -> Option<Verdict> {
        let Some(moderation) = &mut self.moderation else {
            return Some(Verdict::Allow);
        };
        let (address, again) = match input {
            Input::Envelope(envelope) => (envelope.address, (envelope.settled, envelope.left_over)),
            Input::Closed { address } => (*address, (false, false)),
            _ => return Some(Verdict::Allow),
        };
        let mut number = None;
        if let Input::Envelope(envelope) = input
            && !envelope.settled
            && envelope.kind == Kind::Send as u8
            && self.engine.agents().role_of(envelope.principal).is_none()
            && let Ok(View::Send(send)) = verify(Kind::Send, payload)
        {
            let (to, text) = (
                Id::from(send.conversation()),
                send.text().unwrap_or_default(),
            );
            if !self.careful.is_on() {
                number = moderation.ask(Some(address), envelope.principal, to, text, now_us);
            }
            if number.is_none() && !moderation.queues.contains_key(&address) {
                return Some(moderation.by_default());
            }
        } else if !moderation.queues.contains_key(&address) {
            return Some(Verdict::Allow);
        }
        // Behind another, and nobody to ask: its turn comes, and then it gets the default.
        let queue = moderation.queues.entry(address).or_default();
        queue.push_back(HeldRecord {
            header: *header,
            payload: payload.into(),
            start,
            end,
            again,
            number,
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
        let Some(moderation) = &mut self.moderation else {
            return Ok(());
        };
        moderation.hear(now_us);
        let answered: Vec<u64> = moderation
            .requests
            .keys()
            .filter(|number| {
                moderation
                    .asked
                    .get(number)
                    .is_none_or(|asked| asked.verdict.is_some())
            })
            .copied()
            .collect();
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
        let Some(moderation) = &mut self.moderation else {
            return Ok(());
        };
        moderation.settle(|address| gateway.is_none_or(|gateway| address.gateway == gateway));
        self.apply_due(now_us, seed, true)
    }

    fn apply_due(&mut self, now_us: u64, seed: u64, all: bool) -> Result<(), StoreError> {
        let due = self
            .moderation
            .as_ref()
            .map(|moderation| moderation.due.clone());
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
        let moderation = self.moderation.as_mut()?;
        let default = moderation.by_default();
        let Some(queue) = moderation.queues.get_mut(&address) else {
            moderation.due.remove(&address);
            return None;
        };
        let Some(first) = queue.front() else {
            moderation.queues.remove(&address);
            moderation.due.remove(&address);
            return None;
        };
        let verdict = match first.number {
            None if is_send(&first.header) && !first.again.0 => default,
            None => Verdict::Allow,
            Some(number) => match moderation
                .asked
                .get(&number)
                .and_then(|asked| asked.verdict.clone())
            {
                Some(verdict) => verdict,
                None => {
                    moderation.due.remove(&address);
                    return None;
                }
            },
        };
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
        if let Some(number) = record.number {
            moderation.asked.remove(&number);
        }
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

    /// A visitor's text over HTTP: held, or given back with the verdict on it.
    pub(super) fn hold_request(
        &mut self,
        request: Request,
        now_us: u64,
    ) -> Option<(Request, Verdict)> {
        let (
            Some(moderation),
            HttpCommand::Send {
                by,
                conversation,
                text,
                ..
            },
        ) = (&mut self.moderation, &request.command)
        else {
            return Some((request, Verdict::Allow));
        };
        if by.role != Role::Visitor {
            return Some((request, Verdict::Allow));
        }
        let number = if self.careful.is_on() {
            None
        } else {
            moderation.ask(
                None,
                by.id,
                conversation.unwrap_or(Id::ABSENT),
                text,
                now_us,
            )
        };
        match number {
            Some(number) => {
                moderation.requests.insert(number, request);
                None
            }
            None => Some((request, moderation.by_default())),
        }
    }

    fn apply_request(&mut self, number: u64, now_us: u64, seed: u64) -> Result<(), StoreError> {
        let Some(moderation) = &mut self.moderation else {
            return Ok(());
        };
        let verdict = moderation
            .asked
            .remove(&number)
            .and_then(|asked| asked.verdict);
        let verdict = verdict.unwrap_or_else(|| moderation.by_default());
        match moderation.requests.remove(&number) {
            Some(request) => self.apply_ruled(request, verdict, now_us, seed),
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
        let Request {
            mut command,
            answer,
        } = request;
        match (verdict, &mut command) {
            (Verdict::Refuse(reason), _) => {
                let refusal = Refusal {
                    reason: Reason::Forbidden,
                    detail: reason.into(),
                    retry_ms: 0,
                };
                // The asker may have gone.
                let _ = answer.send(Err(refusal));
                return Ok(());
            }
            (Verdict::Replace(instead), HttpCommand::Send { text, .. }) => *text = instead,
            _ => {}
        }
        let ticket = self.asked.len();
        self.asked.push(Some(answer));
        self.careful.before_other();
        self.apply(&http_input(ticket, command), now_us, seed)
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
        Input::Envelope(envelope) => Input::Moderated { envelope, ruling },
        other => other,
    }
}

/// Whether a record is an envelope with a text.
fn is_send(header: &RecordHeader) -> bool {
    header.kind == tidegate_protocol::bus::ENVELOPE
        && header.flags.to_le_bytes()[0] == Kind::Send as u8
}
