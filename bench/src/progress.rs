//! What the person who waits is told, on standard error: one line that is rewritten in a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// The line that says what is happening.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    terminal: bool,
}

impl Progress {
    /// Begins to count the time.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Says what is happening now.
    pub fn say(&self, what: impl AsRef<str>) {
        let (seconds, what) = (self.began.elapsed().as_secs(), what.as_ref());
        let mut stderr = std::io::stderr().lock();
        // Nobody may be listening any more; that stops no measurement.
        let _ = if self.terminal {
            write!(stderr, "\r\x1b[K{seconds:4} s  {what}")
        } else {
            writeln!(stderr, "{seconds:4} s  {what}")
        };
        let _ = stderr.flush();
    }

    /// Clears the line for what follows.
    pub fn end(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
