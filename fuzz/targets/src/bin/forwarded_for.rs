//! `tidegate_gateway::fuzzing::forwarded_for` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_gateway::fuzzing::forwarded_for(bytes));
