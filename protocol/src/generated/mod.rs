//! flatc's output for `schema/tidegate.fbs`, committed. `npm run generate` in `schema/` writes
//! it, `npm run check` regenerates and compares, and the test below compares the schema's hash.

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

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    #[test]
    fn the_generated_code_was_made_from_the_schema_as_it_is() {
        let schema = include_bytes!("../../schema/tidegate.fbs");
        let found: String = sha2::Sha256::digest(schema)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let recorded = include_str!("schema.sha256").split(' ').next();
        assert_eq!(
            recorded,
            Some(found.as_str()),
            "schema/tidegate.fbs changed: run npm run generate in protocol/schema"
        );
    }
}
