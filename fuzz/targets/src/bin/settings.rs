//! `tidegate_settings::fuzzing::settings` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_settings::fuzzing::settings(bytes));
