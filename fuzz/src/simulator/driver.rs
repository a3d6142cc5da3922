//! A shard's kernel: what the core asks for is kept, and done a moment later against the simulated network. It checks
//! the contract of each call, and that memory which is being sent stays as it was.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use tidegate_gateway::driver::{BufferId, Driver, Key, Outgoing, Receive, ReceiveEnd, Socket};
use tidegate_gateway::shard::SendError;

use super::dice::Dice;
use super::network::{End, LineId, Network, Reading};

/// What is told to the shard.
#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// Bytes came into a buffer.
    Received(Key, BufferId, usize),
    /// A receive is over.
    ReceiveEnded(Key, ReceiveEnd),
    /// A send is over.
    Sent(Key, Result<u32, SendError>),
}

struct Receiving {
    key: Key,
    once: bool,
    cancelled: bool,
}

/// A send under way: where the core's memory lies, and what stood there when it was lent.
struct Sending {
    key: Key,
    at: *const u8,
    lent: Vec<u8>,
    cancelled: bool,
}

struct Open {
    line: LineId,
    receiving: Option<Receiving>,
    sending: Option<Sending>,
}

/// The kernel's part of one shard.
pub struct SimulatedDriver {
    buffers: Vec<Vec<u8>>,
    free: VecDeque<BufferId>,
    open: BTreeMap<u32, Open>,
    next_socket: u32,
    /// What the core wants of the listener.
    pub accepting: bool,
    /// Connected, and not accepted yet.
    pub backlog: VecDeque<LineId>,
    shut: Vec<LineId>,
    closed: Vec<LineId>,
    /// To be handed out, in order.
    pub completions: VecDeque<Completion>,
    /// What the core did against the driver's contract.
    pub broken: Option<String>,
    dice: Dice,
}

impl SimulatedDriver {
    /// With so many receive buffers.
    pub fn new(buffers: u16, buffer_bytes: usize, dice: Dice) -> Self {
        Self {
            buffers: (0..buffers).map(|_| vec![0; buffer_bytes]).collect(),
            free: (0..buffers).map(BufferId).collect(),
            open: BTreeMap::new(),
            next_socket: 1,
            accepting: false,
            backlog: VecDeque::new(),
            shut: Vec::new(),
            closed: Vec::new(),
            completions: VecDeque::new(),
            broken: None,
            dice,
        }
    }

    /// The next connection of the backlog, if the core accepts.
    pub fn accept(&mut self) -> Option<Socket> {
        let line = self.accepting.then(|| self.backlog.pop_front())??;
        let socket = self.next_socket;
        self.next_socket += 1;
        let open = Open {
            line,
            receiving: None,
            sending: None,
        };
        self.open.insert(socket, open);
        Some(Socket(socket))
    }

    /// Every line of this shard: what the kernel closes when the process dies.
    pub fn lines(&self) -> Vec<LineId> {
        let open = self.open.values().map(|open| open.line);
        open.chain(self.backlog.iter().copied()).collect()
    }

    /// Does what was asked for, as far as the network lets it.
    pub fn pump(&mut self, network: &mut Network, now_us: u64) {
        for line in std::mem::take(&mut self.shut) {
            network.shutdown(line, End::Server, now_us);
        }
        for line in std::mem::take(&mut self.closed) {
            network.close(line, End::Server, now_us);
        }
        let sockets: Vec<u32> = self.open.keys().copied().collect();
        for socket in sockets {
            self.pump_send(socket, network, now_us);
            self.pump_receive(socket, network, now_us);
        }
    }

