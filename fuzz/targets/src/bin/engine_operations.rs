//! `tidegate_backend::fuzzing::engine_operations` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_backend::fuzzing::engine_operations(bytes));
