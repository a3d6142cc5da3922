//! `shm_bus::fuzzing::producer_with_an_arbitrary_consumer` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| shm_bus::fuzzing::producer_with_an_arbitrary_consumer(bytes)
);
