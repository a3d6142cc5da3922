//! A terminal that is drawn on, and the keys and signals that end it. Whatever ends the program, the terminal is given
//! back as it was.

use std::io::{self, IsTerminal as _, Write as _, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::time::Timespec;
use signal_hook::consts::{SIGINT, SIGTERM};

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the corner; what is left of a line; what is left of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// Ctrl-C as a key: the terminal makes no signal of it while we draw.
const CTRL_C: u8 = 3;
/// How long a signal may wait to be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The terminal, while it is ours.
pub struct Screen;

impl Screen {
    /// Takes it.
    pub fn enter() -> Result<Self> {
        show(ENTER).context("cannot draw on this terminal")?;
        Ok(Self)
    }

    /// Draws a text from the corner, cut to the size of the terminal.
    pub fn draw(&self, text: &str) -> Result<()> {
        let size = termios::tcgetwinsize(stdout()).ok();
        let size = size.filter(|size| size.ws_row > 1 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let lines: Vec<&str> = text.lines().collect();
        let hidden = lines.len().saturating_sub(rows - 1);
        let mut out = String::from(HOME);
        for line in lines.iter().take(rows - 1) {
            out.extend(line.chars().take(columns));
            out.push_str(REST_OF_LINE);
            out.push_str("\r\n");
        }
        out.push_str(REST_OF_SCREEN);
        out.push_str("q ends");
        if hidden > 0 {
            out.push_str(&format!(" · {hidden} more lines in a taller window"));
        }
        show(&out).context("cannot draw on this terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone_with_its_terminal = show(LEAVE);
    }
}

fn show(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What a person types, and what the system says.
pub struct Keys {
    told: Arc<AtomicBool>,
    /// The terminal's modes as they were, if keys come one by one.
    before: Option<Termios>,
}

impl Keys {
    /// Listens for signals, and (`keys`) for keys, if standard input is a terminal.
    pub fn listen(keys: bool) -> Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&told))
                .context("cannot await Ctrl-C")?;
        }
        let mut before = None;
        if keys && stdin().is_terminal() {
            let modes = termios::tcgetattr(stdin()).context("cannot ask the terminal")?;
            let mut ours = modes.clone();
            ours.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            ours.special_codes[SpecialCodeIndex::VMIN] = 0;
            ours.special_codes[SpecialCodeIndex::VTIME] = 0;
            termios::tcsetattr(stdin(), OptionalActions::Now, &ours)
                .context("cannot listen to keys")?;
            before = Some(modes);
        }
        Ok(Self { told, before })
    }

    /// Waits; true as soon as somebody wants to end.
    pub fn asks_to_end_within(&self, wait: Duration) -> Result<bool> {
        let end = Instant::now() + wait;
        loop {
            if self.told.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let nap = left.min(LOOK_EVERY);
            if self.before.is_none() {
                std::thread::sleep(nap);
            } else if self
                .key_within(nap)?
                .is_some_and(|key| matches!(key, b'q' | b'Q' | CTRL_C))
            {
                return Ok(true);
            }
        }
    }

    fn key_within(&self, wait: Duration) -> Result<Option<u8>> {
        let input = stdin();
        let timeout = Timespec::try_from(wait).context("a short time")?;
        let mut asked = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut asked, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot listen to keys"),
        }
        let mut key = [0];
        match rustix::io::read(&input, &mut key) {
            Ok(1) => Ok(Some(key[0])),
            // The terminal went away.
            Ok(_) => Ok(Some(CTRL_C)),
            Err(_) => Ok(Some(CTRL_C)),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _gone = termios::tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
