//! An ordinary visitor or agent: `bench::client`, which keeps the delivery contract, and somebody who types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_backend::engine::Engine;
use tidegate_backend::engine::conversation::ConversationKey;
use tidegate_backend::engine::kinds::Status;
use tidegate_bench::client::{Client, Event, Exchange, Message, Phase, Settings, State};
use tidegate_protocol::{Codec, Id, fb, message};

use super::dice::Dice;
use super::oracle::Said;
use super::speaker::{Speaker, Surroundings, Want};

/// Between two of its doings at most, µs.
const PAUSE_US_MAX: u64 = 1_000_000;
/// A command that nobody answers so long after all was put right, and after the Welcome, was lost, µs: what was under
/// way is answered in less.
const ANSWER_US_MAX: u64 = 8_000_000;
/// What a text is made of.
const FILLING: &str = "潮汐之门 tidegate ";
/// The widget of all visitors.
const WIDGET: u32 = 1;

/// On which side of a conversation somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Asks.
    Visitor,
    /// Answers.
    Agent,
}

/// What somebody holds of one conversation.
#[derive(Default)]
struct Held {
    /// Everything up to here was handed on, or its absence was announced.
    up_to: u64,
    /// Own messages beyond, as their acknowledgements said.
    own: BTreeSet<u64>,
    /// Own messages that may still be shown: what was acknowledged comes again with a resume.
    unshown: BTreeSet<u64>,
    /// Shown as theirs, and not closed.
    mine: bool,
    /// What is on the page, by seq.
    page: BTreeMap<u64, Said>,
    /// What was announced as absent by the events at hand: after .. ≤ to. Until the client hears that it is not needed, a
    /// resume may bring it all the same.
    absent: (u64, u64),
}

impl Held {
    fn advance(&mut self) {
        while self.own.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
        let up_to = self.up_to;
        self.own.retain(|&seq| seq > up_to);
    }
}

/// See the module.
pub struct Person {
    principal: Id,
    side: Side,
    client: Client,
    exchange: Exchange,
    act_at_us: u64,
    pause_us: u64,
    /// When it learned that all was put right, µs.
    settled_us: Option<u64>,
    /// A visitor's other device acknowledges for this one, too. A new backend goes on from that, and says no Welcome by which
    /// a visitor's client could see it: it asks when something later comes.
    has_two_devices: bool,
    /// Backends that there had been when it connected.
    backends: u64,
    /// When it was welcomed last, µs.
    welcomed_us: u64,
    last_words: bool,
    /// Commands without an answer, on the connection that it has.
    asked: BTreeSet<u64>,
    /// Of these, which conversation shall be handed on.
    handing_on: BTreeMap<u64, Id>,
    /// So many of a hundred doings are commands.
    commands_percent: u64,
    sends_left: u64,
    said: u64,
    text_bytes_max: u64,
    texts: BTreeMap<u64, String>,
    held: BTreeMap<Id, Held>,
}

