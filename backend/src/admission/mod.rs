//! Who is let in from the gateways' waiting rooms, and how fast: moves the frontier on the bus's control page.
//!
//! Every visitor who arrives draws a ticket there (gateways add to one counter); *let in* means ticket < frontier. Those
//! past it wait in the gateways and are nothing to the backend: all that is kept here are a few counts.
//!
//! ```text
//!              let in                    waiting              room for those who come next
//!  ├───────────────────────────────┼────────────────────┤
//!  0                            frontier             tickets                  (nobody waits)
//!  ├────────────────────────────────────────────────────┼──────────── ≤ burst ───────────┤
//!  0                                                 tickets                         frontier
//! ```
//!
//! The frontier is a token bucket: it gains `per_s` tickets a second, and stands at most `burst` beyond the newest
//! ticket. So in any stretch of time at most `burst + per_s × seconds` new people come in, it never moves back, and while
//! anybody waits it moves. Four things change its pace:
//!
//! - **Lag.** While a turn takes longer than [`TURN_LAG_US`] or a ring is fuller than [`FILL_LAG_PERCENT`], the pace
//!   is halved every [`PACE_EVERY_US`], down to a 64th; in calm it opens up again by a 16th of the whole. Never below one
//!   a second. While the store cannot commit, turns do not end and the frontier stands.
//! - **Tickets that nobody came with.** Who leaves while waiting keeps the number, and the frontier passes over it. Who
//!   was let in shows up within milliseconds; whoever did not after [`VOID_AFTER_US`] without lag is given back to the
//!   rate, so those behind lose nothing.
//! - **Latecomers.** Who was passed over and comes back after all, ticket in hand, is let in at once, and is taken
//!   off the rate of those after them (at most `burst` of them: nobody starves behind returners).
//! - **`inside_max`.** No more are let in than there are places, counting those on their way.
//!
//! What survives: tickets and frontier lie on the bus, so they outlive a kill -9 of every process. The gateway holds
//! who waits (their Hello); each client holds its signed ticket. A backend that starts goes on from the frontier that
//! it finds; of this module's counts none is needed for that: those passed over just before are not given back.

use std::collections::VecDeque;

#[cfg(test)]
mod rush;

/// A turn that takes longer lags: a message waits for one turn before its own.
pub const TURN_LAG_US: u64 = 40_000;
/// A ring fuller than that lags, whichever way it leads.
pub const FILL_LAG_PERCENT: u32 = 25;
/// How often the frontier is moved while somebody waits.
pub const STEP_US: u64 = 20_000;
/// How often the pace changes: what a change does has to be seen before the next.
pub const PACE_EVERY_US: u64 = 100_000;
/// Who was let in and did not show up for so long, while nothing lagged, is not coming.
pub const VOID_AFTER_US: u64 = 2_000_000;
/// After a standstill no more is made up for than this.
const ELAPSED_US_MAX: u64 = 250_000;
/// The pace in parts of the operator's rate.
const PACE_WHOLE: u64 = 64;
const PACE_GAIN: u64 = PACE_WHOLE / 16;
/// The slowest: one a second, in thousandths.
const PER_1000_S_MIN: u64 = 1_000;
/// Tickets that the frontier is kept ahead while nobody controls admission.
const AHEAD_UNCONTROLLED: u64 = 1 << 17;

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// New visitors let in a second; 0: admission is not controlled, everybody comes in.
    pub per_s: u32,
    /// New visitors let in at once after a quiet time.
    pub burst: u32,
    /// Visitors inside at once, past which nobody is let in until somebody leaves; 0: no bound.
    pub inside_max: u32,
}

/// What is to be seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sight {
    /// The server's time.
    pub now_us: u64,
    /// Tickets given out: the newest one's number plus one.
    pub tickets: u64,
    /// Visitors connected.
    pub inside: u32,
    /// How long the last turn took; 0: it had nothing to do.
    pub turn_us: u64,
    /// The fullest ring, either way, in percent.
    pub fill_percent: u32,
}

/// What admission came to, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct AdmissionView {
    /// Tickets given out.
    pub tickets: u64,
    /// Tickets below are let in.
    pub frontier: u64,
    /// Tickets past the frontier: people who wait, and those of them who left.
    pub waiting: u64,
    /// How fast the frontier moves, thousandths of a ticket a second.
    pub per_1000_s: u64,
    /// New visitors who came in, since the start.
    pub admitted: u64,
    /// Tickets passed over because nobody came with them, since the start.
    pub passed_over: u64,
    /// Percent of the operator's rate that the backend's lag leaves.
    pub pace_percent: u32,
}

