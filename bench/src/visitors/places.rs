//! How long the places in the queue take to all who wait. The backend tells them to everybody at once, by one record for each
//! shard that carries the time of its turn; the gateways fan it out. That time names the telling: whoever hears it, in
//! whichever process of the load, adds to its first and its last moment.

use serde::{Deserialize, Serialize};

/// Tellings that each process of the load keeps: those of the longest run of `places` (some 400 s in which a million come,
/// then 3,600 s), at the backend's limit of four a second. Later ones are not counted.
const TELLINGS_MAX: usize = 17_000;

/// One telling, and who has heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// Its name: the time of the backend's turn, µs since 1970.
    pub told_us: u64,
    /// When the first one heard it, µs of the monotonic clock.
    pub first_us: u64,
    /// When the last one did.
    pub last_us: u64,
    /// From the turn to the last one, µs, by the wall clock.
    pub took_us: u64,
    /// How many did.
    pub receivers: u64,
}

impl Telling {
    fn add(&mut self, other: Self) {
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
        self.took_us = self.took_us.max(other.took_us);
        self.receivers += other.receivers;
    }
}

/// All tellings, the oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tellings(Vec<Telling>);

impl Tellings {
    /// One who waits heard a telling: at this moment of the monotonic clock, so long after the turn.
    pub fn heard(&mut self, told_us: u64, now_us: u64, took_us: u64) {
        self.take(Telling {
            told_us,
            first_us: now_us,
            last_us: now_us,
            took_us,
            receivers: 1,
        });
    }

    /// Takes in what another process heard.
    pub fn add(&mut self, other: Self) {
        for one in other.0 {
            self.take(one);
        }
    }

    /// Almost always one of the newest: looked for from there.
    fn take(&mut self, one: Telling) {
        let older = self.0.iter().rposition(|kept| kept.told_us <= one.told_us);
        match older {
            Some(place) if self.0[place].told_us == one.told_us => self.0[place].add(one),
            _ if self.0.len() == TELLINGS_MAX => {}
            _ => self.0.insert(older.map_or(0, |place| place + 1), one),
        }
    }

    /// Those who heard the telling that most heard.
    #[must_use]
    pub fn receivers_max(&self) -> u64 {
        let receivers = self.0.iter().map(|telling| telling.receivers);
        receivers.max().unwrap_or(0)
    }

    /// Tellings that at least so many heard.
    pub fn to_at_least(&self, receivers: u64) -> impl Iterator<Item = &Telling> {
        self.0
            .iter()
            .filter(move |telling| telling.receivers >= receivers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telling_lasts_from_its_first_receiver_to_its_last_in_any_process() {
        let (mut one, mut other) = (Tellings::default(), Tellings::default());
        one.heard(1_000, 50, 5);
        one.heard(2_000, 70, 6);
        one.heard(1_000, 60, 15);
        other.heard(2_000, 90, 26);
        other.heard(1_500, 65, 2);
        other.heard(1_000, 49, 4);
        let line = serde_json::to_string(&other).unwrap();
        one.add(serde_json::from_str(&line).unwrap());
        let seen: Vec<_> = one
            .to_at_least(1)
            .map(|t| (t.told_us, t.first_us, t.last_us, t.took_us, t.receivers))
            .collect();
        let expected = [
            (1_000, 49, 60, 15, 3),
            (1_500, 65, 65, 2, 1),
            (2_000, 70, 90, 26, 2),
        ];
        assert_eq!(seen, expected);
        assert_eq!(one.receivers_max(), 3);
        assert_eq!(one.to_at_least(2).count(), 2);
    }

    #[test]
    fn a_full_table_goes_on_with_the_tellings_that_it_knows() {
        let mut tellings = Tellings::default();
        let most = TELLINGS_MAX as u64;
        for told_us in 0..most {
            tellings.heard(told_us, told_us, 0);
        }
        tellings.heard(most, most, 0);
        tellings.heard(0, 7, 0);
        assert_eq!(tellings.to_at_least(1).count(), TELLINGS_MAX);
        assert_eq!(tellings.receivers_max(), 2);
    }
}
