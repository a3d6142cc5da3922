//! `shm_bus::fuzzing::consumer_over_arbitrary_memory` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shm_bus::fuzzing::consumer_over_arbitrary_memory(bytes));
