//! How soon the next turn begins: at once, or, while much comes, a moment later, so that one commit, one wake-up of
//! each gateway and one send per connection serve many messages.
//!
//! Below [`GATHER_FROM_PER_S`] a message that finds the turn asleep is served at once: latency is what counts, and
//! there is processor time enough. Above it turns begin at least `turn_gather_us_max` apart. Meanwhile the thread
//! sleeps without its bell, so producers do not ring. A turn that takes longer than that is followed by the next at
//! once: at its limit the system never waits.
//!
//! Measured (`turn_cost`, ext4): 38 µs a message in turns of one, 16 µs in turns of sixteen; a wake-up costs 2 µs on the
//! same core and 15 on another.

/// Inputs in a second (a message is two: the Send and its Ack) from which on turns are spaced.
const GATHER_FROM_PER_S: u64 = 8_000;
/// Below this they are not any more.
const GATHER_UNTIL_PER_S: u64 = 4_000;
/// Over how long the rate is measured: as long as a rush goes unnoticed.
const WINDOW_US: u64 = 4_000;

/// Watches the rate of inputs.
#[derive(Debug)]
pub struct Pace {
    gather_us: u64,
    since_us: u64,
    inputs: u64,
    gathers: bool,
}

impl Pace {
    /// With so much time between the beginnings of turns while much comes; 0: never.
    #[must_use]
    pub const fn new(gather_us: u64) -> Self {
        Self {
            gather_us,
            since_us: 0,
            inputs: 0,
            gathers: false,
        }
    }

    /// A turn took so many inputs; how long to wait, in µs, before the next begins.
    pub fn turn(&mut self, began_us: u64, ended_us: u64, inputs: u64) -> u64 {
        self.inputs += inputs;
        let over_us = ended_us.saturating_sub(self.since_us);
        if over_us >= WINDOW_US {
            let per_s = self.inputs.saturating_mul(1_000_000) / over_us;
            let from_per_s = if self.gathers {
                GATHER_UNTIL_PER_S
            } else {
                GATHER_FROM_PER_S
            };
            self.gathers = per_s >= from_per_s;
            (self.since_us, self.inputs) = (ended_us, 0);
        }
        if self.gathers {
            self.gather_us
                .saturating_sub(ended_us.saturating_sub(began_us))
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER_US: u64 = 1_000;

    /// Turns of 50 µs while so many inputs come in a second, for 100 ms; how many there were in the second half.
    fn turns_at(pace: &mut Pace, per_s: u64, from_us: u64) -> u64 {
        let (mut now_us, mut taken, mut turns) = (from_us, 0, 0);
        while now_us < from_us + 100_000 {
            let came = (now_us - from_us) * per_s / 1_000_000;
            if came == taken {
                now_us += 10;
                continue;
            }
            let began_us = now_us;
            now_us += 50;
            turns += u64::from(now_us >= from_us + 50_000);
            now_us += pace.turn(began_us, now_us, came - taken);
            taken = came;
        }
        turns
    }

    #[test]
    fn few_messages_are_never_kept_waiting() {
        let mut pace = Pace::new(GATHER_US);
        assert_eq!(turns_at(&mut pace, 2_000, 0), 100, "a turn each");
    }

    #[test]
    fn many_messages_share_turns_and_few_ones_after_them_do_not() {
        let mut pace = Pace::new(GATHER_US);
        let turns = turns_at(&mut pace, 20_000, 0);
        assert!((49..=51).contains(&turns), "{turns} turns in 50 ms");
        assert_eq!(turns_at(&mut pace, 2_000, 200_000), 100);
    }

    #[test]
    fn a_turn_that_takes_long_is_followed_by_the_next_at_once() {
        let mut pace = Pace::new(GATHER_US);
        pace.turn(0, 5_000, 4_096);
        assert_eq!(pace.turn(5_000, 5_300, 100), 700);
        assert_eq!(pace.turn(6_000, 9_000, 4_096), 0);
    }

    #[test]
    fn zero_turns_it_off() {
        let mut pace = Pace::new(0);
        pace.turn(0, 5_000, 4_096);
        assert_eq!(pace.turn(5_000, 5_010, 100), 0);
    }
}
