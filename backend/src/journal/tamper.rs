//! For tests: a journal that says something else than happened.

use std::fs;
use std::path::Path;

use super::frame::{HEAD_BYTES, MAGIC, TURN, seal};

/// Changes time and seed of the turns of one file; each frame's check agrees with what it says then.
pub(crate) fn change_turns(file: &Path, mut change: impl FnMut(u64, &mut u64, &mut u64)) {
    let mut bytes = fs::read(file).unwrap();
    let mut at = MAGIC.len();
    while at < bytes.len() {
        let length = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
        let frame = &mut bytes[at..at + HEAD_BYTES + length];
        if frame[HEAD_BYTES] == TURN {
            let words = frame[HEAD_BYTES + 1..].as_chunks_mut::<8>().0;
            let number = u64::from_le_bytes(words[0]);
            let (mut now_us, mut seed) =
                (u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2]));
            change(number, &mut now_us, &mut seed);
            words[1] = now_us.to_le_bytes();
            words[2] = seed.to_le_bytes();
            seal(frame, 0);
        }
        at += HEAD_BYTES + length;
    }
    fs::write(file, bytes).unwrap();
}