    fn pump_send(&mut self, socket: u32, network: &mut Network, now_us: u64) {
        let Some(open) = self.open.get_mut(&socket) else {
            return;
        };
        let Some(sending) = &open.sending else { return };
        if network.is_reset(open.line, End::Server, now_us) {
            let result = Err(SendError::Failed);
            self.completions
                .push_back(Completion::Sent(sending.key, result));
            open.sending = None;
            return;
        }
        let length = sending.lent.len();
        let room = network.room_bytes(open.line, End::Server).min(length);
        if room == 0 && !sending.cancelled {
            return;
        }
        #[expect(
            unsafe_code,
            reason = "the kernel reads the core's memory after the call"
        )]
        // SAFETY: the core promised in `Driver::send` that the bytes stay where they are until `sent` is told; it is
        // told below, and not before.
        let bytes = unsafe { std::slice::from_raw_parts(sending.at, length) };
        if bytes != sending.lent {
            self.broken = Some("memory that is being sent was changed".to_owned());
        }
        let result = if room == 0 {
            Err(SendError::Cancelled)
        } else {
            // A kernel that is short of room takes a part.
            let count = if self.dice.permille(100) {
                1 + self.dice.index(room)
            } else {
                room
            };
            let written = network.write(open.line, End::Server, now_us, &sending.lent[..count]);
            Ok(u32::try_from(written).expect("invariant: frames fit u32"))
        };
        self.completions
            .push_back(Completion::Sent(sending.key, result));
        open.sending = None;
    }

    fn pump_receive(&mut self, socket: u32, network: &mut Network, now_us: u64) {
        loop {
            let Some(open) = self.open.get_mut(&socket) else {
                return;
            };
            let Some(receiving) = &open.receiving else {
                return;
            };
            let key = receiving.key;
            if receiving.cancelled {
                open.receiving = None;
                self.end_receive(key, ReceiveEnd::Over);
                return;
            }
            if !network.is_readable(open.line, End::Server, now_us) {
                return;
            }
            let Some(&id) = self.free.front() else {
                open.receiving = None;
                self.end_receive(key, ReceiveEnd::NoBuffers);
                return;
            };
            let buffer = &mut self.buffers[usize::from(id.0)];
            let buffer_bytes = buffer.len();
            let most = if self.dice.permille(100) {
                1 + self.dice.index(buffer_bytes)
            } else {
                buffer_bytes
            };
            let mut bytes = Vec::new();
            let once = receiving.once;
            match network.read(open.line, End::Server, now_us, most, &mut bytes) {
                Reading::Bytes(count) => {
                    buffer[..count].copy_from_slice(&bytes);
                    self.free.pop_front();
                    self.completions
                        .push_back(Completion::Received(key, id, count));
                    if once {
                        open.receiving = None;
                        self.end_receive(key, ReceiveEnd::Over);
                        return;
                    }
                }
                Reading::Nothing => return,
                Reading::End => {
                    open.receiving = None;
                    self.end_receive(key, ReceiveEnd::EndOfStream);
                    return;
                }
                Reading::Reset => {
                    open.receiving = None;
                    self.end_receive(key, ReceiveEnd::Failed);
                    return;
                }
            }
        }
    }

    fn end_receive(&mut self, key: Key, end: ReceiveEnd) {
        self.completions
            .push_back(Completion::ReceiveEnded(key, end));
    }

    fn breaks(&mut self, what: &str) {
        self.broken.get_or_insert_with(|| what.to_owned());
    }
}

impl Driver for SimulatedDriver {
    fn buffer(&mut self, id: BufferId) -> &mut [u8] {
        if self.free.contains(&id) {
            self.breaks("a receive buffer that was given back is used");
        }
        &mut self.buffers[usize::from(id.0)]
    }

    fn give_back(&mut self, id: BufferId) {
        if self.free.contains(&id) {
            return self.breaks("a receive buffer is given back twice");
        }
        self.buffers[usize::from(id.0)].fill(0xEE);
        self.free.push_back(id);
    }

    fn buffers_free(&self) -> (u32, u32) {
        let count = |length| u32::try_from(length).expect("invariant: buffers are numbered in u16");
        (count(self.free.len()), count(self.buffers.len()))
    }

    fn buffer_bytes(&self) -> usize {
        self.buffers[0].len()
    }

    fn receive(&mut self, key: Key, socket: Socket, receive: Receive) {
        let receiving = Receiving {
            key,
            once: receive == Receive::Once,
            cancelled: false,
        };
        let refused = match self.open.get_mut(&socket.0) {
            None => Some("a receive on a closed socket"),
            Some(open) => open
                .receiving
                .replace(receiving)
                .map(|_| "two receives of one socket"),
        };
        if let Some(what) = refused {
            self.breaks(what);
        }
    }

    fn cancel_receive(&mut self, key: Key) {
        let mut all = self
            .open
            .values_mut()
            .filter_map(|open| open.receiving.as_mut());
        if let Some(receiving) = all.find(|receiving| receiving.key == key) {
            receiving.cancelled = true;
        }
    }

    #[expect(unsafe_code, reason = "the trait's: memory is read after the call")]
    unsafe fn send(&mut self, key: Key, socket: Socket, bytes: Outgoing<'_>) {
        let lent = match bytes {
            Outgoing::Memory(bytes) => bytes,
            Outgoing::Received { id, start, end } => {
                &self.buffers[usize::from(id.0)][start as usize..end as usize]
            }
        };
        let sending = Sending {
            key,
            at: lent.as_ptr(),
            lent: lent.to_vec(),
            cancelled: false,
        };
        let refused = match self.open.get_mut(&socket.0) {
            None => Some("a send on a closed socket"),
            Some(open) => open
                .sending
                .replace(sending)
                .map(|_| "two sends of one connection"),
        };
        if let Some(what) = refused {
            self.breaks(what);
        }
    }

    fn cancel_send(&mut self, key: Key) {
        let mut all = self
            .open
            .values_mut()
            .filter_map(|open| open.sending.as_mut());
        if let Some(sending) = all.find(|sending| sending.key == key) {
            sending.cancelled = true;
        }
    }

    fn shutdown_write(&mut self, socket: Socket) {
        if let Some(open) = self.open.get(&socket.0) {
            self.shut.push(open.line);
        }
    }

    fn close(&mut self, socket: Socket) {
        match self.open.remove(&socket.0) {
            None => self.breaks("a socket is closed twice"),
            Some(open) => {
                if open.receiving.is_some() || open.sending.is_some() {
                    self.breaks("a socket is closed under an operation");
                }
                self.closed.push(open.line);
            }
        }
    }

    fn peer(&mut self, _socket: Socket) -> Option<SocketAddr> {
        Some(SocketAddr::from(([192, 0, 2, 1], 5_000)))
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }
}
