//! One process of the load: a thread, a ring, its connections.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{Shutdown, shutdown};
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::encoder::append_client_frame;

use super::answers::{Answers, Wrong};
use super::exchanging::Running;
use super::visiting::Heard;
use super::{Answer, Order, now_ns};
use crate::uring::{Completion, Ring, Sizes};

/// Orders are looked for so often while there is nothing to do.
const IDLE_MS: u64 = 10;

const SIZES: Sizes = Sizes {
    submissions: 512,
    completions: 8_192,
    buffers: 128,
    buffer_bytes: 16 << 10,
};

/// Operations, in the upper half of what a completion names; the lower half is the connection.
const CONNECT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;

/// One connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) stage: Stage,
    /// When each answer that is awaited was due; the oldest first. While connecting: when that was due.
    pub(super) due_ns: VecDeque<u64>,
    /// Messages that are to be sent.
    pub(super) owed: usize,
    /// A send is under way.
    pub(super) sending: bool,
    answers: Answers,
    /// A visitor's input instead.
    heard: Option<Box<Heard>>,
    /// A pong that waits for the end of a send.
    pong: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Upgrading,
    /// Hello was said; the Welcome comes.
    Greeting,
    Open,
    Lost,
}

/// The process.
pub(super) struct Child {
    pub(super) ring: Ring,
    pub(super) connections: Vec<Connection>,
    pub(super) connecting: Option<super::connecting::Connecting>,
    pub(super) running: Option<Running>,
    pub(super) lost: u64,
    pub(super) first_error: Option<Wrong>,
}

/// `tidegate bench load`: takes orders until its standard input ends.
///
/// # Errors
/// When the ring can't be set up or a pipe breaks.
pub fn run() -> Result<()> {
    let orders = read_orders();
    // A timer may otherwise be late by 50 µs, so that others are woken less: here that would be the load's lag.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut child = Child {
        ring: Ring::new(SIZES).context("io_uring is not available to the load")?,
        connections: Vec::new(),
        connecting: None,
        running: None,
        lost: 0,
        first_error: None,
    };
    loop {
        let order = match orders.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {
                // Idle connections are still answered when the server pings.
                child.turn(Duration::from_millis(IDLE_MS))?;
                continue;
            }
        };
        let answer = match order? {
            Order::Connect(order) => child.connect(&order).map(Answer::Connected),
            Order::Exchange(order) => child.exchange(&order).map(Answer::Exchanged),
        };
        say(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
}

pub(super) fn say(answer: &Answer) -> Result<()> {
    let line = serde_json::to_string(answer)? + "\n";
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}

fn read_orders() -> Receiver<Result<Order>> {
    let (sender, orders) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.map_err(Into::into).and_then(|line| {
                serde_json::from_str(&line).with_context(|| format!("no order: {line}"))
            });
            if sender.send(order).is_err() {
                return;
            }
        }
        // The parent ended, perhaps while an order runs that would take long.
        std::process::exit(0);
    });
    orders
}

impl Child {
    /// Submits, waits at most so long, and handles all that came.
    pub(super) fn turn(&mut self, at_most: Duration) -> Result<()> {
        self.ring.wait(at_most)?;
        while let Some(completion) = self.ring.completion() {
            self.handle(completion);
        }
        Ok(())
    }

    fn handle(&mut self, completion: Completion) {
        let index = usize::try_from(completion.data & 0xFFFF_FFFF).unwrap_or(usize::MAX);
        match completion.data & !0xFFFF_FFFF {
            CONNECT => self.connected(index, completion.result),
            RECEIVE => self.received(index, completion),
            SEND => self.sent(index, completion.result),
            _ => {}
        }
    }

    /// Begins to connect.
    pub(super) fn open(
        &mut self,
        socket: OwnedFd,
        due_ns: u64,
        address: &'static crate::uring::KernelAddress,
    ) {
        let index = self.connections.len();
        self.ring
            .connect(CONNECT | index as u64, socket.as_raw_fd(), address);
        self.connections.push(Connection {
            socket,
            stage: Stage::Connecting,
            due_ns: VecDeque::from([due_ns]),
            owed: 0,
            sending: false,
            answers: Answers::default(),
            heard: None,
            pong: None,
        });
    }

    fn connected(&mut self, index: usize, result: i32) {
        if result < 0 {
            self.lose(
                index,
                std::io::Error::from_raw_os_error(-result).to_string(),
            );
            return;
        }
        let connection = &mut self.connections[index];
        connection.stage = Stage::Upgrading;
        connection.sending = true;
        let (socket, data) = (connection.socket.as_raw_fd(), index as u64);
        if let Some(connecting) = &self.connecting {
            self.ring.send(SEND | data, socket, connecting.request);
            self.ring.receive(RECEIVE | data, socket);
        }
    }

