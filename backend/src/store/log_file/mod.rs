//! The writer's end of the write-ahead log: a commit reaches the file in one write.
//!
//! SQLite writes each changed page of a commit by itself, and its header of 24 bytes by itself as well: nine writes for
//! the commit of one message. Here they are held until the commit's last frame is complete and then go out together;
//! what SQLite does, in which order, and what it finds in the file, stays the same.
//!
//! **Why nobody can see the difference.** The log's format says which frame is a commit's last (sqlite.org, "WAL-mode
//! file format": the second word of its header is not zero). Readers are told of a commit's frames only after that
//! frame was written, here as there; frames without it are ignored by everybody, the next start's recovery included.
//! So [`Held::write`] never returns from a commit's last frame before all of it is in the file, and returns the error
//! if it is not. What else uses this file, a read above all, first has everything written that is held.
//!
//! Only the connection that writes is opened like this ([`super::open::Place::open_writer`]), and only over the
//! platform's own files: the simulated disk sees each write.
//!
//! Measured (`turn_cost`, ext4, by joining the writes between SQLite and the kernel in a trial before this was written): a
//! commit of 1 message 45 → 33 µs, of 16 messages 350 → 210 µs. `turn_cost` takes both by the name of the VFS.

mod vfs;

pub use vfs::registered_name;

/// Bytes of the log's own header; the first frame follows.
const LOG_HEADER_BYTES: u64 = 32;
/// Bytes of a frame's header; its page follows.
const FRAME_HEADER_BYTES: usize = 24;
/// Bytes of the largest page that SQLite knows.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// Frames of one commit that are held; at the bound they are written, and the commit goes on.
const HELD_BYTES_MAX: usize = 512 << 10;

const _: () = assert!(HELD_BYTES_MAX >= 2 * (FRAME_HEADER_BYTES + PAGE_BYTES_MAX));

/// What the file said to a write: SQLite's code, if it failed.
type Written = Result<(), i32>;

/// Frames of the running commit that are not in the file yet.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// Where the first of them belongs.
    at: u64,
    /// Where the log goes on: behind the newest byte of it that came by.
    end: u64,
    /// The newest header waits for its page; true: of the commit's last frame.
    page_due: Option<bool>,
}

