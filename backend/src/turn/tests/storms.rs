//! Random histories over two gateways, one of them with rings as small as they may be: people open, send, read late
//! or not at all, reconnect; the backend dies before, at and after its commits; commits fail; gateways die. Then all
//! is healed, and everybody has everything, once, in one order.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::{Id, fb, message};

use super::super::Stepped;
use super::stage::{Client, Stage, close_command, id, number, outcome};
use crate::engine::Rules;
use crate::engine::kinds::{Role, Side, Status};
use crate::engine::rate::RateLimit;
use crate::store::{CommitError, Store};

/// A stable dice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What a client has of one conversation.
#[derive(Default)]
struct Have {
    up_to: u64,
    beyond: BTreeSet<u64>,
}

impl Have {
    fn got(&mut self, seq: u64) {
        if seq > self.up_to {
            self.beyond.insert(seq);
        }
        while self.beyond.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
    }
}

/// A client as the SDK is one: an outbox of one, cursors, cumulative acks.
struct Player {
    client: Client,
    live: bool,
    has: BTreeMap<Id, Have>,
    last_n: u64,
    /// Sent and not answered: its number, where, and what.
    waiting: Option<(u64, Id, String)>,
    accepted: BTreeMap<u64, (Id, u64)>,
    /// Answers after which the client may not know where its message went: refusals are not remembered, so a copy
    /// that an earlier connection had sent may be accepted after another was refused. History tells.
    unsure: u64,
}

