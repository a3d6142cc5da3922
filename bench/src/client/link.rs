//! One connection after the other: when to connect, when a connection counts as dead, when to come back.
//!
//! ```text
//! connecting ─connected→ greeting ─Welcome→ open
//!                           └─Wait→ admission ─Welcome→ open
//! any of these ─lost→ pausing ─deadline→ connecting
//! ```
//!
//! Liveness is judged by what arrives. Silence for a heartbeat sends a Ping; silence after that means a half-open
//! connection, which is left behind.

use super::NEVER;
use super::limits::{
    ANSWER_PROBE_US, BACKOFF_US_BASE, CONNECT_US_MAX, HEARTBEAT_EARLY_DIVISOR,
    HEARTBEAT_US_DEFAULT, HEARTBEAT_US_MAX, HEARTBEAT_US_MIN, STABLE_US,
};

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started, or stopped.
    Idle,
    /// Waits until it connects again.
    Pausing,
    /// Wants a socket.
    Connecting,
    /// Upgrade and Hello are under way.
    Greeting,
    /// In the waiting room.
    Admission,
    /// Welcomed.
    Open,
    /// The server said not to come back.
    Closed,
}

/// Full jitter: anywhere between at once and twice as long as the attempt before, up to the maximum.
pub(super) fn backoff_us(attempt: u32, us_max: u64, random: &mut fastrand::Rng) -> u64 {
    let most = (BACKOFF_US_BASE << attempt.min(16)).min(us_max);
    random.u64(..=most)
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) phase: Phase,
    /// Which connection this is.
    pub(super) number: u32,
    attempt: u32,
    /// Pausing: until when. Connecting, greeting: when the attempt failed.
    phase_due_us: u64,
    /// The server's goaway: when to leave.
    pub(super) goaway_us: u64,
    heartbeat_us: u64,
    last_received_us: u64,
    wanted_since_us: u64,
    pub(super) pong_due_us: u64,
    pub(super) pinged_at_us: u64,
    /// The request of the Ping that left then.
    pub(super) pinged: u64,
    opened_us: u64,
    pub(super) requests: u64,
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            phase: Phase::Idle,
            number: 0,
            attempt: 0,
            phase_due_us: NEVER,
            goaway_us: NEVER,
            heartbeat_us: HEARTBEAT_US_DEFAULT,
            last_received_us: 0,
            wanted_since_us: NEVER,
            pong_due_us: NEVER,
            pinged_at_us: NEVER,
            pinged: 0,
            opened_us: NEVER,
            requests: 0,
        }
    }

    /// Whether there is, or is to be, a socket.
    pub(super) const fn has_socket(&self) -> bool {
        matches!(
            self.phase,
            Phase::Connecting | Phase::Greeting | Phase::Admission | Phase::Open
        )
    }

    pub(super) fn connect(&mut self, now_us: u64) {
        self.number += 1;
        self.enter(Phase::Connecting, now_us);
    }

    /// Connecting or greeting, which last only so long.
    pub(super) fn enter(&mut self, phase: Phase, now_us: u64) {
        self.phase = phase;
        self.phase_due_us = now_us + CONNECT_US_MAX;
        self.last_received_us = now_us;
    }

    pub(super) fn waiting(&mut self) {
        self.phase = Phase::Admission;
        self.phase_due_us = NEVER;
    }

    pub(super) fn welcomed(&mut self, now_us: u64, heartbeat_ms: u32, random: &mut fastrand::Rng) {
        self.phase = Phase::Open;
        self.phase_due_us = NEVER;
        self.opened_us = now_us;
        if heartbeat_ms > 0 {
            let said_us = u64::from(heartbeat_ms) * 1000;
            let heartbeat_us = said_us.clamp(HEARTBEAT_US_MIN, HEARTBEAT_US_MAX);
            self.heartbeat_us = heartbeat_us - random.u64(..heartbeat_us / HEARTBEAT_EARLY_DIVISOR);
        }
    }

    pub(super) const fn received(&mut self, now_us: u64) {
        self.last_received_us = now_us;
        self.pong_due_us = NEVER;
        self.wanted_since_us = NEVER;
    }

    /// Something that must be answered goes out.
    pub(super) fn wants_answer(&mut self, now_us: u64) {
        self.wanted_since_us = self.wanted_since_us.min(now_us);
    }

    pub(super) fn ping_at_us(&self) -> u64 {
        let silent = self.last_received_us + self.heartbeat_us;
        silent.min(self.wanted_since_us.saturating_add(ANSWER_PROBE_US))
    }

    /// The socket is gone. How long to pause for, beyond what the server asked.
    pub(super) fn drop_socket(&mut self, now_us: u64) {
        if self.opened_us != NEVER && now_us >= self.opened_us + STABLE_US {
            self.attempt = 0;
        }
        self.goaway_us = NEVER;
        self.wanted_since_us = NEVER;
        self.pong_due_us = NEVER;
        self.pinged_at_us = NEVER;
        self.opened_us = NEVER;
        self.phase_due_us = NEVER;
        self.heartbeat_us = HEARTBEAT_US_DEFAULT;
    }

    /// After a loss: `asked_us` of the server, and backoff.
    pub(super) fn pause(
        &mut self,
        now_us: u64,
        asked_us: u64,
        backoff_us_max: u64,
        random: &mut fastrand::Rng,
    ) {
        self.phase = Phase::Pausing;
        self.phase_due_us = now_us + asked_us + backoff_us(self.attempt, backoff_us_max, random);
        self.attempt += 1;
    }

    /// After a connection that we left by ourselves: at once, unless the last attempts did not last either.
    pub(super) fn pause_briefly(
        &mut self,
        now_us: u64,
        backoff_us_max: u64,
        random: &mut fastrand::Rng,
    ) {
        if self.attempt > 0 {
            self.pause(now_us, 0, backoff_us_max, random);
        } else {
            self.phase = Phase::Pausing;
            self.phase_due_us = now_us;
            self.attempt = 1;
        }
    }

    pub(super) const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Whether the present phase has lasted too long.
    pub(super) const fn phase_is_due(&self, now_us: u64) -> bool {
        now_us >= self.phase_due_us
    }

    pub(super) fn deadline_us(&self) -> u64 {
        let alive = if self.has_talk() {
            let silence = if self.pong_due_us == NEVER {
                self.ping_at_us()
            } else {
                self.pong_due_us
            };
            silence.min(self.goaway_us)
        } else {
            NEVER
        };
        self.phase_due_us.min(alive)
    }

    /// Whether envelopes may be sent.
    pub(super) const fn has_talk(&self) -> bool {
        matches!(self.phase, Phase::Admission | Phase::Open)
    }
}
