//! What happened, as one number: each event is a line of text, and the hash of all lines tells two runs apart.

use std::fmt::{self, Write};

/// FNV-1a's start and prime, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The trace of one run.
pub struct Trace {
    hash: u64,
    began_us: u64,
    printing: bool,
    line: String,
}

impl Trace {
    /// Times are shown from `began_us` on. `printing`: every line goes to standard output, too.
    pub fn new(began_us: u64, printing: bool) -> Self {
        Self {
            hash: FNV_OFFSET,
            began_us,
            printing,
            line: String::new(),
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Something happened.
    pub fn note(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        let since_us = now_us - self.began_us;
        write!(self.line, "{:>12.6}  {what}", since_us as f64 / 1e6).expect("a String takes all");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if self.printing {
            println!("{}", self.line);
        }
    }
}

/// Notes an event: `note!(world, "fmt", args…)`.
macro_rules! note {
    ($world:expr, $($what:tt)*) => {
        $world.trace.note($world.now_us, format_args!($($what)*))
    };
}

pub(super) use note;
