//! One file of a simulated disk: what readers see now, what the medium holds, and the edits between.
//!
//! **What a power cut leaves.** Each unit of the file (a 512-byte sector or a 4 KiB page) holds what it held at some
//! moment since the last sync, and the file's size is that of some moment, too. All moments equal: writes arrived
//! in order; zero: nothing arrived; apart: they were reordered, and a write that spans units is torn between them.
//! A unit itself is never torn: disks promise that, and SQLite asks for it (`POWERSAFE_OVERWRITE`). A truncation
//! happens in whole or not at all, as file systems with a journal do it.

use super::choices::{Choices, mix};

/// A disk writes this much at once.
const SECTOR_BYTES: usize = 512;
/// A page cache writes this much at once.
const PAGE_BYTES: usize = 4096;

/// The file.
#[derive(Debug, Default)]
pub struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

/// Up to which edit each unit arrived on the medium.
enum Arrived {
    /// All units up to the same one.
    All(usize),
    /// In order; of the edit `edit` the units below `unit` only.
    InOrder { edit: usize, unit: usize },
    /// Each unit by itself.
    Apart { seed: u64 },
}

impl Contents {
    pub const fn len(&self) -> usize {
        self.now.len()
    }

    /// Has everything arrived on the medium?
    pub const fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Fills `into` from `offset`; what lies behind the end is zeros. Returns how many bytes were there.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let found = self.now.get(offset..).unwrap_or_default();
        let bytes = found.len().min(into.len());
        let (there, behind) = into.split_at_mut(bytes);
        there.copy_from_slice(&found[..bytes]);
        behind.fill(0);
        bytes
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let edit = Edit::Write {
            offset,
            bytes: bytes.to_vec(),
        };
        edit.apply(&mut self.now, &mut |_| true);
        self.unsynced.push(edit);
    }

    pub fn truncate(&mut self, bytes: usize) {
        self.now.resize(bytes, 0);
        self.unsynced.push(Edit::Truncate { bytes });
    }

    /// Everything written so far is on the medium: whole pages, as a page cache writes them.
    pub fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for edit in self.unsynced.drain(..) {
            let (from, to) = match edit {
                Edit::Write { offset, bytes } => (offset, offset + bytes.len()),
                Edit::Truncate { bytes } => (bytes, self.now.len()),
            };
            let from = (from / PAGE_BYTES * PAGE_BYTES).min(self.now.len());
            let to = to.next_multiple_of(PAGE_BYTES).min(self.now.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.now[from..to]);
            }
        }
    }

    /// A sync failed, as Linux does it: some of the pages arrived, and the others count as clean from now on. They
    /// can be read as long as the machine runs, and no later sync writes them.
    pub fn fail_sync(&mut self, choices: &mut Choices) {
        self.durable = self.after_power_cut(choices);
        self.unsynced.clear();
    }

    /// The machine is on again: the medium is all that there is.
    pub fn cut_power(&mut self, choices: &mut Choices) {
        self.durable = self.after_power_cut(choices);
        self.unsynced.clear();
        self.now.clone_from(&self.durable);
    }

    fn after_power_cut(&self, choices: &mut Choices) -> Vec<u8> {
        let edits = self.unsynced.len();
        let up_to =
            |choices: &mut Choices| usize::try_from(choices.below(edits as u64 + 1)).unwrap_or(0);
        let unit_bytes = [SECTOR_BYTES, PAGE_BYTES][usize::from(choices.below(2) == 1)];
        let (arrived, size_at) = match choices.below(5) {
            0 => (Arrived::All(0), 0),
            1 => (Arrived::All(edits), edits),
            2 => {
                let edit = up_to(choices);
                let unit = match self.unsynced.get(edit) {
                    Some(Edit::Write { offset, bytes }) => {
                        let first = offset / unit_bytes;
                        let units = bytes.len() / unit_bytes + 2;
                        first + usize::try_from(choices.below(units as u64)).unwrap_or(0)
                    }
                    _ => 0,
                };
                (
                    Arrived::InOrder { edit, unit },
                    edit + usize::from(unit > 0),
                )
            }
            _ => {
                let seed = choices.bits();
                let size_at = match choices.below(3) {
                    0 => 0,
                    1 => edits,
                    _ => up_to(choices),
                };
                (Arrived::Apart { seed }, size_at)
            }
        };
        self.arrived(&arrived, unit_bytes, size_at.min(edits))
    }

    fn arrived(&self, arrived: &Arrived, unit_bytes: usize, size_at: usize) -> Vec<u8> {
        let mut size = self.durable.len();
        let mut medium = self.durable.clone();
        // Where the first truncation stands that did not arrive: what came later behind there went to blocks that
        // no file has.
        let mut not_cut_at = usize::MAX;
        for (number, edit) in self.unsynced.iter().enumerate() {
            let size_arrived = number < size_at;
            match edit {
                Edit::Write { .. } => edit.apply(&mut medium, &mut |offset| {
                    number < arrived.up_to(offset / unit_bytes, self.unsynced.len())
                        && offset < not_cut_at
                }),
                Edit::Truncate { .. } if size_arrived => edit.apply(&mut medium, &mut |_| true),
                Edit::Truncate { bytes } => not_cut_at = not_cut_at.min(*bytes),
            }
            if size_arrived {
                size = edit.size_after(size);
            }
        }
        medium.resize(size, 0);
        medium
    }
}

