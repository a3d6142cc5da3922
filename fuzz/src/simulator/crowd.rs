//! The clients of the world and their sockets.

use tidegate_protocol::token::{self, Claims};
use tidegate_protocol::{Id, fb};

use super::business::Business;
use super::hostile::Hostile;
use super::network::{End, Manners, Reading};
use super::person::{Person, Side};
use super::plan::START_US;
use super::speaker::{Seat, Speaker, Surroundings, Want};
use super::trace::note;
use super::wild::Wild;
use super::world::{Actor, World};

/// Tokens live for so long, s: beyond what any clock is stepped.
const TOKEN_S: u64 = 30 * 86_400;
/// Read at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// Visitors' ids begin here; agents count from 1.
const VISITORS_FROM: u128 = 1_000;

impl World {
    /// Everybody gets a seat.
    pub(super) fn invite_clients(&mut self) {
        for agent in (1..).map(Id).take(self.plan.agent_capacities.len()) {
            self.invite(agent, Side::Agent);
        }
        let mut next = VISITORS_FROM;
        for _ in 0..self.plan.visitors {
            next += 1;
            self.invite(Id(next), Side::Visitor);
        }
        for _ in 0..self.plan.wild {
            next += 1;
            let token = self.token(Id(next), fb::Role::Visitor);
            let wild = Wild::new(Id(next), token, &mut self.dice);
            self.seat(Box::new(wild));
        }
        for _ in 0..self.plan.hostile {
            next += 1;
            let token = self.token(Id(next), fb::Role::Visitor);
            let hostile = Hostile::new(token, &mut self.dice);
            self.seat(Box::new(hostile));
        }
        if self.plan.has_business {
            self.business = Some(Business::new(Id(next + 1), &mut self.dice));
            self.wake(self.now_us, Actor::Business);
        }
    }

    /// With one device or two.
    fn invite(&mut self, principal: Id, side: Side) {
        let role = match side {
            Side::Visitor => fb::Role::Visitor,
            Side::Agent => fb::Role::Agent,
        };
        let token = self.token(principal, role);
        let second = self.dice.permille(self.plan.second_devices_permille);
        for _ in 0..=u8::from(second) {
            let least = self.plan.text_bytes_least;
            let shares = second && side == Side::Visitor;
            let person = Person::new(principal, side, &token, least, shares, &mut self.dice);
            self.seat(Box::new(person));
        }
    }

    fn seat(&mut self, speaker: Box<dyn Speaker>) {
        self.seats.push(Seat::new(speaker));
        let client = self.seats.len() - 1;
        let arrives_us = self.dice.below(500_000);
        self.wake(self.now_us + arrives_us, Actor::Client(client));
    }

    fn token(&self, principal: Id, role: fb::Role) -> String {
        let start_s = START_US / 1_000_000;
        let claims = Claims {
            sub: principal,
            role,
            wid: u32::from(role == fb::Role::Visitor),
            name: format!("{} {principal}", role.variant_name().unwrap_or("?")),
            sid: 1,
            iat: start_s - TOKEN_S,
            exp: start_s + TOKEN_S,
        };
        token::mint(&claims, &self.key)
    }

    /// Lets a client's speaker do something, and does what it wants.
    fn with_speaker(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut dyn Speaker, &mut Surroundings<'_>),
    ) {
        let mut wants = Vec::new();
        let seat = &mut self.seats[client];
        let mut around = Surroundings {
            now_us: self.now_us,
            dice: &mut self.dice,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            output: &mut seat.unsent,
            wants: &mut wants,
        };
        act(seat.speaker.as_mut(), &mut around);
        for want in wants {
            match want {
                Want::Connect => self.connect(client),
                Want::Disconnect => self.seats[client].closing = true,
                Want::Abort => self.abort(client),
                Want::Mischief => self.strike_soon(),
            }
        }
    }

