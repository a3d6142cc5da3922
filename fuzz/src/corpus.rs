//! What mutation begins with: the golden vectors, and requests and texts that a client sends.

use serde_json::Value;

use crate::packed::from_hex;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Origin: http://localhost\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: tidegate.v1.json, tidegate.v1.fb\r\n\r\n";

/// Inputs that the bodies accept, so that a mutated one comes further than noise would.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new(), HANDSHAKE.as_bytes().to_vec()];
    for file in [
        include_str!("../../protocol/vectors/envelopes.json"),
        include_str!("../../protocol/vectors/frames.json"),
    ] {
        let parsed: Value = serde_json::from_str(file).expect("a committed vector file is JSON");
        collect(&parsed, &mut seeds);
    }
    seeds
}

/// Every object as JSON text, every string of hex as bytes, whatever the file calls them.
fn collect(value: &Value, seeds: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, seeds)),
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name.ends_with("hex") => seeds.extend(from_hex(text)),
                    Value::Object(_) => seeds.push(member.to_string().into_bytes()),
                    _ => {}
                }
                collect(member, seeds);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_of_seed_is_there() {
        let seeds = super::seeds();
        assert!(seeds.len() > 50, "{}", seeds.len());
        assert!(seeds.iter().any(|seed| seed.starts_with(b"{")));
        assert!(seeds.iter().any(|seed| seed.len() > 13 && seed[0] == 1));
    }
}
