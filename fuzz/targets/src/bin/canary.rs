//! Must fail: seven bytes that noise never hits, and that only somebody who watches the comparisons finds. A hunt that
//! does not find them is blind, whatever it says of the other targets.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if bytes.first() == Some(&b't') && bytes.get(1..7) == Some(b"idegat".as_slice()) {
        panic!("the canary: planted, and found");
    }
});
