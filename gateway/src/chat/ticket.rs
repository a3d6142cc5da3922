//! The signed ticket: a number in the one order of admission, which its holder brings back in the next Hello.
//!
//! ```text
//!  0            8                 16                32
//!  ├────────────┼─────────────────┼─────────────────┤   base64url without padding, 43 characters
//!  │ number u64 │ arrived_ms u64  │ first half of   │   little-endian
//!  │            │ Unix            │ HMAC-SHA-256    │
//! ```
//!
//! The number [`PASS`] is no place: it says that its holder was inside, and comes back in without waiting.
//!
//! The signature covers the two numbers and the principal of the bearer's token, so a ticket can be neither made up
//! nor handed on. It is keyed with the token key under a prefix of its own: a ticket is never a token. Because
//! nothing about it is stored, it keeps its place through the death of any process.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Characters of a ticket's text.
pub const TICKET_BYTES: usize = 43;

/// The number of a pass. No counter reaches it.
pub const PASS: u64 = u64::MAX;
/// A pass is worth nothing after so long; each Welcome renews it.
pub const PASS_MS_MAX: u64 = 24 * 3_600 * 1_000;

const DOMAIN: &[u8] = b"tidegate ticket 1\0";
const SIGNATURE_BYTES: usize = 16;

/// A place in the order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The number; lower comes first. [`PASS`]: none is needed.
    pub number: u64,
    /// When it was drawn, in ms since the Unix epoch by the drawing gateway's clock.
    pub arrived_ms: u64,
}

impl Ticket {
    /// A pass for somebody who is inside.
    pub fn pass(now_ms: u64) -> Ticket {
        Ticket {
            number: PASS,
            arrived_ms: now_ms,
        }
    }

    /// Whether it lets its holder in whatever the frontier.
    pub fn is_pass(&self, now_ms: u64) -> bool {
        self.number == PASS && now_ms.saturating_sub(self.arrived_ms) < PASS_MS_MAX
    }
}

/// Signs tickets and checks them.
#[derive(Clone)]
pub struct TicketOffice {
    keyed: Hmac<Sha256>,
}

impl TicketOffice {
    /// An office that signs with the token key.
    pub fn new(key: &[u8]) -> TicketOffice {
        let mut keyed =
            Hmac::<Sha256>::new_from_slice(key).expect("invariant: HMAC takes a key of any length");
        keyed.update(DOMAIN);
        TicketOffice { keyed }
    }

    /// The text of a ticket for this principal.
    pub fn sign(&self, ticket: Ticket, principal: u128) -> String {
        let mut bytes = [0; 16 + SIGNATURE_BYTES];
        bytes[..16].copy_from_slice(&numbers(ticket));
        let signature = self.mac(ticket, principal).finalize().into_bytes();
        bytes[16..].copy_from_slice(&signature[..SIGNATURE_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The ticket in this text, if this office signed it for this principal.
    pub fn check(&self, text: &str, principal: u128) -> Option<Ticket> {
        let mut bytes = [0; 16 + SIGNATURE_BYTES];
        if text.len() != TICKET_BYTES
            || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != bytes.len()
        {
            return None;
        }
        let (numbers, signature) = bytes.split_at(16);
        let (number, arrived_ms) = numbers.split_at(8);
        let ticket = Ticket {
            number: u64::from_le_bytes(number.try_into().expect("invariant: split at 8")),
            arrived_ms: u64::from_le_bytes(
                arrived_ms.try_into().expect("invariant: split at 8 of 16"),
            ),
        };
        self.mac(ticket, principal)
            .verify_truncated_left(signature)
            .ok()?;
        Some(ticket)
    }

    fn mac(&self, ticket: Ticket, principal: u128) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(&numbers(ticket));
        mac.update(&principal.to_le_bytes());
        mac
    }
}

fn numbers(ticket: Ticket) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&ticket.number.to_le_bytes());
    bytes[8..].copy_from_slice(&ticket.arrived_ms.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = Ticket {
        number: 4_711,
        arrived_ms: 1_732_000_000_123,
    };

    #[test]
    fn a_ticket_is_read_back_by_an_office_with_the_same_key() {
        let text = TicketOffice::new(b"key").sign(TICKET, 7);
        assert_eq!(text.len(), TICKET_BYTES);
        assert_eq!(TicketOffice::new(b"key").check(&text, 7), Some(TICKET));
    }

    #[test]
    fn a_ticket_is_worth_nothing_to_another_principal_or_under_another_key() {
        let text = TicketOffice::new(b"key").sign(TICKET, 7);
        assert_eq!(TicketOffice::new(b"key").check(&text, 8), None);
        assert_eq!(TicketOffice::new(b"other").check(&text, 7), None);
    }

    #[test]
    fn no_changed_character_passes() {
        let office = TicketOffice::new(b"key");
        let text = office.sign(TICKET, 7);
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                office.check(std::str::from_utf8(&forged).unwrap(), 7),
                None,
                "at {at}"
            );
        }
        for junk in [
            "",
            "A",
            "not a ticket",
            &"=".repeat(TICKET_BYTES),
            &"é".repeat(TICKET_BYTES),
        ] {
            assert_eq!(office.check(junk, 7), None);
        }
    }
}