impl Person {
    /// Somebody of that token; whose longest text has at least so many bytes.
    pub fn new(
        principal: Id,
        side: Side,
        token: &str,
        text_bytes_least: u64,
        has_two_devices: bool,
        dice: &mut Dice,
    ) -> Self {
        let codec = if dice.permille(250) {
            Codec::Json
        } else {
            Codec::Flat
        };
        let settings = Arc::new(Settings::new("tidegate", codec));
        // 53 bits, as a browser's.
        let session = (dice.number() >> 11).max(1);
        Self {
            principal,
            side,
            client: Client::new(settings, token, session, dice.number()),
            exchange: Exchange::default(),
            act_at_us: 0,
            pause_us: dice.scale(5_000, PAUSE_US_MAX),
            settled_us: None,
            has_two_devices,
            backends: 0,
            welcomed_us: 0,
            last_words: false,
            asked: BTreeSet::new(),
            handing_on: BTreeMap::new(),
            commands_percent: *dice.pick(&[8, 8, 40]),
            sends_left: dice.scale(1, 60),
            said: 0,
            text_bytes_max: dice.scale(text_bytes_least, 16_000),
            texts: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    fn act(&mut self, around: &mut Surroundings<'_>) {
        let now_us = around.now_us;
        self.act_at_us = now_us + around.dice.between(1, 2 * self.pause_us);
        let exchange = &mut self.exchange;
        match self.client.phase() {
            Phase::Idle => self.client.start(now_us, exchange),
            _ if self.settled_us.is_some() => {
                self.act_at_us = u64::MAX;
                if std::mem::take(&mut self.last_words) {
                    self.speak_to_all(around);
                }
            }
            _ => self.do_something(around),
        }
    }

    fn do_something(&mut self, around: &mut Surroundings<'_>) {
        let now_us = around.now_us;
        if around.dice.below(100) < self.commands_percent {
            return self.command_something(around);
        }
        match around.dice.below(92) {
            0..60 => self.say_something(around),
            60..75 => {
                if let Some(conversation) = self.any_mine(around.dice) {
                    let up_to = self.held[&conversation].up_to;
                    let seq = around.dice.between(0, up_to);
                    self.client
                        .read(conversation, seq, now_us, &mut self.exchange);
                }
            }
            75..82 => {
                if let Some(conversation) = self.any_mine(around.dice) {
                    let active = around.dice.permille(500);
                    self.client
                        .typing(conversation, active, now_us, &mut self.exchange);
                }
            }
            82..84 => self.client.ping(now_us, &mut self.exchange),
            84..86 => self.client.stop(now_us, &mut self.exchange),
            _ => {}
        }
    }

    fn say_something(&mut self, around: &mut Surroundings<'_>) {
        if self.sends_left == 0 {
            return;
        }
        let conversation = match self.side {
            Side::Visitor => None,
            Side::Agent => match self.any_mine(around.dice) {
                None => return,
                found => found,
            },
        };
        self.say(conversation, around);
    }

    /// To everybody who listens: a visitor in the open conversation, an agent in each; and an agent asks for something.
    fn speak_to_all(&mut self, around: &mut Surroundings<'_>) {
        let mine = self.held.iter().filter(|(_, held)| held.mine);
        let mine: Vec<Id> = mine.map(|(&id, _)| id).collect();
        for id in mine {
            self.say(Some(id), around);
        }
        if self.side == Side::Agent {
            self.command(status(fb::AgentStatus::Online), around);
        }
    }

    fn say(&mut self, conversation: Option<Id>, around: &mut Surroundings<'_>) {
        let bytes = around.dice.scale(1, self.text_bytes_max);
        let bytes = usize::try_from(bytes).expect("small");
        self.said += 1;
        let mut text = format!("{} {}: ", self.principal.0, self.said);
        text.push_str(&FILLING.repeat(bytes / FILLING.len()));
        let sent = self
            .client
            .send(&text, conversation, around.now_us, &mut self.exchange);
        if let Ok(key) = sent {
            self.sends_left = self.sends_left.saturating_sub(1);
            self.texts.insert(key, text);
        }
    }

    fn command_something(&mut self, around: &mut Surroundings<'_>) {
        let command = match self.side {
            Side::Visitor if around.dice.permille(300) => {
                let Some(conversation) = self.any_mine(around.dice) else {
                    return;
                };
                command(fb::CommandOp::Close, conversation)
            }
            Side::Visitor => return,
            Side::Agent => {
                let known: Vec<Id> = around.oracle.visitor_of.keys().copied().collect();
                let mine = self.any_mine(around.dice);
                match (around.dice.below(10), mine) {
                    (0..2, Some(mine)) => command(fb::CommandOp::Close, mine),
                    (2..4, Some(mine)) => message::Command {
                        agent: Id(u128::from(around.dice.below(4))),
                        ..command(fb::CommandOp::Transfer, mine)
                    },
                    (4..6, _) if !known.is_empty() => {
                        command(fb::CommandOp::Take, *around.dice.pick(&known))
                    }
                    (6, _) => status(fb::AgentStatus::Away),
                    _ => status(fb::AgentStatus::Online),
                }
            }
        };
        self.command(command, around);
    }

    fn command(&mut self, command: message::Command, around: &mut Surroundings<'_>) {
        let asked = self
            .client
            .command(command, around.now_us, &mut self.exchange);
        self.asked.extend(asked);
        if let (Some(request), fb::CommandOp::Transfer) = (asked, command.op) {
            let conversation = command.conversation;
            self.handing_on.insert(request, conversation);
            let transfers = &mut around.oracle.transfers;
            transfers.entry(conversation).or_default().0 += 1;
        }
        if asked.is_some() && command.op != fb::CommandOp::SetStatus {
            around.wants.push(Want::Mischief);
        }
    }

    fn any_mine(&self, dice: &mut Dice) -> Option<Id> {
        let mine = self.held.iter().filter(|(_, held)| held.mine);
        let mine: Vec<Id> = mine.map(|(&id, _)| id).collect();
        (!mine.is_empty()).then(|| mine[dice.index(mine.len())])
    }

    /// What the client did is passed on; what it learned is compared.
    fn flush(&mut self, around: &mut Surroundings<'_>) {
        loop {
            around.output.append(&mut self.exchange.output);
            let events = std::mem::take(&mut self.exchange.events);
            if events.is_empty() {
                return;
            }
            for event in events {
                self.learn(event, around);
            }
            for held in self.held.values_mut() {
                held.absent = (0, 0);
            }
        }
    }

    fn learn(&mut self, event: Event, around: &mut Surroundings<'_>) {
        self.tell(&event, around);
        match event {
            Event::Connect => {
                around.wants.push(Want::Connect);
                self.backends = around.oracle.backends;
            }
            Event::Disconnect => {
                around.wants.push(Want::Disconnect);
                self.asked.clear();
            }
            Event::Done { request } => {
                self.asked.remove(&request);
                self.handing_on.remove(&request);
            }
            Event::NotDone { request, reason } => {
                // In another state, or of an earlier backend: it may have been done.
                let is_undone = reason.is_some_and(|reason| reason != fb::Reason::InvalidState);
                let handing_on = self.handing_on.remove(&request);
                if let Some(conversation) = handing_on.filter(|_| is_undone) {
                    let transfers = &mut around.oracle.transfers;
                    transfers.entry(conversation).or_default().1 += 1;
                }
                let settled_us = self.settled_us.unwrap_or(u64::MAX);
                let since_us = settled_us.max(self.welcomed_us);
                let is_late = self.client.phase() == Phase::Open
                    && around.now_us > since_us.saturating_add(ANSWER_US_MAX);
                if self.asked.remove(&request) && reason.is_none() && is_late {
                    around.oracle.fail(format!(
                        "{}'s command {request} was never answered, and the connection stayed",
                        self.principal
                    ));
                }
            }
            Event::Missed {
                conversation,
                after,
            } => {
                let was_announced = around.oracle.backends > self.backends;
                if !(was_announced && self.has_two_devices) {
                    around.oracle.fail(format!(
                        "{} was not sent what follows {after} of {conversation}, and was sent later things",
                        self.principal
                    ));
                }
            }
            // Nobody else has its session: not even its own earlier Hello, however late that comes.
            Event::Closed {
                comes_back: false,
                code,
                ..
            } => around
                .oracle
                .fail(format!("{} is closed for good: {code}", self.principal)),
            Event::UpgradeRefused { status } => around
                .oracle
                .fail(format!("an upgrade was refused with {status}")),
            Event::Malformed => around
                .oracle
                .fail("the server sent what is no message".to_owned()),
            Event::Welcomed { principal, .. } => {
                if principal != self.principal {
                    around
                        .oracle
                        .fail(format!("{} is welcomed as {principal}", self.principal));
                }
                self.welcomed_us = around.now_us;
                // What it still has is named behind the Welcome.
                for held in self.held.values_mut() {
                    held.mine = false;
                }
                if self.side == Side::Agent {
                    self.command(status(fb::AgentStatus::Online), around);
                }
            }
            Event::Accepted {
                key,
                session,
                n,
                conversation,
                seq,
                ..
            } => self.accepted(key, (session, n), (conversation, seq), around),
            Event::Refused { key, .. } => {
                self.texts.remove(&key);
            }
            Event::Message(message) => self.read_message(&message, around),
            Event::Hole {
                conversation,
                after,
                to,
                reset,
                ..
            } => {
                let held = self.held.entry(conversation).or_default();
                if reset {
                    *held = Held {
                        mine: held.mine,
                        ..Held::default()
                    };
                }
                held.up_to = held.up_to.max(to);
                held.absent = (after, to);
                held.advance();
                self.client
                    .holds(conversation, to, around.now_us, &mut self.exchange);
            }
            Event::State(state) => self.see_state(&state, around),
            _ => {}
        }
    }

    /// For who reads along.
    fn tell(&self, event: &Event, around: &mut Surroundings<'_>) {
        let who = self.name();
        match event {
            Event::Message(message) => around.trace.note(
                around.now_us,
                format_args!(
                    "{who} reads {} {} {:?}",
                    message.conversation, message.seq, message.system
                ),
            ),
            event => around
                .trace
                .note(around.now_us, format_args!("{who} learns {event:?}")),
        }
    }

    fn accepted(
        &mut self,
        key: u64,
        (session, n): (u64, u64),
        (conversation, seq): (Id, u64),
        around: &mut Surroundings<'_>,
    ) {
        let oracle = &mut around.oracle;
        oracle.accepted((self.principal, session, n), conversation, seq);
        if let Some(text) = self.texts.remove(&key) {
            let said = Said {
                sender: self.principal,
                session,
                n,
                text,
                system: fb::SystemEvent::None.0,
            };
            let held = self.held.entry(conversation).or_default();
            held.page.insert(seq, said.clone());
            oracle.shown(conversation, seq, said);
        }
        if self.side == Side::Visitor {
            oracle.shown_to_visitor(self.principal, conversation);
        }
        let held = self.held.entry(conversation).or_default();
        if seq > held.up_to {
            held.unshown.insert(seq);
            held.own.insert(seq);
            held.advance();
        }
    }

    fn read_message(&mut self, message: &Message, around: &mut Surroundings<'_>) {
        let conversation = message.conversation;
        let oracle = &mut around.oracle;
        match self.side {
            Side::Visitor => oracle.shown_to_visitor(self.principal, conversation),
            Side::Agent => oracle.shown_to_agent(self.principal, conversation, message.seq),
        }
        let said = Said {
            sender: message.sender,
            session: message.session,
            n: message.n,
            text: message.text.to_string(),
            system: message.system.0,
        };
        let held = self.held.entry(conversation).or_default();
        held.page.insert(message.seq, said.clone());
        oracle.shown(conversation, message.seq, said);
        // Own messages before it are in their places.
        while held.up_to + 1 < message.seq && held.own.remove(&(held.up_to + 1)) {
            held.up_to += 1;
        }
        let is_own = message.own && held.unshown.remove(&message.seq);
        let (after, to) = held.absent;
        let was_absent = message.seq > after && message.seq <= to;
        if was_absent {
            held.absent.0 = message.seq;
        }
        let comes_again = (is_own && message.seq <= held.up_to) || was_absent;
        if message.seq != held.up_to + 1 && !comes_again {
            around.oracle.fail(format!(
                "{} had {conversation} up to {} and is shown {}",
                self.principal, held.up_to, message.seq
            ));
        }
        held.up_to = held.up_to.max(message.seq);
        held.advance();
    }

    fn see_state(&mut self, state: &State, around: &mut Surroundings<'_>) {
        if self.side == Side::Visitor {
            around
                .oracle
                .shown_to_visitor(self.principal, state.conversation);
        }
        let takes_part = match self.side {
            Side::Visitor => state.visitor == self.principal,
            Side::Agent => state.agent == self.principal,
        };
        if takes_part && state.mine {
            if self.side == Side::Agent {
                around
                    .oracle
                    .shown_to_agent(self.principal, state.conversation, 0);
            }
            let held = self.held.entry(state.conversation).or_default();
            held.mine = state.status != fb::ConversationStatus::Closed;
        } else if let Some(held) = self.held.get_mut(&state.conversation) {
            held.mine = false;
        }
    }

    /// The conversations that are this person's by the engine's word, with their highest seq.
    fn engines(&self, engine: &Engine) -> BTreeMap<Id, u64> {
        let conversations = engine.conversations();
        let keys: Vec<ConversationKey> = match self.side {
            Side::Visitor => conversations
                .open_of(self.principal, WIDGET)
                .into_iter()
                .collect(),
            Side::Agent => {
                let agent = engine.agents().get(self.principal);
                let open = agent.into_iter().flat_map(|agent| &agent.open);
                open.map(|&key| ConversationKey(key)).collect()
            }
        };
        let open = keys.into_iter().filter_map(|key| conversations.get(key));
        open.filter(|conversation| conversation.row.status != Status::Closed)
            .map(|conversation| (conversation.row.id, conversation.seq))
            .collect()
    }
}

fn command(op: fb::CommandOp, conversation: Id) -> message::Command {
    message::Command {
        op,
        conversation,
        ..Default::default()
    }
}

fn status(status: fb::AgentStatus) -> message::Command {
    message::Command {
        op: fb::CommandOp::SetStatus,
        status,
        ..Default::default()
    }
}

impl Speaker for Person {
    fn name(&self) -> String {
        format!("{:?} {}", self.side, self.principal.0)
    }

    fn connected(&mut self, around: &mut Surroundings<'_>) {
        self.client.connected(around.now_us, &mut self.exchange);
        self.flush(around);
    }

    fn received(&mut self, bytes: &mut [u8], around: &mut Surroundings<'_>) {
        self.client
            .received(bytes, around.now_us, &mut self.exchange);
        self.flush(around);
    }

    fn lost(&mut self, around: &mut Surroundings<'_>) {
        self.client.lost(around.now_us, &mut self.exchange);
        self.flush(around);
    }

    fn tick(&mut self, around: &mut Surroundings<'_>) {
        if around.now_us >= self.act_at_us {
            self.act(around);
            self.flush(around);
        }
        if around.now_us >= self.client.deadline_us() {
            self.client.tick(around.now_us, &mut self.exchange);
            self.flush(around);
        }
    }

    fn wake_at_us(&self) -> u64 {
        self.act_at_us.min(self.client.deadline_us())
    }

    fn hurry(&mut self, now_us: u64) {
        self.act_at_us = self.act_at_us.min(now_us);
    }

    fn say_last_words(&mut self) {
        self.last_words = true;
        self.act_at_us = 0;
    }

    fn shows(&self) -> Vec<((Id, u64), &Said)> {
        let mine = self.held.iter().filter(|(_, held)| held.mine);
        mine.flat_map(|(&id, held)| held.page.iter().map(move |(&seq, said)| ((id, seq), said)))
            .collect()
    }

    fn settle(&mut self, now_us: u64) {
        self.settled_us = Some(now_us);
        self.act_at_us = 0;
    }

    fn unfinished(&self, engine: &Engine) -> Option<String> {
        if self.client.phase() != Phase::Open {
            return Some(format!("it is {:?}", self.client.phase()));
        }
        if self.client.unanswered() > 0 {
            let count = self.client.unanswered();
            return Some(format!("{count} of its messages are unanswered"));
        }
        if let Some(request) = self.asked.first() {
            return Some(format!("its command {request} is unanswered"));
        }
        let engines = self.engines(engine);
        for (id, &seq) in &engines {
            let held = self.held.get(id);
            let up_to = held.map_or(0, |held| held.up_to);
            if up_to != seq || !held.is_some_and(|held| held.mine) {
                return Some(format!("it has {id} up to {up_to} of {seq}"));
            }
        }
        let mine = self.held.iter().filter(|(_, held)| held.mine);
        mine.map(|(id, _)| id)
            .find(|id| !engines.contains_key(id))
            .map(|id| format!("it is shown {id}, which is not its own"))
    }
}
