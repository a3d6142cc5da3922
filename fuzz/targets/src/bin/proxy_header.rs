//! `tidegate_gateway::fuzzing::proxy_header` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_gateway::fuzzing::proxy_header(bytes));
