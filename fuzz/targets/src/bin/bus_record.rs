//! `tidegate_protocol::fuzzing::bus_record` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_protocol::fuzzing::bus_record(bytes));
