//! `shm_bus::fuzzing::recording_rotated` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shm_bus::fuzzing::recording_rotated(bytes));