impl Held {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            at: 0,
            end: 0,
            page_due: None,
        }
    }

    /// Takes one of SQLite's writes; `file` writes so many bytes at an offset of the file.
    ///
    /// Only what continues the log is held. Whatever else there is (the log's header, a frame that is corrected, the
    /// first frame after the log started over) is written at once, behind what was held.
    fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut file: impl FnMut(u64, &[u8]) -> Written,
    ) -> Written {
        let continues = offset == self.end && offset >= LOG_HEADER_BYTES;
        if continues && let Some(is_last) = self.page_due.take() {
            self.hold(offset, bytes);
            return if is_last { self.flush(file) } else { Ok(()) };
        }
        // No page is as short as a frame's header.
        if continues && let Ok(header) = <[u8; FRAME_HEADER_BYTES]>::try_from(bytes) {
            if self.bytes.len() + FRAME_HEADER_BYTES + PAGE_BYTES_MAX > HELD_BYTES_MAX {
                self.flush(&mut file)?;
            }
            self.hold(offset, &header);
            self.page_due = Some(header[4..8] != [0; 4]);
            return Ok(());
        }
        self.flush(&mut file)?;
        self.end = offset + bytes.len() as u64;
        file(offset, bytes)
    }

    fn hold(&mut self, offset: u64, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.at = offset;
        }
        self.bytes.extend_from_slice(bytes);
        self.end = offset + bytes.len() as u64;
    }

    /// Writes what is held. After a failure it is held no longer: the commit that it belongs to has failed.
    fn flush(&mut self, mut file: impl FnMut(u64, &[u8]) -> Written) -> Written {
        self.page_due = None;
        if self.bytes.is_empty() {
            return Ok(());
        }
        let written = file(self.at, &self.bytes);
        self.bytes.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: usize = 512;

    /// A file, and how often it was written to.
    #[derive(Default)]
    struct File {
        bytes: Vec<u8>,
        writes: usize,
        fails: Option<i32>,
    }

    impl File {
        fn write(&mut self, offset: u64, bytes: &[u8]) -> Written {
            self.writes += 1;
            if let Some(code) = self.fails.take() {
                return Err(code);
            }
            let (from, to) = (
                usize::try_from(offset).unwrap(),
                usize::try_from(offset).unwrap() + bytes.len(),
            );
            self.bytes.resize(self.bytes.len().max(to), 0);
            self.bytes[from..to].copy_from_slice(bytes);
            Ok(())
        }
    }

    const fn offset_of(frame: u64) -> u64 {
        LOG_HEADER_BYTES + frame * (FRAME_HEADER_BYTES + PAGE_BYTES) as u64
    }

    fn header(fill: u8, is_last: bool) -> [u8; FRAME_HEADER_BYTES] {
        let mut header = [fill; FRAME_HEADER_BYTES];
        header[4..8].copy_from_slice(&u32::from(is_last).to_be_bytes());
        header
    }

    /// As SQLite writes a frame: into the held one and, for comparison, straight into another file.
    fn frame(held: &mut Held, file: &mut File, plain: &mut File, number: u64, is_last: bool) {
        let fill = u8::try_from(number + 1).unwrap();
        let (at, header, page) = (offset_of(number), header(fill, is_last), [fill; PAGE_BYTES]);
        for (at, bytes) in [(at, &header[..]), (at + header.len() as u64, &page[..])] {
            held.write(at, bytes, |at, bytes| file.write(at, bytes))
                .unwrap();
            plain.write(at, bytes).unwrap();
        }
    }

    fn begun() -> (Held, File, File) {
        let (mut held, mut file, mut plain) = (Held::new(), File::default(), File::default());
        let log_header = [7; 32];
        held.write(0, &log_header, |at, bytes| file.write(at, bytes))
            .unwrap();
        plain.write(0, &log_header).unwrap();
        (held, file, plain)
    }

    #[test]
    fn a_commit_of_many_frames_is_one_write_and_the_same_file() {
        let (mut held, mut file, mut plain) = begun();
        for commit in 0..3 {
            for number in 0..4 {
                frame(&mut held, &mut file, &mut plain, commit * 5 + number, false);
            }
            frame(&mut held, &mut file, &mut plain, commit * 5 + 4, true);
            assert_eq!(file.bytes, plain.bytes, "commit {commit} is in the file");
        }
        assert_eq!(file.writes, 1 + 3, "the log's header and three commits");
    }

    #[test]
    fn a_commit_larger_than_what_may_be_held_is_written_in_parts() {
        let (mut held, mut file, mut plain) = begun();
        let frames = 2 * HELD_BYTES_MAX / PAGE_BYTES;
        let (page, mut at) = ([9; PAGE_BYTES], LOG_HEADER_BYTES);
        for number in 0..frames {
            for bytes in [&header(3, number + 1 == frames)[..], &page] {
                held.write(at, bytes, |at, bytes| file.write(at, bytes))
                    .unwrap();
                plain.write(at, bytes).unwrap();
                at += bytes.len() as u64;
                assert!(held.bytes.len() <= HELD_BYTES_MAX);
            }
        }
        assert_eq!(file.bytes, plain.bytes);
        assert!(file.writes < 8, "{} writes", file.writes);
    }

    #[test]
    fn a_commit_that_cannot_be_written_fails_and_the_next_one_takes_its_place() {
        let (mut held, mut file, mut plain) = begun();
        frame(&mut held, &mut file, &mut plain, 0, true);
        let at = offset_of(1);
        file.fails = Some(13);
        held.write(at, &header(8, true), |at, bytes| file.write(at, bytes))
            .unwrap();
        let page = held.write(at + 24, &[8; PAGE_BYTES], |at, bytes| file.write(at, bytes));
        assert_eq!(page, Err(13), "the last frame says that it is not there");
        assert_eq!(file.bytes, plain.bytes, "and it is not");
        frame(&mut held, &mut file, &mut plain, 1, true);
        assert_eq!(file.bytes, plain.bytes);
    }

    #[test]
    fn frames_that_a_rollback_left_held_are_replaced() {
        let (mut held, mut file, mut plain) = begun();
        frame(&mut held, &mut file, &mut plain, 0, true);
        // Written out in the middle of a transaction that did not end well.
        held.write(offset_of(1), &header(8, false), |at, bytes| {
            file.write(at, bytes)
        })
        .unwrap();
        held.write(offset_of(1) + 24, &[8; PAGE_BYTES], |at, bytes| {
            file.write(at, bytes)
        })
        .unwrap();
        frame(&mut held, &mut file, &mut plain, 1, false);
        frame(&mut held, &mut file, &mut plain, 2, true);
        assert_eq!(file.bytes, plain.bytes);
    }

    #[test]
    fn a_header_that_is_corrected_in_place_is_written_at_once() {
        let (mut held, mut file, mut plain) = begun();
        frame(&mut held, &mut file, &mut plain, 0, false);
        frame(&mut held, &mut file, &mut plain, 1, true);
        for number in [0, 1] {
            let corrected = header(99, number == 1);
            held.write(offset_of(number), &corrected, |at, bytes| {
                file.write(at, bytes)
            })
            .unwrap();
            plain.write(offset_of(number), &corrected).unwrap();
            assert_eq!(file.bytes, plain.bytes, "frame {number}");
        }
        frame(&mut held, &mut file, &mut plain, 2, true);
        assert_eq!(file.bytes, plain.bytes);
    }
}
