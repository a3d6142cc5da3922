//! TCP as a program sees it: bytes in order, cut anywhere, late, lost with a reset, or vanishing in silence.
//!
//! A line is one connection: two pipes and what its ends were told. A pipe holds what was written and not yet read, in
//! pieces that arrive one after the other; its capacity stands for the socket buffers of both ends.

use std::collections::{BTreeMap, VecDeque};

use super::dice::Dice;

/// The kernel gives up on a peer that acknowledges nothing for so long (TCP_USER_TIMEOUT of the gateway), µs.
const USER_TIMEOUT_US: u64 = 30_000_000;

/// What is written at once arrives in about so many pieces at most: each is an event for its reader, and a long message byte
/// by byte would cost more than the rest of a run.
const PIECES_MAX: usize = 64;

/// The name of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineId(pub u32);

/// Which end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Who connected.
    Client,
    /// The gateway.
    Server,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// So many bytes were appended.
    Bytes(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer sent its last byte.
    End,
    /// Reset, or given up.
    Reset,
}

/// How a line behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// One way, µs.
    pub latency_us: u64,
    /// On top, up to so much for each piece, µs.
    pub jitter_us: u64,
    /// Bytes written and not read that it holds each way.
    pub capacity_bytes: usize,
    /// Pieces of at most so many bytes.
    pub piece_bytes_max: usize,
}

#[derive(Default)]
struct Pipe {
    /// When it arrives, and what.
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    last_arrival_us: u64,
    /// The writer closed: when the reader learns of it.
    fin_at_us: Option<u64>,
}

struct Line {
    manners: Manners,
    /// To the client, to the server.
    pipes: [Pipe; 2],
    /// When each end learns that the line is gone: client, server.
    reset_at_us: [Option<u64>; 2],
    closed: [bool; 2],
    /// Bytes vanish, and nobody is told.
    is_dead: bool,
    /// Who sits at the ends, for whoever wakes them.
    client: usize,
    server: (usize, usize),
}

/// Somebody has something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This client.
    Client(usize),
    /// This gateway's shard.
    Shard(usize, usize),
}

/// All lines.
pub struct Network {
    lines: BTreeMap<LineId, Line>,
    next: u32,
    dice: Dice,
    /// When, whom: for the world to schedule.
    pub wakes: Vec<(u64, Wake)>,
}

impl Network {
    /// Without lines.
    pub fn new(dice: Dice) -> Self {
        Self {
            lines: BTreeMap::new(),
            next: 0,
            dice,
            wakes: Vec::new(),
        }
    }

    /// A client connects to a shard.
    pub fn open(&mut self, client: usize, server: (usize, usize), manners: Manners) -> LineId {
        let id = LineId(self.next);
        self.next += 1;
        let line = Line {
            manners,
            pipes: [Pipe::default(), Pipe::default()],
            reset_at_us: [None; 2],
            closed: [false; 2],
            is_dead: false,
            client,
            server,
        };
        self.lines.insert(id, line);
        id
    }

    /// Lines that are open at both ends and alive, in the order of their making.
    pub fn living(&self) -> Vec<LineId> {
        let lives = |line: &Line| {
            !line.is_dead && line.closed == [false; 2] && line.reset_at_us == [None; 2]
        };
        let living = self.lines.iter().filter(|(_, line)| lives(line));
        living.map(|(&id, _)| id).collect()
    }

    /// Bytes that may be written now.
    pub fn room_bytes(&self, id: LineId, from: End) -> usize {
        self.lines.get(&id).map_or(0, |line| {
            let held = line.pipes[from.other() as usize].bytes;
            line.manners.capacity_bytes.saturating_sub(held)
        })
    }

    /// Whether this end was told that the line is gone.
    pub fn is_reset(&self, id: LineId, at: End, now_us: u64) -> bool {
        self.lines
            .get(&id)
            .is_none_or(|line| line.reset_at_us[at as usize].is_some_and(|when| when <= now_us))
    }