struct Storm {
    stage: Stage,
    dice: Dice,
    players: Vec<Player>,
    next_generation: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut stage = Stage::with(Rules {
            window_bytes_max: 256 << 10,
            sessions_max: 100_000,
            closed_conversations_max: 3,
            sends: RateLimit {
                per_s: 1_000_000,
                burst: 1_000_000,
            },
            ..Rules::default()
        });
        stage.start_gateway(256 << 10);
        let mut players = Vec::new();
        let people = [
            (Role::Visitor, 2_001),
            (Role::Visitor, 2_001),
            (Role::Visitor, 2_002),
            (Role::Visitor, 2_003),
        ];
        for (tab, (role, principal)) in people
            .into_iter()
            .chain([(Role::Agent, 1), (Role::Agent, 2)])
            .enumerate()
        {
            let client = stage.client(tab % 2, Id(principal), 70 + tab as u64, role, "");
            let (has, accepted) = (BTreeMap::new(), BTreeMap::new());
            players.push(Player {
                client,
                live: false,
                has,
                last_n: 0,
                waiting: None,
                accepted,
                unsure: 0,
            });
        }
        Self {
            stage,
            dice: Dice(seed),
            players,
            next_generation: 1,
        }
    }

    fn open(&mut self, player: usize) {
        self.next_generation += 1;
        let incarnation = self.stage.turn().engine().incarnation();
        let gateways = self.stage.gateways.len() as u64;
        let player = &mut self.players[player];
        // A gateway that was killed is not there any more: the newest two are.
        player.client.gateway = usize::try_from(gateways - 1 - self.dice.roll(2)).unwrap();
        player.client.generation = self.next_generation;
        player.live = true;
        let cursors: Vec<_> = player
            .has
            .iter()
            .map(|(&conversation, have)| message::Cursor {
                conversation,
                incarnation,
                seq: have.up_to,
            })
            .collect();
        self.stage.open(&player.client, &cursors);
    }

    fn send(&mut self, player: usize) {
        let fresh = format!(
            "{} {}",
            player,
            "x".repeat(usize::try_from(self.dice.roll(900)).unwrap())
        );
        let player = &mut self.players[player];
        if player.waiting.is_none() {
            let to = match player.client.role {
                Role::Visitor => Id::ABSENT,
                _ => player.has.keys().next_back().copied().unwrap_or_default(),
            };
            player.waiting = Some((player.last_n + 1, to, fresh));
        }
        if let Some((n, to, text)) = &player.waiting {
            // A full ring parks the connection; it is tried again.
            self.stage.try_send(&player.client, *n, *to, text);
        }
    }

    fn read(&mut self, player: usize) {
        let player = &mut self.players[player];
        for (kind, value) in self.stage.take_all(&player.client) {
            match kind.as_str() {
                "welcome" => {
                    player.last_n = player.last_n.max(number(&value, "last_n"));
                    for resumed in value["conversations"].as_array().into_iter().flatten() {
                        let state = &resumed["state"];
                        let have = player.has.entry(id(state, "conversation")).or_default();
                        if resumed["recovered"] != true {
                            have.up_to = have.up_to.max(number(state, "seq"));
                        }
                    }
                }
                "message" => {
                    player
                        .has
                        .entry(id(&value, "conversation"))
                        .or_default()
                        .got(number(&value, "seq"));
                }
                "conversation_state" if value["mine"] == false => {
                    player.has.remove(&id(&value, "conversation"));
                }
                "conversation_state" => {
                    player.has.entry(id(&value, "conversation")).or_default();
                }
                "send_result" => Self::answered(player, &value),
                _ => {}
            }
        }
    }

    fn answered(player: &mut Player, result: &serde_json::Value) {
        let n = number(result, "n");
        let ours = player
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.0 == n);
        match outcome(result) {
            "accepted" | "duplicate" => {
                let place = (id(result, "conversation"), number(result, "seq"));
                let before = player.accepted.insert(n, place);
                assert!(
                    before.is_none_or(|before| before == place),
                    "the first answer, always: {before:?}, then {result}"
                );
                if ours {
                    player.waiting = None;
                }
                player.last_n = player.last_n.max(n);
                // An old answer may be of a conversation that is no longer theirs.
                if let Some(have) = player.has.get_mut(&place.0) {
                    have.got(place.1);
                }
            }
            "busy" => {}
            "refused" => {
                player.unsure += 1;
                if ours {
                    player.waiting = None;
                }
            }
            "id_conflict" => {
                player.unsure += 1;
                player.last_n = player.last_n.max(n);
                if ours {
                    player.waiting = None;
                }
            }
            other => panic!("{other}: {result}"),
        }
    }

    fn ack(&mut self, player: usize) {
        let player = &self.players[player];
        for (&conversation, have) in &player.has {
            self.stage.ack(&player.client, conversation, have.up_to, 0);
        }
    }

    /// As gateways do it with a new backend.
    fn announce_all(&mut self) {
        for player in self.players.iter().filter(|player| player.live) {
            self.stage.announce(&player.client);
        }
    }

    fn act(&mut self) {
        let player = usize::try_from(self.dice.roll(self.players.len() as u64)).unwrap();
        match self.dice.roll(104) {
            0..8 => self.open(player),
            8..11 if self.players[player].live => {
                self.players[player].live = false;
                self.stage.close(&self.players[player].client);
            }
            11..45 if self.players[player].live => self.send(player),
            45..60 if self.players[player].live => {
                self.read(player);
                self.ack(player);
            }
            60..63 if self.players[player].live => {
                if let Some(&conversation) = self.players[player].has.keys().next_back() {
                    self.stage
                        .command(&self.players[player].client, close_command(conversation));
                }
            }
            63..83 => assert!(!matches!(self.stage.step(), Stepped::Broken(_))),
            // One gateway is read, the other not.
            83..92 => {
                let gateway =
                    self.stage.gateways.len() - 1 - usize::try_from(self.dice.roll(2)).unwrap();
                self.stage.read_gateway(gateway);
            }
            92..94 => self.stage.now_us += self.dice.roll(400_000),
            94 => {
                let fault = CommitError::Busy("locked".into());
                self.stage.faults.borrow_mut().push_back(Some(fault));
            }
            95..97 => {
                let mut clock = (self.stage.now_us, self.dice.roll(1 << 30));
                let _ = self.stage.turn().step_without_publishing(&mut clock);
                self.stage.restart();
                self.announce_all();
            }
            97 => {
                self.stage.restart();
                self.announce_all();
            }
            98 => self.kill_gateway(),
            // To the other agent, to the queue, or taken.
            99..104 if self.players[player].live => {
                if let Some(&conversation) = self.players[player].has.keys().next_back() {
                    let take = self.dice.roll(3) == 0;
                    let op = if take {
                        fb::CommandOp::Take
                    } else {
                        fb::CommandOp::Transfer
                    };
                    let agent = Id(u128::from(self.dice.roll(3)));
                    let command = message::Command {
                        op,
                        conversation,
                        agent,
                        ..message::Command::default()
                    };
                    self.stage.command(&self.players[player].client, command);
                }
            }
            _ => {}
        }
    }

    fn kill_gateway(&mut self) {
        let newest = self.stage.gateways.len() - 1;
        let killed = newest - usize::try_from(self.dice.roll(2)).unwrap();
        self.stage.gateways[killed].kill();
        for player in self
            .players
            .iter_mut()
            .filter(|player| player.client.gateway == killed)
        {
            player.live = false;
        }
        self.stage.start_gateway(256 << 10);
        // The one that goes on is one of the newest two from now on, or ends as well.
        if killed == newest {
            let older = newest - 1;
            self.stage.gateways[older].kill();
            for player in self
                .players
                .iter_mut()
                .filter(|player| player.client.gateway == older)
            {
                player.live = false;
            }
            self.stage.start_gateway(256 << 10);
        }
    }

    fn heal(&mut self) {
        self.stage.faults.borrow_mut().clear();
        self.stage.pass(1_000);
        for player in 0..self.players.len() {
            self.open(player);
        }
        for _ in 0..400 {
            self.stage.pass(200);
            let mut quiet = true;
            for player in 0..self.players.len() {
                self.read(player);
                if self.players[player].waiting.is_some() {
                    self.send(player);
                    quiet = false;
                }
                self.ack(player);
            }
            if quiet && self.is_whole() {
                self.stage.pass(200);
                return;
            }
        }
        panic!("it never heals: {}", self.lacks());
    }

    /// Whoever takes part in an open conversation has all of it.
    fn is_whole(&mut self) -> bool {
        self.lacks().is_empty()
    }

    fn lacks(&mut self) -> String {
        let engine = self.stage.turn.as_ref().unwrap().engine();
        let mut lacks = String::new();
        for (index, player) in self.players.iter().enumerate() {
            let open: Vec<_> = match player.client.role.side() {
                Side::Visitor => engine
                    .conversations()
                    .open_of(player.client.principal, 1)
                    .into_iter()
                    .collect(),
                Side::Agent => {
                    let agent = engine.agents().get(player.client.principal).unwrap();
                    agent
                        .open
                        .iter()
                        .map(|&key| crate::engine::conversation::ConversationKey(key))
                        .collect()
                }
            };
            let shown = player
                .has
                .keys()
                .filter_map(|&id| engine.conversations().find(id));
            let foreign = shown.filter(|&key| {
                let conversation = engine.conversations().at(key);
                conversation.is_open() && conversation.side_of(player.client.principal).is_none()
            });
            let foreign = foreign.count();
            if foreign > 0 {
                lacks += &format!("player {index} is shown {foreign} of others; ");
            }
            for key in open {
                let conversation = engine.conversations().at(key);
                let up_to = player
                    .has
                    .get(&conversation.row.id)
                    .map_or(0, |have| have.up_to);
                if up_to != conversation.seq {
                    lacks += &format!("player {index} has {up_to} of {}; ", conversation.seq);
                }
            }
        }
        lacks
    }

    fn check(&mut self) {
        let ledger = self.stage.ledger();
        let accepted: BTreeSet<_> = self
            .players
            .iter()
            .flat_map(|player| {
                player
                    .accepted
                    .iter()
                    .map(|(&n, &place)| ((player.client.session, n), place))
            })
            .collect();
        let places: BTreeSet<_> = accepted.iter().map(|&(_, place)| place).collect();
        assert_eq!(places.len(), accepted.len(), "no place is given out twice");
        let unsure: u64 = self.players.iter().map(|player| player.unsure).sum();
        let total = ledger.total().accepted;
        let known = accepted.len() as u64;
        assert!(
            (known..=known + unsure).contains(&total),
            "{known} + {unsure}, stored {total}"
        );
        let engine = self.stage.turn.as_ref().unwrap().engine();
        for player in &self.players {
            if let Some(key) = engine.conversations().open_of(player.client.principal, 1) {
                let conversation = engine.conversations().at(key);
                assert_eq!(conversation.pending.to_visitor, 0);
                if conversation.row.status == Status::Chatting {
                    assert_eq!(conversation.pending.to_agent, 0);
                }
            }
        }
        let loaded = self.stage.turn().store_mut().load().unwrap();
        let open: BTreeSet<_> = loaded
            .conversations
            .iter()
            .map(|found| found.row.visitor)
            .collect();
        assert_eq!(
            open.len(),
            loaded.conversations.len(),
            "one open conversation a visitor"
        );
    }
}

fn storm(seed: u64) {
    let mut storm = Storm::new(seed);
    for player in 0..storm.players.len() {
        storm.open(player);
    }
    for _ in 0..400 {
        storm.act();
    }
    storm.heal();
    storm.check();
}

macro_rules! storms {
    ($($name:ident $seeds:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for seed in $seeds {
                    println!("seed {seed}");
                    storm(seed);
                }
            }
        )*
    };
}

storms! {
    after_storms_1_to_15_everybody_has_everything_once 1..=15;
    after_storms_16_to_30_everybody_has_everything_once 16..=30;
}
