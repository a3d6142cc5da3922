//! `shm_bus::fuzzing::consumer_over_a_damaged_ring` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shm_bus::fuzzing::consumer_over_a_damaged_ring(bytes));
