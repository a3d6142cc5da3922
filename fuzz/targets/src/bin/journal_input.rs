//! `tidegate_backend::fuzzing::journal_input` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_backend::fuzzing::journal_input(bytes));