    /// Writes as much as there is room for, in pieces; the count.
    pub fn write(&mut self, id: LineId, from: End, now_us: u64, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room_bytes(id, from));
        let Some(line) = self.lines.get_mut(&id) else {
            return 0;
        };
        let to = from.other();
        let pipe = &mut line.pipes[to as usize];
        if count == 0 {
            return 0;
        }
        pipe.bytes += count;
        if line.is_dead {
            // Nobody acknowledges it. The server's kernel gives up after a while.
            if from == End::Server && line.reset_at_us[from as usize].is_none() {
                let at_us = now_us + USER_TIMEOUT_US;
                line.reset_at_us[from as usize] = Some(at_us);
                self.wakes
                    .push((at_us, Wake::Shard(line.server.0, line.server.1)));
            }
            return count;
        }
        let wake = wake_of(line, to);
        let mut rest = &bytes[..count];
        let piece_bytes_max = line.manners.piece_bytes_max.max(count / PIECES_MAX);
        let pipe = &mut line.pipes[to as usize];
        while !rest.is_empty() {
            let most = piece_bytes_max.min(rest.len());
            let cut = if self.dice.permille(300) {
                1 + self.dice.index(most)
            } else {
                most
            };
            let (piece, behind) = rest.split_at(cut);
            rest = behind;
            let flight_us = line.manners.latency_us + self.dice.below(line.manners.jitter_us + 1);
            let at_us = (now_us + flight_us).max(pipe.last_arrival_us);
            pipe.last_arrival_us = at_us;
            match pipe.pieces.back_mut() {
                // Coalesced: what arrives together is one piece.
                Some((when, held)) if *when == at_us => held.extend_from_slice(piece),
                _ => pipe.pieces.push_back((at_us, piece.to_vec())),
            }
            self.wakes.push((at_us, wake));
        }
        count
    }

    /// Appends what arrived, at most `most` bytes.
    pub fn read(
        &mut self,
        id: LineId,
        at: End,
        now_us: u64,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Reading {
        let Some(line) = self.lines.get_mut(&id) else {
            return Reading::Reset;
        };
        if line.reset_at_us[at as usize].is_some_and(|when| when <= now_us) {
            return Reading::Reset;
        }
        let peer = wake_of(line, at.other());
        let pipe = &mut line.pipes[at as usize];
        let full = pipe.bytes >= line.manners.capacity_bytes;
        let mut count = 0;
        while count < most
            && let Some((when, piece)) = pipe.pieces.front_mut()
            && *when <= now_us
        {
            let taken = piece.len().min(most - count);
            into.extend_from_slice(&piece[..taken]);
            count += taken;
            if taken == piece.len() {
                pipe.pieces.pop_front();
            } else {
                piece.drain(..taken);
            }
        }
        pipe.bytes -= count;
        if count > 0 {
            if full {
                self.wakes.push((now_us, peer));
            }
            return Reading::Bytes(count);
        }
        if pipe.pieces.is_empty() && pipe.fin_at_us.is_some_and(|when| when <= now_us) {
            return Reading::End;
        }
        Reading::Nothing
    }

    /// Whether reading would give anything but `Nothing`.
    pub fn is_readable(&self, id: LineId, at: End, now_us: u64) -> bool {
        self.lines.get(&id).is_none_or(|line| {
            let pipe = &line.pipes[at as usize];
            let there = |when: Option<u64>| when.is_some_and(|when| when <= now_us);
            there(pipe.pieces.front().map(|piece| piece.0))
                || (pipe.pieces.is_empty() && there(pipe.fin_at_us))
                || there(line.reset_at_us[at as usize])
        })
    }

    /// This end says that nothing more follows.
    pub fn shutdown(&mut self, id: LineId, from: End, now_us: u64) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let to = from.other();
        let pipe = &mut line.pipes[to as usize];
        if line.is_dead || pipe.fin_at_us.is_some() {
            return;
        }
        let at_us = (now_us + line.manners.latency_us).max(pipe.last_arrival_us);
        pipe.fin_at_us = Some(at_us);
        let wake = wake_of(line, to);
        self.wakes.push((at_us, wake));
    }

    /// This end closes its socket: an end of stream, or a reset if it left bytes unread.
    pub fn close(&mut self, id: LineId, from: End, now_us: u64) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let unread = line.pipes[from as usize].bytes > 0;
        if unread {
            self.reset(id, from, now_us);
        } else {
            self.shutdown(id, from, now_us);
        }
        if let Some(line) = self.lines.get_mut(&id) {
            line.closed[from as usize] = true;
            if line.closed == [true; 2] {
                self.lines.remove(&id);
            }
        }
    }

    /// The peer of `from` learns that the line is gone; what is on its way is lost.
    pub fn reset(&mut self, id: LineId, from: End, now_us: u64) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let to = from.other();
        if line.is_dead || line.reset_at_us[to as usize].is_some() {
            return;
        }
        let at_us = now_us + line.manners.latency_us;
        line.reset_at_us[to as usize] = Some(at_us);
        let wake = wake_of(line, to);
        self.wakes.push((at_us, wake));
    }

    /// The machine of all servers is gone: nothing that is on its way arrives, and clients learn of it at once.
    pub fn vanish(&mut self, now_us: u64) {
        for line in self.lines.values_mut() {
            line.is_dead = false;
            for pipe in &mut line.pipes {
                pipe.pieces.clear();
                pipe.bytes = 0;
            }
            line.reset_at_us[End::Client as usize] = Some(now_us);
            self.wakes.push((now_us, wake_of(line, End::Client)));
        }
    }

    /// A reset that both ends learn of, as a middlebox sends it.
    pub fn cut(&mut self, id: LineId, now_us: u64) {
        self.reset(id, End::Client, now_us);
        self.reset(id, End::Server, now_us);
    }

    /// Both ends of every dead line are told.
    pub fn revive(&mut self, now_us: u64) {
        let dead: Vec<LineId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.is_dead)
            .map(|(&id, _)| id)
            .collect();
        for id in dead {
            if let Some(line) = self.lines.get_mut(&id) {
                line.is_dead = false;
            }
            self.cut(id, now_us);
        }
    }

    /// From now on everything vanishes, and nobody is told.
    pub fn deaden(&mut self, id: LineId) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.is_dead = true;
            for pipe in &mut line.pipes {
                pipe.pieces.clear();
            }
        }
    }
}

const fn wake_of(line: &Line, end: End) -> Wake {
    match end {
        End::Client => Wake::Client(line.client),
        End::Server => Wake::Shard(line.server.0, line.server.1),
    }
}
