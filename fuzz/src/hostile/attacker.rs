//! Performs one attack over a plain socket, and says what came of it and when.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use protocol::close::CloseCode;
use protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, frame, upgrade};

/// Beyond what an ending may take, so that the report says what came instead of it.
const GRACE: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 << 10;
const SLOW_READER: u16 = 4002;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended; [`Ending::Lasts`] where it did not, until the attacker had enough.
    pub ending: Ending,
    /// How long after the last thing that it began with.
    pub after: Duration,
}

/// Performs the attack once. What may last is done for `lasts`.
///
/// # Errors
/// The attack could not begin: no connection, no upgrade, no Welcome.
pub fn perform(server: SocketAddr, attack: &Attack, lasts: Duration) -> io::Result<Report> {
    let mut attacker = Attacker::begin(server, &attack.begins)?;
    let report = attacker.act(attack, lasts)?;
    Ok(report)
}

/// The sentence about a report that is not what the attack's ending says; `None` if it is.
#[must_use]
pub fn judge(attack: &Attack, report: &Report) -> Option<String> {
    let as_expected = match (&attack.ending, &report.ending) {
        // Whoever is answered faster than they read may be closed as a slow reader.
        (Ending::Lasts, Ending::Close(SLOW_READER)) => attack.is_flood(),
        (Ending::Gone, found) => matches!(found, Ending::Close(_) | Ending::Cut | Ending::Gone),
        (expected, found) => expected == found,
    };
    let in_time = attack.ending == Ending::Lasts || report.after <= attack.within;
    (!as_expected || !in_time).then(|| {
        format!(
            "{}: expected {:?} within {:?}, found {:?} after {:?}",
            attack.name, attack.ending, attack.within, report.ending, report.after
        )
    })
}

struct Attacker {
    stream: TcpStream,
    reader: MessageReader,
    pending: Vec<u8>,
    upgraded: bool,
    status: Option<u16>,
    /// The stream ended, or broke.
    over: bool,
    /// Writing failed: only what was sent before is still heard.
    mute: bool,
}

/// What there is to write.
struct Script<'a> {
    first: &'a [u8],
    again: &'a [u8],
    /// Between two bytes; `None`: as fast as they are taken.
    pace: Option<Duration>,
    at: usize,
    due: Instant,
}