/// Moves the frontier. Pure: time and sights are passed in.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    frontier: u64,
    tickets: u64,
    /// Millionths of a ticket gained beyond whole ones.
    gained_millionths: u64,
    /// Tickets to take off what is gained next.
    owed: u64,
    pace: u64,
    pace_next_us: u64,
    stepped_us: Option<u64>,
    /// Grows only while nothing lags: what [`VOID_AFTER_US`] is measured by.
    calm_us: u64,
    /// People let in of whom nothing was heard yet: since when by `calm_us`, how many. One entry a step.
    on_their_way: VecDeque<(u64, u64)>,
    came: u64,
    admitted: u64,
    passed_over: u64,
    /// Smoothed, thousandths of a ticket a second.
    speed: u64,
}

impl Admission {
    /// Goes on from what the control page says.
    #[must_use]
    pub fn new(limits: Limits, frontier: u64, tickets: u64) -> Self {
        Self {
            limits,
            frontier,
            tickets,
            gained_millionths: 0,
            owed: 0,
            pace: PACE_WHOLE,
            pace_next_us: 0,
            stepped_us: None,
            calm_us: 0,
            on_their_way: VecDeque::new(),
            came: 0,
            admitted: 0,
            passed_over: 0,
            speed: u64::from(limits.per_s) * 1_000,
        }
    }

    /// A new visitor came in: one who spent a ticket, not one who comes back.
    pub const fn came(&mut self) {
        self.came += 1;
    }

    /// Tickets below this are let in; 0: nobody controls admission.
    #[must_use]
    pub const fn frontier(&self) -> u64 {
        self.frontier
    }

    /// How fast it moves, smoothed over seconds, in thousandths of a ticket a second.
    #[must_use]
    pub const fn per_1000_s(&self) -> u64 {
        self.speed
    }

    /// When to step again: soon while somebody waits, else whenever something else makes a turn.
    #[must_use]
    pub fn next_us(&self) -> u64 {
        match self.stepped_us {
            Some(at_us) if self.limits.per_s > 0 && self.tickets > self.frontier => at_us + STEP_US,
            _ => u64::MAX,
        }
    }

    /// Looks, and moves the frontier if it is time. True: it looked.
    pub fn step(&mut self, sight: &Sight) -> bool {
        let Some(stepped_us) = self.stepped_us else {
            self.stepped_us = Some(sight.now_us);
            self.tickets = sight.tickets;
            self.begin();
            return true;
        };
        let elapsed_us = sight.now_us.saturating_sub(stepped_us);
        self.set_pace(sight);
        if elapsed_us < STEP_US {
            return false;
        }
        self.stepped_us = Some(sight.now_us);
        let passed_before = self.frontier.min(self.tickets);
        self.tickets = sight.tickets.max(self.tickets);
        if self.limits.per_s == 0 {
            self.begin();
            return true;
        }
        // Who drew a ticket since, within the room that was there, is on the way as well.
        self.expect(self.frontier.min(self.tickets) - passed_before);
        let lags = is_lag(sight);
        let given_back = self.settle(if lags { 0 } else { elapsed_us });
        let gained = self.gain(elapsed_us) + given_back;
        let paid = gained.min(self.owed);
        self.owed -= paid;
        self.advance(gained - paid, sight.inside, elapsed_us);
        true
    }

    /// For operators.
    #[must_use]
    pub fn view(&self) -> AdmissionView {
        AdmissionView {
            tickets: self.tickets,
            frontier: self.frontier,
            waiting: if self.frontier == 0 {
                0
            } else {
                self.tickets.saturating_sub(self.frontier)
            },
            per_1000_s: self.speed,
            admitted: self.admitted,
            passed_over: self.passed_over,
            pace_percent: u32::try_from(self.pace * 100 / PACE_WHOLE).unwrap_or(100),
        }
    }

    /// On a new bus the bucket is full; a later process goes on where the one before stood. Uncontrolled, a frontier
    /// that an earlier configuration set goes on far ahead: it cannot be taken back.
    fn begin(&mut self) {
        if self.limits.per_s > 0 && self.frontier == 0 {
            self.frontier = self.tickets + self.burst();
        } else if self.limits.per_s == 0 && self.frontier > 0 {
            self.frontier = self.frontier.max(self.tickets + AHEAD_UNCONTROLLED);
        }
    }