    /// What is written until then belongs to the old line.
    fn connect(&mut self, client: usize) {
        self.leave(client);
        let (gateways, shards) = (self.posts.len(), self.plan.gateway.shards);
        let post = self.dice.index(gateways);
        let shard = self.dice.index(usize::from(shards));
        let Some(gateway) = &mut self.posts[post].gateway else {
            note!(self, "client {client} finds nobody at gateway {post}");
            return self.lose(client);
        };
        let manners = Manners {
            latency_us: self.dice.scale(50, 100_000),
            jitter_us: self.dice.scale(1, 50_000),
            capacity_bytes: usize::try_from(self.dice.scale(2_048, 262_144)).expect("small"),
            piece_bytes_max: usize::try_from(self.dice.scale(1, 16_384)).expect("small"),
        };
        let line = self.network.open(client, (post, shard), manners);
        note!(self, "client {client} connects: line {}", line.0);
        gateway.shards[shard].driver.backlog.push_back(line);
        self.wake(self.now_us + manners.latency_us, Actor::Shard(post, shard));
        self.seats[client].line = Some(line);
        self.with_speaker(client, |speaker, around| speaker.connected(around));
    }

    /// Closes the line in order, with what was written to it as far as it takes it.
    fn leave(&mut self, client: usize) {
        let seat = &mut self.seats[client];
        let unsent = std::mem::take(&mut seat.unsent);
        seat.closing = false;
        if let Some(line) = seat.line.take() {
            self.network.write(line, End::Client, self.now_us, &unsent);
            self.network.close(line, End::Client, self.now_us);
        }
    }

    fn abort(&mut self, client: usize) {
        if let Some(line) = self.seats[client].line {
            self.network.reset(line, End::Client, self.now_us);
        }
        self.lose(client);
    }

    /// The speaker learns that its line is gone.
    pub(super) fn lose(&mut self, client: usize) {
        let seat = &mut self.seats[client];
        seat.unsent.clear();
        seat.closing = false;
        if let Some(line) = seat.line.take() {
            self.network.close(line, End::Client, self.now_us);
        }
        self.with_speaker(client, |speaker, around| speaker.lost(around));
    }

    pub(super) fn client_acts(&mut self, client: usize) {
        self.read_line(client);
        if self.seats[client].speaker.wake_at_us() <= self.now_us {
            self.with_speaker(client, |speaker, around| speaker.tick(around));
        }
        self.write_line(client);
        let seat = &self.seats[client];
        let mut next_us = seat.speaker.wake_at_us();
        if seat.deaf_until_us > self.now_us {
            next_us = next_us.min(seat.deaf_until_us);
        }
        self.plan_next(next_us.max(self.now_us + 1), Actor::Client(client));
    }

    fn read_line(&mut self, client: usize) {
        let mut bytes = Vec::new();
        // Each read may lead to another line.
        while let Some(line) = self.seats[client].line {
            let seat = &self.seats[client];
            if seat.deaf_until_us > self.now_us || !seat.speaker.reads() {
                return;
            }
            bytes.clear();
            let most = if self.dice.permille(100) {
                1 + self.dice.index(READ_BYTES_MAX)
            } else {
                READ_BYTES_MAX
            };
            let read = self
                .network
                .read(line, End::Client, self.now_us, most, &mut bytes);
            match read {
                Reading::Nothing => return,
                Reading::Bytes(count) => {
                    let hash = fnv(&bytes);
                    note!(self, "client {client} reads {count} bytes {hash:016x}");
                    if !self.seats[client].closing {
                        self.with_speaker(client, |speaker, around| {
                            speaker.received(&mut bytes, around);
                        });
                    }
                }
                Reading::End | Reading::Reset => {
                    note!(self, "client {client} is told: {read:?}");
                    self.lose(client);
                }
            }
        }
    }

    fn write_line(&mut self, client: usize) {
        let now_us = self.now_us;
        let seat = &mut self.seats[client];
        let Some(line) = seat.line else { return };
        let count = self.network.write(line, End::Client, now_us, &seat.unsent);
        seat.unsent.drain(..count);
        if count > 0 {
            note!(self, "client {client} writes {count} bytes");
        }
        let seat = &self.seats[client];
        if seat.closing && seat.unsent.is_empty() {
            self.leave(client);
            self.with_speaker(client, |speaker, around| speaker.lost(around));
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
