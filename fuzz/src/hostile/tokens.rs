//! Tokens that are not ours, not whole, not true any more.

use std::time::Duration;

use protocol::token::{self, Claims, Key};
use protocol::ws::Opcode;
use protocol::{Id, fb};
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, frame};

const BAD_TOKEN: u16 = 4500;
const EXPIRED_TOKEN: u16 = 4504;
const ABUSE: u16 = 4503;

/// What the chat's attackers know: they stole the key to make what the key would never sign.
#[derive(Debug)]
pub struct Tokens {
    key: Key,
    now_s: u64,
}

impl Tokens {
    /// With the key of the system under attack, at this time (seconds since the Unix epoch).
    #[must_use]
    pub const fn new(key: Key, now_s: u64) -> Self {
        Self { key, now_s }
    }

    fn claims(&self, person: u128) -> Claims {
        Claims {
            sub: Id(person),
            role: fb::Role::Visitor,
            wid: 1,
            name: String::new(),
            sid: 1,
            iat: self.now_s,
            exp: self.now_s + 3_600,
        }
    }

    /// A good visitor's token.
    #[must_use]
    pub fn good(&self, person: u128) -> String {
        token::mint(&self.claims(person), &self.key)
    }

    /// A good visitor's Hello, in JSON, of a session of their own.
    #[must_use]
    pub fn hello(&self, person: u128) -> String {
        hello(
            &self.good(person),
            u64::try_from(person & u128::from(u64::MAX)).unwrap_or(1) | 1,
        )
    }

    pub(super) fn attacks(&self) -> Vec<Attack> {
        let good = self.good(0xbad);
        let (signed, signature) = good.rsplit_once('.').unwrap_or_default();
        let (header, body) = signed.split_once('.').unwrap_or_default();
        let expired = Claims {
            iat: self.now_s - 7_200,
            exp: self.now_s - 3_600,
            ..self.claims(0xbad)
        };
        let supervisor = Claims {
            role: fb::Role::Supervisor,
            ..self.claims(0xbad)
        };
        let claimed = token::mint(&supervisor, &Key::new([0x55; 32]));
        let claimed_body = claimed.split('.').nth(1).unwrap_or_default();
        let forged: Vec<(&str, String, u16)> = vec![
            ("a token of another key", claimed.clone(), BAD_TOKEN),
            (
                "a supervisor's claims under a visitor's signature",
                format!("{header}.{claimed_body}.{signature}"),
                BAD_TOKEN,
            ),
            (
                "a token without a signature",
                format!("{header}.{body}."),
                BAD_TOKEN,
            ),
            (
                "a token of half a signature",
                good[..good.len() - 20].to_owned(),
                BAD_TOKEN,
            ),
            // {"alg":"none","typ":"JWT"}
            (
                "a token of algorithm none",
                format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claimed_body}."),
                BAD_TOKEN,
            ),
            ("an empty token", String::new(), BAD_TOKEN),
            ("a token of dots", ".".repeat(900), BAD_TOKEN),
            (
                "an expired token",
                token::mint(&expired, &self.key),
                EXPIRED_TOKEN,
            ),
        ];
        let mut all: Vec<Attack> = forged
            .into_iter()
            .map(|(name, token, code)| said(name, &hello(&token, 1), code))
            .collect();
        // Longer than a token can be: no Hello at all, which is forgiven a few times.
        let long = hello(&"a".repeat(20_000), 1);
        let mut again = said("tokens of 20,000 bytes, again and again", &long, ABUSE);
        again.act = Act::Write(frame(true, Opcode::Text, long.as_bytes()).repeat(12));
        all.push(again);
        // Let in, and shown out when it expires.
        let short = Claims {
            exp: self.now_s + 4,
            ..self.claims(0x50_0e)
        };
        all.push(Attack {
            name: "a token that expires meanwhile".to_owned(),
            peers: 1,
            begins: Begins::Welcomed(hello(&token::mint(&short, &self.key), 5)),
            act: Act::Write(Vec::new()),
            ending: Ending::Close(EXPIRED_TOKEN),
            within: Duration::from_secs(15),
        });
        all
    }
}

fn said(name: &str, text: &str, code: u16) -> Attack {
    let bytes = frame(true, Opcode::Text, text.as_bytes());
    Attack::new(
        name,
        Begins::Upgraded(None),
        Act::Write(bytes),
        Ending::Close(code),
    )
}

/// A Hello in JSON.
#[must_use]
pub fn hello(token: &str, session: u64) -> String {
    format!(r#"{{"kind":"hello","request":1,"token":"{token}","session":"{session:016x}"}}"#)
}
