//! Random days from seeds: people come, speak and go, the ring fills, backends come and go. Whatever happens, each
//! connection is told of in order and once, and each Send has exactly one fate.
//!
//! A failing seed is printed by the assertion; put it into `SEEDS` to replay it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::stage::*;
use crate::service::{CloseCause, Codec, ConnectionId, Told};
use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED, OPENED_ANNOUNCED};
use tidegate_protocol::{Id, Kind, View, fb, verify};

const SEEDS: Range<u64> = 0..60;
const STEPS: u32 = 600;
const SLOTS: u32 = 12;
const RING_BYTES: usize = 8 << 10;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 20) % u64::from(sides)).expect("below a u32")
    }
}

/// What the story knows of one connection.
#[derive(Default)]
struct Person {
    sent: u64,
    placed: Vec<u64>,
    refused: HashSet<u64>,
    records: Vec<u16>,
}

struct Day {
    seed: u64,
    dice: Dice,
    stage: Stage,
    people: HashMap<ConnectionId, Person>,
    /// Who sits in each slot, and whose end is still to be told.
    tenants: HashMap<u32, ConnectionId>,
    kept: HashSet<ConnectionId>,
    generations: [u32; SLOTS as usize],
    /// Connections that this backend knows, or whose records lay in the ring when it came.
    known: HashSet<ConnectionId>,
    leftovers: usize,
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut stage = Stage::without_backend(RING_BYTES);
        stage.start_backend();
        stage.turn();
        Day {
            seed,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            stage,
            people: HashMap::new(),
            tenants: HashMap::new(),
            kept: HashSet::new(),
            generations: [0; SLOTS as usize],
            known: HashSet::new(),
            leftovers: 0,
        }
    }

    fn step(&mut self) {
        let slot = self.dice.roll(SLOTS);
        match (self.dice.roll(12), self.tenants.get(&slot).copied()) {
            (0..=1, None) => self.arrive(slot),
            (0, Some(id)) if !self.kept.contains(&id) => self.leave(id),
            (1..=6, Some(id)) => self.speak(id),
            (7..=8, _) => self.stage.turn(),
            (9, _) => {
                let ms = u64::from(self.dice.roll(400));
                self.stage.live_ms(ms);
            }
            (10, _) if self.stage.backend.is_some() => self.backend_takes(),
            (11, _) if self.dice.roll(6) == 0 => self.restart_backend(),
            _ => {}
        }
        self.hear();
        self.sweep_released();
    }

    fn arrive(&mut self, slot: u32) {
        self.generations[slot as usize] += 1;
        let id = id(slot, self.generations[slot as usize]);
        self.people.insert(id, Person::default());
        self.tenants.insert(slot, id);
        let principal = Id(u128::from(slot) + 1);
        if self.dice.roll(3) == 0 {
            self.stage.upgrade(id, Codec::Json);
            let token = token_of(principal, fb::Role::Visitor, "Ann");
            self.stage.say_json(
                id,
                &format!(r#"{{"kind":"hello","token":"{token}","session":"0000000000000007"}}"#),
            );
        } else {
            self.stage.greet(id, principal, fb::Role::Visitor);
        }
    }

    fn leave(&mut self, id: ConnectionId) {
        match self.stage.close(id, CloseCause::Gone) {
            Told::Now => {
                self.tenants.remove(&id.slot);
            }
            Told::Later => {
                self.kept.insert(id);
            }
        }
    }

    fn speak(&mut self, id: ConnectionId) {
        if self.stage.is_parked(id) || self.kept.contains(&id) {
            return;
        }
        let is_json = self.stage.is_json(id);
        let count = u64::from(self.dice.roll(8)) + 1;
        let person = self.people.get_mut(&id).expect("a tenant");
        let numbers: Vec<u64> = (person.sent + 1..=person.sent + count).collect();
        person.sent += count;
        if is_json {
            let objects: Vec<String> = numbers
                .iter()
                .map(|n| format!(r#"{{"kind":"send","n":{n},"text":"words"}}"#))
                .collect();
            self.stage.say_json(id, &format!("[{}]", objects.join(",")));
        } else {
            let mut batch = Vec::new();
            for &n in &numbers {
                batch.extend(send_of(n, "some words that take room"));
                batch.extend(ack_of(Id(9), n));
            }
            self.stage.say(id, &batch);
        }
    }

    fn backend_takes(&mut self) {
        for taking in self.stage.take_all() {
            self.took(&taking);
        }
    }

    fn restart_backend(&mut self) {
        if self.stage.backend.is_some() {
            self.stage.kill_backend();
            return;
        }
        self.stage.start_backend();
        self.known.clear();
        // What lies there now was placed before the gateway could see this backend.
        let leftovers = self.stage.take_all();
        self.leftovers = leftovers.len();
        for taking in &leftovers {
            self.took(taking);
        }
        self.leftovers = 0;
    }

    fn took(&mut self, taking: &Taking) {
        let seed = self.seed;
        let id = id(taking.header.slot, taking.header.generation);
        let person = self
            .people
            .get_mut(&id)
            .unwrap_or_else(|| panic!("seed {seed}: a record of nobody"));
        let is_leftover = self.leftovers > 0;
        assert!(
            !person.records.contains(&CLOSED),
            "seed {seed}: {id} speaks after its end"
        );
        match taking.header.kind {
            OPENED => {
                let is_announced = opened(taking).record.flags == OPENED_ANNOUNCED;
                assert_eq!(
                    is_announced,
                    !person.records.is_empty(),
                    "seed {seed}: {id} opens once"
                );
                self.known.insert(id);
            }
            ENVELOPE => {
                assert!(
                    !person.records.is_empty(),
                    "seed {seed}: {id} speaks before it opened"
                );
                assert!(
                    is_leftover || self.known.contains(&id),
                    "seed {seed}: {id} was not announced first"
                );
                if taking.header.flags == Kind::Send as u16 {
                    let Ok(View::Send(send)) = verify(Kind::Send, &taking.payload) else {
                        panic!("a verified Send")
                    };
                    assert!(
                        person.placed.last().is_none_or(|last| *last < send.n()),
                        "seed {seed}: {id} out of order"
                    );
                    person.placed.push(send.n());
                }
            }
            CLOSED => assert!(
                !person.records.is_empty(),
                "seed {seed}: {id} ends and never opened"
            ),
            other => panic!("seed {seed}: kind {other}"),
        }
        person.records.push(taking.header.kind);
    }

    /// Notes which Sends were refused.
    fn hear(&mut self) {
        let ids: Vec<_> = self.people.keys().copied().collect();
        for id in ids {
            for text in self.stage.heard(id) {
                let n = text
                    .split(r#""n":"#)
                    .nth(1)
                    .and_then(|rest| rest.split(',').next()?.parse().ok());
                let n: u64 = n.unwrap_or_else(|| panic!("seed {}: {id} heard {text}", self.seed));
                let person = self.people.get_mut(&id).expect("known");
                assert!(
                    person.refused.insert(n),
                    "seed {}: {id} refused twice: {n}",
                    self.seed
                );
            }
        }
    }

    fn sweep_released(&mut self) {
        for id in std::mem::take(&mut self.stage.io.released) {
            assert!(
                self.kept.remove(&id),
                "seed {}: {id} released but not kept",
                self.seed
            );
            self.tenants.remove(&id.slot);
        }
    }

    /// Everybody goes, everything is taken: the books must close.
    fn end(mut self) {
        let seed = self.seed;
        if self.stage.backend.is_none() {
            self.restart_backend();
        }
        // Whoever waits for room is heard out.
        for _ in 0..200 {
            self.backend_takes();
            self.stage.turn();
            self.hear();
            self.sweep_released();
        }
        let tenants: Vec<_> = self
            .tenants
            .values()
            .copied()
            .filter(|id| !self.kept.contains(id))
            .collect();
        assert!(
            tenants.iter().all(|&id| !self.stage.is_parked(id)),
            "seed {seed}: nobody waits for ever"
        );
        let stayed: HashSet<_> = tenants.iter().copied().collect();
        for id in tenants {
            self.leave(id);
            self.backend_takes();
        }
        for _ in 0..10 {
            self.stage.turn();
            self.sweep_released();
            self.backend_takes();
        }
        assert!(
            self.tenants.is_empty() && self.kept.is_empty(),
            "seed {seed}: every slot is free again"
        );
        for (id, person) in &self.people {
            let opened = !person.records.is_empty();
            assert_eq!(
                opened,
                person.records.contains(&CLOSED),
                "seed {seed}: {id} opened and closed, or neither"
            );
            for n in 1..=person.sent {
                let fates = usize::from(person.placed.contains(&n))
                    + usize::from(person.refused.contains(&n));
                // Who left may have had a parked message: it was never accepted, and has no fate.
                assert!(
                    fates == 1 || (fates == 0 && !stayed.contains(id)),
                    "seed {seed}: {id} Send {n}: {fates} fates"
                );
            }
        }
        assert_eq!(
            (self.stage.chat.open, self.stage.chat.held_bytes),
            (0, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn every_connection_is_told_in_order_and_every_send_has_one_fate() {
    for seed in SEEDS {
        let mut day = Day::new(seed);
        for _ in 0..STEPS {
            day.step();
        }
        day.end();
    }
}
