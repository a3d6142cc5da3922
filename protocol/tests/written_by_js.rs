//! What the JavaScript SDK writes, FlatBuffers laid out its own way, verifies and reads here as it was meant.
//! The file is the JavaScript tests': `TIDEGATE_UPDATE_VECTORS=1 node --test protocol/js/test/vectors.test.js`.

use tidegate_protocol::codec::json::encode;
use tidegate_protocol::envelope::BatchReader;
use tidegate_protocol::{Kind, verify};

#[derive(serde::Deserialize)]
struct Written {
    name: String,
    json: serde_json::Value,
    envelope_hex: String,
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect()
}

#[test]
fn every_kind_that_javascript_writes_verifies_at_any_address_and_says_the_same() {
    let written: Vec<Written> =
        serde_json::from_str(include_str!("../vectors/written_by_js.json")).expect("JSON");
    assert!(written.len() >= 36);
    for one in written {
        let bytes = bytes_of(&one.envelope_hex);
        for shift in 0..8 {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(&bytes);
            let mut batch = BatchReader::new(&shifted[shift..]);
            let envelope = batch.next().expect("an envelope").expect("a whole one");
            assert!(batch.next().is_none(), "{}", one.name);
            let kind = Kind::from_u8(envelope.kind).expect("a kind of ours");
            let view = verify(kind, envelope.payload)
                .unwrap_or_else(|malformed| panic!("{}: {malformed:?}", one.name));
            let mut text = Vec::new();
            encode(&mut text, envelope.timestamp_us, &view);
            let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(read, one.json, "{}", one.name);
        }
    }
}