    fn received(&mut self, index: usize, completion: Completion) {
        if let Some(buffer) = completion.buffer {
            let count = usize::try_from(completion.result).unwrap_or(0);
            let wrong = self.read(index, buffer, count);
            self.ring.give_back(buffer);
            if let Err(wrong) = wrong {
                self.lose(index, wrong);
            }
        }
        let connection = &self.connections[index];
        if completion.more || connection.stage == Stage::Lost {
            return;
        }
        match completion.result {
            0 => self.lose(index, "the server hung up".to_owned()),
            // No buffer was free, or the kernel ended it after bytes: ask again.
            result if result > 0 || result == -libc::ENOBUFS => {
                self.ring
                    .receive(RECEIVE | index as u64, connection.socket.as_raw_fd());
            }
            error => self.lose(index, std::io::Error::from_raw_os_error(-error).to_string()),
        }
    }

    fn read(&mut self, index: usize, buffer: u16, count: usize) -> Result<(), Wrong> {
        let connection = &mut self.connections[index];
        let bytes = &mut self.ring.buffer(buffer)[..count];
        match connection.stage {
            Stage::Connecting | Stage::Lost => Ok(()),
            Stage::Upgrading => {
                let Some(connecting) = &mut self.connecting else {
                    return Ok(());
                };
                if !connection.answers.upgrade(&connecting.asked(), bytes)? {
                    return Ok(());
                }
                let number = connecting.number(index);
                if let Some(visiting) = &mut connecting.visiting {
                    connection.stage = Stage::Greeting;
                    connection.heard = Some(Box::new(Heard::nothing()));
                    // A few hundred bytes into a fresh socket: they fit.
                    let hello = visiting.hello(number);
                    rustix::net::send(&connection.socket, hello, rustix::net::SendFlags::DONTWAIT)
                        .map_err(|error| format!("no room for a Hello: {error}"))?;
                } else {
                    connection.stage = Stage::Open;
                    connecting.upgraded(connection.due_ns.pop_front());
                }
                Ok(())
            }
            Stage::Greeting => {
                let Some(heard) = &mut connection.heard else {
                    return Ok(());
                };
                heard.take(bytes)?;
                if heard.is_welcomed() {
                    connection.stage = Stage::Open;
                    if let Some(connecting) = &mut self.connecting {
                        connecting.upgraded(connection.due_ns.pop_front());
                    }
                }
                Ok(())
            }
            Stage::Open => {
                let expected = self
                    .running
                    .as_ref()
                    .map_or(&[][..], |running| running.expected);
                let came = match &mut connection.heard {
                    Some(heard) => heard.take(bytes)?,
                    None => connection.answers.take(bytes, expected)?,
                };
                if let Some(running) = &mut self.running {
                    running.answered(connection, came.answers)?;
                }
                if came.ping.is_some() {
                    connection.pong = came.ping;
                }
                self.send_owed(index);
                Ok(())
            }
        }
    }

    fn sent(&mut self, index: usize, result: i32) {
        self.connections[index].sending = false;
        if result < 0 {
            self.lose(
                index,
                std::io::Error::from_raw_os_error(-result).to_string(),
            );
        }
        self.send_owed(index);
    }

    /// Sends what is owed on a connection, unless a send is under way: then its end does it.
    pub(super) fn send_owed(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.sending || connection.stage != Stage::Open {
            return;
        }
        if let Some(payload) = connection.pong.take() {
            let mut pong = Vec::new();
            append_client_frame(
                &mut pong,
                true,
                Opcode::Pong,
                &payload,
                fastrand::u32(..).to_ne_bytes(),
            );
            // Rare and short. A full socket loses it, and the server pings again.
            let _ = rustix::net::send(&connection.socket, &pong, rustix::net::SendFlags::DONTWAIT);
        }
        if let Some(running) = &self.running
            && connection.owed > 0
        {
            let messages = running.burst(connection.owed);
            connection.owed -= messages.len() / running.frame_bytes;
            connection.sending = true;
            let socket = connection.socket.as_raw_fd();
            self.ring.send(SEND | index as u64, socket, messages);
        }
    }

    /// Gives a connection up. What is under way on it completes, as its socket is shut down, not closed.
    fn lose(&mut self, index: usize, why: Wrong) {
        let connection = &mut self.connections[index];
        let stage = std::mem::replace(&mut connection.stage, Stage::Lost);
        if stage == Stage::Lost {
            return;
        }
        connection.due_ns.clear();
        connection.owed = 0;
        let _gone_already = shutdown(&connection.socket, Shutdown::Both);
        match (&mut self.connecting, stage) {
            (Some(connecting), Stage::Connecting | Stage::Upgrading | Stage::Greeting) => {
                connecting.failed(why)
            }
            _ => {
                self.lost += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }
}

/// CPU time of this process, µs.
pub(super) fn own_cpu_us() -> f64 {
    crate::process::cpu_us(std::process::id()).unwrap_or(0.0)
}

/// Until a moment of the monotonic clock; none when it has passed.
pub(super) fn until(moment_ns: u64) -> Duration {
    Duration::from_nanos(moment_ns.saturating_sub(now_ns()))
}
