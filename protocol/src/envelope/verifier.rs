//! Whether the accessors that flatc wrote may read a payload: they trust every offset, so each is followed here first.
//!
//! The rules are those of the `flatbuffers` crate's own verifier, and a fuzz body holds the two against each other.
//! Ours walks the descriptions of the tables that the codecs walk, stops at the end of a table's own vtable, keeps
//! no trace of where it stands, and checks UTF-8 with vector instructions: a third of the time, for each message of
//! each visitor. (Format: FlatBuffers, "Internals".)

use crate::limits::{ENVELOPE_PAYLOAD_BYTES_MAX, TABLE_DEPTH_MAX, TABLES_PER_PAYLOAD_MAX};
use crate::message::table::{Class, Table};

/// A hostile payload can point at one string from many places. What all of them may pretend to hold is four times
/// what an honest payload can.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * ENVELOPE_PAYLOAD_BYTES_MAX;

/// Bytes of an offset forwards, of the length before a string or a vector, and of the offset back to a vtable.
const OFFSET_BYTES: usize = 4;

/// A vtable begins with its own length and its table's, two bytes each.
const VTABLE_HEADER_BYTES: usize = 4;

/// Whether `payload` is a table of that description, with everything that it points at inside it.
pub(crate) fn holds(payload: &[u8], root: &Table) -> bool {
    let mut walk = Walk {
        payload,
        tables_left: TABLES_PER_PAYLOAD_MAX,
        text_bytes_left: TEXT_BYTES_MAX,
    };
    walk.child(0, root, TABLE_DEPTH_MAX).is_some()
}

/// What is left of the bounds on the work for one payload. `None` from any step: refused.
struct Walk<'p> {
    payload: &'p [u8],
    tables_left: usize,
    text_bytes_left: usize,
}

// Positions are at most the payload's 64 KiB and a u32 beyond it: nothing overflows a usize of 64 bits.
const _: () = assert!(usize::BITS >= 64);

impl<'p> Walk<'p> {
    /// The table that the offset at `at` points to.
    fn child(&mut self, at: usize, description: &Table, depth_left: usize) -> Option<()> {
        let table = self.target(at)?;
        self.table(table, description, depth_left)
    }

    fn table(&mut self, at: usize, description: &Table, depth_left: usize) -> Option<()> {
        self.tables_left = self.tables_left.checked_sub(1)?;
        let depth_left = depth_left.checked_sub(1)?;
        let back = i32::from_le_bytes(self.word(at)?);
        let vtable_at = usize::try_from(i64::try_from(at).ok()? - i64::from(back)).ok()?;
        for (field, entry) in description.fields.iter().zip(self.vtable(vtable_at)?) {
            let offset = usize::from(u16::from_le_bytes(*entry));
            if offset == 0 {
                continue;
            }
            let at = at + offset;
            match field.class {
                Class::U64 | Class::Hex64 => self.inside(at, 8, 8)?,
                Class::U32 => self.inside(at, 4, 4)?,
                Class::Bool(_) | Class::Enumeration(..) => self.inside(at, 1, 1)?,
                // Read byte by byte, wherever it lies.
                Class::Id => self.inside(at, 16, 1)?,
                Class::Text => self.text(at)?,
                Class::Table(child) => self.child(at, child, depth_left)?,
                Class::Tables(child) => self.tables(at, child, depth_left)?,
            }
        }
        Some(())
    }

    /// The entries of a vtable, one for each field that its writer knew.
    fn vtable(&self, at: usize) -> Option<&'p [[u8; 2]]> {
        let from_here = self.payload.get(at..)?;
        let len = usize::from(u16::from_le_bytes(*from_here.first_chunk()?));
        (at.is_multiple_of(2) && len.is_multiple_of(2)).then_some(())?;
        let vtable = from_here.get(..len)?;
        let (entries, _) = vtable
            .get(VTABLE_HEADER_BYTES..)
            .unwrap_or_default()
            .as_chunks();
        Some(entries)
    }

    fn text(&mut self, at: usize) -> Option<()> {
        let at = self.target(at)?;
        let len = self.offset(at)?;
        self.text_bytes_left = self.text_bytes_left.checked_sub(len)?;
        let start = at + OFFSET_BYTES;
        let text = self.payload.get(start..start + len)?;
        let terminated = self.payload.get(start + len) == Some(&0);
        (terminated && simdutf8::basic::from_utf8(text).is_ok()).then_some(())
    }

    fn tables(&mut self, at: usize, child: &Table, depth_left: usize) -> Option<()> {
        let at = self.target(at)?;
        let count = self.offset(at)?;
        let first = at + OFFSET_BYTES;
        (0..count).try_for_each(|index| self.child(first + index * OFFSET_BYTES, child, depth_left))
    }

    /// Where the offset at `at` points to.
    fn target(&self, at: usize) -> Option<usize> {
        Some(at + self.offset(at)?)
    }

    fn offset(&self, at: usize) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.word(at)?)).ok()
    }

    fn word(&self, at: usize) -> Option<[u8; 4]> {
        (at.is_multiple_of(4)).then_some(())?;
        self.payload.get(at..)?.first_chunk().copied()
    }

    /// `bytes` at `at`, aligned relative to the payload's first byte.
    fn inside(&self, at: usize, bytes: usize, alignment: usize) -> Option<()> {
        (at.is_multiple_of(alignment) && at + bytes <= self.payload.len()).then_some(())
    }
}
