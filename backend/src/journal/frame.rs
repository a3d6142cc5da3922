//! Frames: how a journal's bytes are cut up, so that a torn or damaged one is known for what it is.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Begins every file.
pub(super) const MAGIC: &[u8] = b"tidegate journal 4\n";
/// A process began: [`super::start::Start`] as JSON.
pub(super) const STARTED: u8 = 1;
/// A turn, as it was about to be committed.
pub(super) const TURN: u8 = 2;
/// The turn of that number was committed, or had nothing to commit.
pub(super) const COMMITTED: u8 = 3;
/// The store was closed in order.
pub(super) const STOPPED: u8 = 4;
/// The inputs of a turn in which the process broke.
pub(super) const BROKE: u8 = 5;

/// Length and check.
pub(super) const HEAD_BYTES: usize = 12;
/// A turn is bounded by what its rings hold; a length above this is damage.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// A frame at the end of `out`, to be filled and then [`seal`]ed; where it begins.
pub(super) fn begin(out: &mut Vec<u8>, tag: u8) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.push(tag);
    at
}

/// Fills in length and check of the frame that reaches from `at` to the end.
pub(super) fn seal(out: &mut [u8], at: usize) {
    let frame = &mut out[at..];
    let length = u32::try_from(frame.len() - HEAD_BYTES)
        .expect("invariant: a turn is bounded by what its rings hold");
    let check = check(&frame[HEAD_BYTES..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..HEAD_BYTES].copy_from_slice(&check.to_le_bytes());
}

/// Tells damage from what was written; no defence against a forger.
fn check(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(PRIME).rotate_left(23);
    let (words, tail) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| {
        mix(sum, u64::from_le_bytes(*word))
    });
    tail.iter()
        .fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
        ^ PRIME
}

/// Where a journal can be read no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is torn at byte {at}: {why}", path.display())]
pub struct Tear {
    /// In which file.
    pub path: PathBuf,
    /// Where the frame begins that is not whole.
    pub at: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What is next in a file.
pub(super) enum Next {
    /// A whole frame: tag and body.
    Frame(u8, Vec<u8>),
    /// The file ends behind a frame.
    End,
    /// The file ends within a frame: its writer was killed, or it was cut off.
    CutOff,
    /// What is there is no frame.
    Damaged(&'static str),
}

/// Reads one file.
pub(super) struct Frames {
    reader: BufReader<File>,
    /// Where the next frame begins.
    pub(super) at: u64,
}

impl Frames {
    /// Opens it; `None`: it does not begin as a journal of this version does.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut magic = Vec::new();
        reader
            .by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        Ok((magic == MAGIC).then_some(Self {
            reader,
            at: MAGIC.len() as u64,
        }))
    }

    /// Reads a frame. After anything but a frame nothing more is to be had.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut head = Vec::new();
        let mut reader = self.reader.by_ref().take(HEAD_BYTES as u64);
        reader.read_to_end(&mut head)?;
        let Some((length, sum)) = head.split_first_chunk::<4>() else {
            return Ok(if head.is_empty() {
                Next::End
            } else {
                Next::CutOff
            });
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Ok(sum) = sum.try_into().map(u64::from_le_bytes) else {
            return Ok(Next::CutOff);
        };
        if length == 0 || length > FRAME_BYTES_MAX {
            return Ok(Next::Damaged("its length is impossible"));
        }
        // A length that is damaged must not have memory made for it: what is there is read.
        let mut frame = Vec::new();
        let mut reader = self.reader.by_ref().take(length as u64);
        reader.read_to_end(&mut frame)?;
        if frame.len() < length {
            return Ok(Next::CutOff);
        }
        if check(&frame) != sum {
            return Ok(Next::Damaged("its check does not agree with its bytes"));
        }
        self.at += (HEAD_BYTES + length) as u64;
        let tag = frame.remove(0);
        Ok(Next::Frame(tag, frame))
    }
}
