//! Bodies around the handshake and the token.

use crate::token::{Key, verify};
use crate::ws::handshake::{Outcome, Policy, parse};

/// A request that dribbles in comes to the outcome that it has at once, and an answer is a whole one.
pub fn handshake(input: &[u8]) {
    let policy = Policy {
        allowed_origins: vec!["https://shop.example".to_owned()],
        ..Policy::default()
    };
    let whole = parse(input, 0, &policy);
    let mut answer = Vec::new();
    match &whole {
        Outcome::Incomplete => {}
        Outcome::Upgrade(upgrade) => {
            assert!(upgrade.request_bytes <= input.len());
            assert!(
                upgrade
                    .origin
                    .is_none_or(|origin| policy.allows_origin(origin))
            );
            upgrade.append_response(&mut answer);
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
        }
        Outcome::Plain(plain) => assert!(plain.request_bytes <= input.len()),
        Outcome::Refused(refusal) => {
            refusal.append_response(&mut answer);
            assert!(answer.starts_with(format!("HTTP/1.1 {} ", refusal.status).as_bytes()));
        }
    }
    // Dribbling: the parser sees the first byte, then only what brings the end of the header; garbage may so be
    // noticed later, but an upgrade is never another one.
    let mut searched = 0;
    for there in (1..=input.len().min(2000)).chain([input.len()]) {
        let outcome = parse(&input[..there], searched, &policy);
        searched = there;
        match outcome {
            Outcome::Incomplete => continue,
            Outcome::Upgrade(_) | Outcome::Plain(_) => {
                assert_eq!(outcome, whole, "after {there} bytes")
            }
            Outcome::Refused(_) => assert!(
                matches!(whole, Outcome::Refused(_)),
                "after {there} bytes: {outcome:?}"
            ),
        }
        break;
    }
}

/// No text is a token but those that were minted with the key.
pub fn token(input: &[u8]) {
    if let Ok(text) = core::str::from_utf8(input) {
        assert!(verify(text, &Key::new([7; 32]), 0).is_err());
    }
}
