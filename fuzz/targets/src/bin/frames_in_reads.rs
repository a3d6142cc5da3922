//! `tidegate_protocol::fuzzing::frames_in_reads` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_protocol::fuzzing::frames_in_reads(bytes));