impl Arrived {
    /// How many of the edits the unit has seen.
    fn up_to(&self, unit: usize, edits: usize) -> usize {
        match *self {
            Self::All(up_to) => up_to,
            Self::InOrder {
                edit,
                unit: torn_at,
            } => edit + usize::from(unit < torn_at),
            Self::Apart { seed } => {
                let bits = mix(seed ^ mix(unit as u64));
                match bits % 3 {
                    0 => 0,
                    1 => edits,
                    _ => usize::try_from((bits >> 8) % (edits as u64 + 1)).unwrap_or(0),
                }
            }
        }
    }
}

impl Edit {
    /// Changes the sectors of `image` of which `arrives(offset)` is true. A truncation leaves zeros here; the caller
    /// knows the size.
    fn apply(&self, image: &mut Vec<u8>, arrives: &mut dyn FnMut(usize) -> bool) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                for (from, to) in sectors(*offset, end) {
                    if arrives(from) {
                        image[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
                    }
                }
            }
            Self::Truncate { bytes } => {
                let end = image.len().max(*bytes);
                image.resize(end, 0);
                for (from, to) in sectors(*bytes, end) {
                    if arrives(from) {
                        image[from..to].fill(0);
                    }
                }
            }
        }
    }

    const fn size_after(&self, size: usize) -> usize {
        match self {
            Self::Write { offset, bytes } => {
                let end = *offset + bytes.len();
                if end > size { end } else { size }
            }
            Self::Truncate { bytes } => *bytes,
        }
    }
}

/// The range cut at the borders of sectors.
fn sectors(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(to);
        let sector = (at, end);
        at = end;
        (sector.0 < to).then_some(sector)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![0; contents.len()];
        assert_eq!(contents.read(0, &mut bytes), bytes.len());
        bytes
    }

    #[test]
    fn what_was_synced_stays_whatever_the_seed() {
        for seed in 0..500 {
            let mut contents = Contents::default();
            contents.write(0, &[1; 5000]);
            contents.write(4990, &[2; 20]);
            contents.sync();
            let before = seen(&contents);
            contents.cut_power(&mut Choices::new(seed));
            assert_eq!(seen(&contents), before, "seed {seed}");
        }
    }

    #[test]
    fn unsynced_writes_are_kept_lost_torn_and_reordered_by_seed() {
        let (mut kept, mut lost, mut torn, mut reordered) = (0, 0, 0, 0);
        for seed in 0..500 {
            let mut contents = Contents::default();
            contents.write(0, &[1; 16 * SECTOR_BYTES]);
            contents.sync();
            contents.write(0, &[2; 8 * SECTOR_BYTES]);
            contents.write(8 * SECTOR_BYTES, &[3; 8 * SECTOR_BYTES]);
            contents.cut_power(&mut Choices::new(seed));
            let bytes = seen(&contents);
            assert_eq!(bytes.len(), 16 * SECTOR_BYTES, "no write changed the size");
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "no sector is torn"
                );
            }
            let (first, second) = bytes.split_at(8 * SECTOR_BYTES);
            let is = |part: &[u8], value| part.iter().all(|byte| *byte == value);
            kept += u32::from(is(first, 2) && is(second, 3));
            lost += u32::from(is(&bytes, 1));
            torn += u32::from(!is(first, 1) && !is(first, 2));
            reordered += u32::from(first.contains(&1) && second.contains(&3));
        }
        assert!(
            [kept, lost, torn, reordered]
                .iter()
                .all(|count| *count > 10),
            "{kept} {lost} {torn} {reordered}"
        );
    }

    #[test]
    fn a_failed_sync_is_seen_only_after_the_power_was_off() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut choices = Choices::new(seed);
            let mut contents = Contents::default();
            contents.write(0, &[7; 3 * PAGE_BYTES]);
            contents.fail_sync(&mut choices);
            assert_eq!(seen(&contents), [7; 3 * PAGE_BYTES]);
            // As Linux: the pages count as clean, a second sync writes nothing.
            contents.sync();
            contents.cut_power(&mut choices);
            lost += u32::from(seen(&contents) != [7; 3 * PAGE_BYTES]);
        }
        assert!(lost > 10, "{lost}");
    }

    #[test]
    fn a_file_cut_and_written_anew_has_the_size_of_some_moment() {
        for seed in 0..500 {
            let mut contents = Contents::default();
            contents.write(0, &[1; 9000]);
            contents.sync();
            contents.truncate(0);
            contents.write(0, &[2; 100]);
            contents.cut_power(&mut Choices::new(seed));
            assert!(
                [0, 100, 9000].contains(&contents.len()),
                "{}",
                contents.len()
            );
            let old = contents.len() == 9000;
            assert!(
                seen(&contents).iter().all(|byte| (*byte == 1) == old),
                "cut in part"
            );
        }
    }
}
