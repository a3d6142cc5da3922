//! Descriptions of the schema's tables, for code that walks fields instead of naming them, and the one place that
//! builds a table from its fields' values.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, UnionWIPOffset, VOffsetT, WIPOffset};

use crate::fb;
use crate::id::Id;

/// A table of the schema, its fields in the order of their ids.
pub(crate) struct Table {
    #[cfg(test)]
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// Fields that any table has at most; the JSON decoder keeps one slot for each on its stack.
pub(crate) const FIELDS_MAX: usize = 32;

/// One field of a table.
pub(crate) struct Field {
    /// Its name in the schema and in JSON.
    pub(crate) name: &'static str,
    pub(crate) class: Class,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    U64,
    /// A u64 that JSON writes as 16 hex digits, because its values exceed 2^53.
    Hex64,
    U32,
    /// With the default that is not written.
    Bool(bool),
    Text,
    Id,
    /// What is expected, and the byte of a name.
    Enumeration(&'static str, fn(&[u8]) -> Option<u8>),
    Table(&'static Table),
    Tables(&'static Table),
}

impl Class {
    /// Bytes in the table itself; flatc stores the widest first, and counts structs among the offsets.
    const fn width(self) -> usize {
        match self {
            Self::U64 | Self::Hex64 => 8,
            Self::U32 | Self::Text | Self::Id | Self::Table(_) | Self::Tables(_) => 4,
            Self::Bool(_) | Self::Enumeration(..) => 1,
        }
    }

    /// The default of a one-byte field.
    const fn default_u8(self) -> u8 {
        matches!(self, Self::Bool(true)) as u8
    }
}

/// A table that was written to the builder.
pub(crate) type Built = WIPOffset<TableFinishedWIPOffset>;

/// The value of one field, ready to be stored in its table.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Absent,
    U64(u64),
    U32(u32),
    U8(u8),
    Id(fb::Id),
    Child(WIPOffset<UnionWIPOffset>),
}

impl Slot {
    pub(crate) fn text(text: &str, builder: &mut FlatBufferBuilder<'_>) -> Self {
        if text.is_empty() {
            Self::Absent
        } else {
            Self::Child(builder.create_string(text).as_union_value())
        }
    }

    pub(crate) fn id(id: Id) -> Self {
        id.present().map_or(Self::Absent, |id| Self::Id(id.into()))
    }

    pub(crate) fn child(child: Built) -> Self {
        Self::Child(child.as_union_value())
    }

    pub(crate) fn children(children: &[Built], builder: &mut FlatBufferBuilder<'_>) -> Self {
        Self::Child(builder.create_vector(children).as_union_value())
    }
}

/// Stores the fields as flatc's own builders do, so that one message has one encoding: widest first, and within a
/// width the last field first.
pub(crate) fn build(table: &Table, slots: &[Slot], builder: &mut FlatBufferBuilder<'_>) -> Built {
    debug_assert!(slots.len() == table.fields.len() && slots.len() <= FIELDS_MAX);
    let start = builder.start_table();
    for width in [8, 4, 1] {
        for (index, slot) in slots.iter().enumerate().rev() {
            let class = table.fields[index].class;
            if class.width() != width {
                continue;
            }
            let offset = vtable_offset(index);
            match *slot {
                Slot::Absent => {}
                Slot::U64(value) => builder.push_slot(offset, value, 0),
                Slot::U32(value) => builder.push_slot(offset, value, 0),
                Slot::U8(value) => builder.push_slot(offset, value, class.default_u8()),
                Slot::Id(id) => builder.push_slot_always(offset, id),
                Slot::Child(child) => builder.push_slot_always(offset, child),
            }
        }
    }
    builder.end_table(start)
}

/// Where the vtable keeps field `index`: two u16 of its own come first.
#[expect(clippy::cast_possible_truncation, reason = "index < FIELDS_MAX")]
const fn vtable_offset(index: usize) -> VOffsetT {
    4 + 2 * index as VOffsetT
}
