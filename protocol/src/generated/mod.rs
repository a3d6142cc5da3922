//! flatc's output for `schema/tidegate.fbs`, committed. A test regenerates it and compares.

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "written by flatc; the schema carries the documentation, and its roots are checked views only"
)]
#[rustfmt::skip]
mod tidegate_generated;

pub use tidegate_generated::tidegate;