    fn burst(&self) -> u64 {
        u64::from(self.limits.burst).max(1)
    }

    fn set_pace(&mut self, sight: &Sight) {
        let lags = is_lag(sight);
        if sight.now_us < self.pace_next_us {
            return;
        }
        let pace = if lags {
            (self.pace / 2).max(1)
        } else {
            (self.pace + PACE_GAIN).min(PACE_WHOLE)
        };
        if pace != self.pace {
            self.pace = pace;
            self.pace_next_us = sight.now_us + PACE_EVERY_US;
        }
    }

    fn rate_per_1000_s(&self) -> u64 {
        let whole = u64::from(self.limits.per_s) * 1_000;
        (whole * self.pace / PACE_WHOLE).max(PER_1000_S_MIN)
    }

    /// Whole tickets gained by the rate.
    fn gain(&mut self, elapsed_us: u64) -> u64 {
        // A long quiet time fills the bucket, which is full at `burst` anyway; who waits gets no lump after a standstill.
        let elapsed_us = if self.tickets > self.frontier {
            elapsed_us.min(ELAPSED_US_MAX)
        } else {
            elapsed_us.min(60 * 1_000_000)
        };
        let millionths = self.gained_millionths + self.rate_per_1000_s() * elapsed_us / 1_000;
        self.gained_millionths = millionths % 1_000_000;
        millionths / 1_000_000
    }

    /// Matches those who came with those who were let in, and gives back whom nobody will see: `calm_us` more have
    /// passed without lag.
    fn settle(&mut self, calm_us: u64) -> u64 {
        self.calm_us += calm_us;
        let mut came = std::mem::take(&mut self.came);
        self.admitted += came;
        // Who comes was let in just now: the newest first, and what is left of the old is nobody.
        while let Some((_, count)) = self.on_their_way.back_mut()
            && came > 0
        {
            let matched = came.min(*count);
            came -= matched;
            *count -= matched;
            if *count == 0 {
                self.on_their_way.pop_back();
            }
        }
        self.owed = (self.owed + came).min(self.burst());
        let mut given_back = 0;
        while let Some(&(since_us, count)) = self.on_their_way.front()
            && self.calm_us - since_us >= VOID_AFTER_US
        {
            given_back += count;
            self.on_their_way.pop_front();
        }
        self.passed_over += given_back;
        given_back
    }

    /// So many more were let in and will show up.
    fn expect(&mut self, count: u64) {
        match self.on_their_way.back_mut() {
            _ if count == 0 => {}
            Some((since_us, on_their_way)) if *since_us == self.calm_us => *on_their_way += count,
            _ => self.on_their_way.push_back((self.calm_us, count)),
        }
    }

    fn advance(&mut self, by: u64, inside: u32, elapsed_us: u64) {
        let passed = self.frontier.min(self.tickets);
        let mut most = self.tickets + self.burst();
        if self.limits.inside_max > 0 {
            let on_their_way: u64 = self.on_their_way.iter().map(|&(_, count)| count).sum();
            let taken = u64::from(inside) + on_their_way;
            most = most.min(passed + u64::from(self.limits.inside_max).saturating_sub(taken));
        }
        let waited = self.tickets > self.frontier;
        let before = self.frontier;
        self.frontier = before.max((before + by).min(most));
        self.expect(self.frontier.min(self.tickets) - passed);
        let sample = if waited {
            (self.frontier - before) * 1_000_000_000 / elapsed_us.max(1)
        } else {
            self.rate_per_1000_s()
        };
        self.speed = smooth(self.speed, sample, elapsed_us);
    }
}

fn is_lag(sight: &Sight) -> bool {
    sight.turn_us > TURN_LAG_US || sight.fill_percent > FILL_LAG_PERCENT
}

/// A mean that forgets within seconds, whatever the steps.
fn smooth(mean: u64, sample: u64, elapsed_us: u64) -> u64 {
    const MEMORY_US: u64 = 2_000_000;
    let weight = elapsed_us.min(MEMORY_US);
    let sum =
        u128::from(mean) * u128::from(MEMORY_US - weight) + u128::from(sample) * u128::from(weight);
    u64::try_from(sum / u128::from(MEMORY_US)).unwrap_or(u64::MAX)
}
