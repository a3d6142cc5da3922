//! A client's side of a connection: whatever speaks there takes bytes, time and losses, and says what it wants.

use tidegate_backend::engine::Engine;

use tidegate_protocol::Id;

use super::dice::Dice;
use super::network::LineId;
use super::oracle::{Oracle, Said};
use super::trace::Trace;

/// What a client wants of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A connection, in place of the one that it has.
    Connect,
    /// The end of the connection, after what it wrote.
    Disconnect,
    /// The end at once, with a reset.
    Abort,
    /// It said what can be done once only: a death would be most welcome now.
    Mischief,
}

/// What a client is given for one call.
pub struct Surroundings<'a> {
    /// True time, µs.
    pub now_us: u64,
    /// Chance.
    pub dice: &'a mut Dice,
    /// Hears what everybody was told.
    pub oracle: &'a mut Oracle,
    /// What it learns, for who reads along.
    pub trace: &'a mut Trace,
    /// Bytes for the socket.
    pub output: &'a mut Vec<u8>,
    /// In order.
    pub wants: &'a mut Vec<Want>,
}

/// Somebody at the other end of a line.
pub trait Speaker {
    /// Who it is, for the trace.
    fn name(&self) -> String;
    /// The connection stands.
    fn connected(&mut self, around: &mut Surroundings<'_>);
    /// Bytes came.
    fn received(&mut self, bytes: &mut [u8], around: &mut Surroundings<'_>);
    /// The connection is gone, or could not be had.
    fn lost(&mut self, around: &mut Surroundings<'_>);
    /// It is time for something: its own deadline, or the world's patience.
    fn tick(&mut self, around: &mut Surroundings<'_>);
    /// When it wants to be asked next, µs; `u64::MAX`: only when something comes.
    fn wake_at_us(&self) -> u64;
    /// It does what it does next at once.
    fn hurry(&mut self, _now_us: u64) {}
    /// All is quiet: it speaks once more, to everybody whom it can reach.
    fn say_last_words(&mut self) {}
    /// The newest of what it was told may be gone.
    fn power_was_lost(&mut self) {}
    /// What it shows of its open conversations, by place.
    fn shows(&self) -> Vec<((Id, u64), &Said)> {
        Vec::new()
    }
    /// Nothing goes wrong any more: it stops making trouble, finishes what it began, and begins nothing new.
    fn settle(&mut self, now_us: u64);
    /// Whether it takes what the line brings.
    fn reads(&self) -> bool {
        true
    }
    /// Whether it has nothing left to do; if not, what.
    fn unfinished(&self, _engine: &Engine) -> Option<String> {
        None
    }
}

/// A client and its socket.
pub struct Seat {
    /// Who speaks.
    pub speaker: Box<dyn Speaker>,
    /// The line, if there is one.
    pub line: Option<LineId>,
    /// Written, and not yet taken by the line.
    pub unsent: Vec<u8>,
    /// It closes when that is empty.
    pub closing: bool,
    /// It reads nothing until then, µs.
    pub deaf_until_us: u64,
}

impl Seat {
    /// Without a line.
    pub fn new(speaker: Box<dyn Speaker>) -> Self {
        Self {
            speaker,
            line: None,
            unsent: Vec::new(),
            closing: false,
            deaf_until_us: 0,
        }
    }
}