impl Attacker {
    fn begin(server: SocketAddr, begins: &Begins) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let mut attacker = Self {
            stream,
            reader: MessageReader::new(Peer::Server),
            pending: Vec::new(),
            upgraded: false,
            status: None,
            over: false,
            mute: false,
        };
        let subprotocol = match begins {
            Begins::Connected => None,
            Begins::Upgraded(wish) => Some(*wish),
            Begins::Welcomed(_) => Some(None),
        };
        if let Some(subprotocol) = subprotocol {
            attacker.stream.write_all(&upgrade(subprotocol, ""))?;
            attacker.until("the upgrade", |attacker, _| attacker.upgraded)?;
        }
        if let Begins::Welcomed(hello) = begins {
            attacker
                .stream
                .write_all(&frame(true, Opcode::Text, hello.as_bytes()))?;
            attacker.until("Welcome", |_, heard| {
                heard.is_some_and(|text| text.windows(9).any(|nine| nine == b"\"welcome\""))
            })?;
        }
        attacker.stream.set_nonblocking(true)?;
        Ok(attacker)
    }

    /// Blocks until the condition holds after something was heard.
    fn until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Self, Option<&[u8]>) -> bool,
    ) -> io::Result<()> {
        self.stream.set_read_timeout(Some(super::AT_ONCE))?;
        loop {
            self.read()?;
            loop {
                let heard = self.next();
                let text = match &heard {
                    Some(Heard::Said(payload)) => Some(payload.as_slice()),
                    _ => None,
                };
                if done(self, text) {
                    return Ok(());
                }
                match heard {
                    None => break,
                    Some(Heard::Said(_)) => {}
                    Some(Heard::Ended(ending)) => {
                        return Err(io::Error::other(format!(
                            "expected {what}, found {ending:?}"
                        )));
                    }
                }
            }
        }
    }

    fn act(&mut self, attack: &Attack, lasts: Duration) -> io::Result<Report> {
        let mut begun = Instant::now();
        let (first, again, pace, reads): (&[u8], &[u8], _, _) = match &attack.act {
            Act::Write(bytes) => (bytes, &[], None, true),
            Act::ByteByByte(bytes) => {
                self.byte_by_byte(bytes)?;
                begun = Instant::now();
                (&[], &[], None, true)
            }
            Act::Drip(first, again, pace) => (first, again, Some(*pace), true),
            Act::Flood(first, again) => (first, again, None, true),
            Act::FloodUnread(again) => (&[], again, None, false),
        };
        let mut script = Script {
            first,
            again,
            pace,
            at: 0,
            due: begun,
        };
        let deadline = begun
            + if attack.ending == Ending::Lasts {
                lasts
            } else {
                attack.within + GRACE
            };
        let told = |ending, after| Ok(Report { ending, after });
        loop {
            while let Some(heard) = self.next() {
                match heard {
                    Heard::Ended(ending) => return told(ending, begun.elapsed()),
                    Heard::Said(payload) if attack.ending == Ending::Hears(payload.clone()) => {
                        return told(attack.ending.clone(), begun.elapsed());
                    }
                    Heard::Said(_) => {}
                }
            }
            if Instant::now() >= deadline {
                return told(Ending::Lasts, begun.elapsed());
            }
            let writes = self.write_some(&mut script);
            if self.mute && !reads {
                return told(Ending::Gone, begun.elapsed());
            }
            self.wait(&script, writes, reads, deadline)?;
        }
    }

    fn byte_by_byte(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        for byte in bytes {
            match self.stream.write_all(std::slice::from_ref(byte)) {
                Ok(()) => {}
                // Answered before its end: what was said is read below.
                Err(error) if is_gone(&error) => break,
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.stream.set_nonblocking(true)
    }

    /// Writes what is due; true if there is more to write as soon as the socket takes it.
    fn write_some(&mut self, script: &mut Script<'_>) -> bool {
        while !self.mute {
            let bytes = match script.first.get(script.at..) {
                Some(rest) if !rest.is_empty() => rest,
                _ if script.again.is_empty() => return false,
                _ => {
                    let at = (script.at - script.first.len()) % script.again.len();
                    match script.pace {
                        Some(_) if Instant::now() < script.due => return false,
                        Some(pace) => {
                            script.due = Instant::now() + pace;
                            &script.again[at..=at]
                        }
                        None => &script.again[at..],
                    }
                }
            };
            match self.stream.write(bytes) {
                Ok(count) => script.at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => self.mute = true,
            }
            // A flood that is never refused would never listen.
            if script.pace.is_none() && !script.again.is_empty() {
                return true;
            }
        }
        false
    }

    fn wait(
        &mut self,
        script: &Script<'_>,
        writes: bool,
        reads: bool,
        deadline: Instant,
    ) -> io::Result<()> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::OUT, writes);
        flags.set(PollFlags::IN, reads);
        let until = match script.pace {
            Some(_) if !self.mute => deadline.min(script.due),
            _ => deadline,
        };
        let mut left = until.saturating_duration_since(Instant::now());
        if !reads {
            // What breaks is noticed by writing.
            left = left.min(Duration::from_millis(100));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut ready = [PollFd::new(&self.stream, flags)];
        poll(&mut ready, Some(&timeout))?;
        let found = ready[0].revents();
        if reads && found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read()?;
        } else if found.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.mute = true;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut piece = [0; READ_BYTES];
        match self.stream.read(&mut piece) {
            Ok(0) => self.over = true,
            Ok(count) => self.pending.extend_from_slice(&piece[..count]),
            Err(error) if is_gone(&error) => self.over = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The next thing in what was read.
    fn next(&mut self) -> Option<Heard> {
        if !self.upgraded && self.status.is_none() {
            self.take_head();
        }
        if self.upgraded
            && let Some(heard) = self.next_frame()
        {
            return Some(heard);
        }
        self.over
            .then(|| Heard::Ended(self.status.map_or(Ending::Cut, Ending::Status)))
    }

    fn take_head(&mut self) {
        let Some(end) = self.pending.windows(4).position(|four| four == b"\r\n\r\n") else {
            return;
        };
        let head = String::from_utf8_lossy(&self.pending[..end]).into_owned();
        self.pending.drain(..end + 4);
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        self.upgraded = status == Some(101);
        self.status = status.filter(|&status| status != 101);
    }

    fn next_frame(&mut self) -> Option<Heard> {
        let bounds = Bounds {
            message_bytes_max: u32::MAX,
        };
        let mut at = 0;
        let heard = match self.reader.next(&mut self.pending, &mut at, &bounds) {
            Ok(None) => None,
            Ok(Some(Incoming::Close(close))) => {
                let CloseCode(code) = close.code.unwrap_or(CloseCode(1005));
                Some(Heard::Ended(Ending::Close(code)))
            }
            Ok(Some(
                Incoming::Text(payload)
                | Incoming::Binary(payload)
                | Incoming::Ping(payload)
                | Incoming::Pong(payload),
            )) => Some(Heard::Said(payload.to_vec())),
            Err(error) => panic!("the server itself broke the protocol: {error}"),
        };
        self.pending.drain(..at);
        heard
    }
}

/// What the server said.
enum Heard {
    Said(Vec<u8>),
    Ended(Ending),
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}
