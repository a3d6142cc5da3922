//! Feeds bodies with mutated seeds. What an input is follows from a number alone, so a failure is replayed by it.

use fastrand::Rng;

/// A body: bytes in, a panic where something does not hold.
pub type Body = fn(&[u8]);

const CHANGES_MAX: usize = 8;
const INPUT_BYTES_MAX: usize = 4_096;
/// Values at which lengths and signs turn.
const EDGES: [u8; 10] = [0, 1, 13, 125, 126, 127, 128, 0x81, 0xfe, 0xff];

/// The input of this number.
#[must_use]
pub fn input(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(number);
    let mut bytes = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.usize(0..=CHANGES_MAX) {
        change(&mut bytes, seeds, &mut random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Rng) {
    let at = random.usize(0..=bytes.len());
    match random.u8(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
        1 if at < bytes.len() => bytes[at] = random.choice(EDGES).unwrap_or(0),
        2 if at < bytes.len() => bytes[at] = random.u8(..),
        3 => bytes.insert(at, random.u8(..)),
        4 => bytes.truncate(at),
        5 => {
            let end = (at + random.usize(0..16)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + random.usize(0..64)).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
        _ => {
            let other = random.choice(seeds).map(Vec::as_slice).unwrap_or_default();
            bytes.splice(at..at, other.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_input() {
        let seeds = crate::corpus::seeds();
        for number in 0..1_000 {
            assert_eq!(input(&seeds, number), input(&seeds, number));
        }
    }

    #[test]
    fn the_canary_is_caught() {
        // A body with a planted bug: if mutation does not find this, it finds nothing.
        let canary: Body = |bytes| {
            assert!(
                !(bytes.len() > 20 && bytes[2] == 0xff && bytes[0] != 0),
                "planted"
            )
        };
        let seeds = crate::corpus::seeds();
        let caught = (0..200_000).any(|number| {
            let bytes = input(&seeds, number);
            std::panic::catch_unwind(|| canary(&bytes)).is_err()
        });
        assert!(caught);
    }
}
