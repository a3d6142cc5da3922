//! Signed tokens: who a connection belongs to. The backend mints them, the gateway verifies them without asking.
//!
//! A token is a JWT (RFC 7519) whose header is exactly `{"alg":"HS256","typ":"JWT"}`: another header is not read
//! but refused, so no token can choose its own algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::fb;
use crate::id::Id;
use crate::limits::{NAME_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::names::Named as _;

/// base64url of `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The `sub` of the tokens that commands on the server's own machine make for themselves (`tidegate agent …`): whoever can
/// read the token key may do what a supervisor may.
pub const LOCAL_OPERATOR: Id = Id(1);
/// How long such a token lives at most, from `iat` to `exp`, s.
pub const LOCAL_OPERATOR_S_MAX: u64 = 60;

/// The secret that signs and verifies: 32 bytes. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// From 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From 64 hex digits, as they stand in the key file; white space around them is ignored.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        let mut key = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            let hi = char::from(pair[0]).to_digit(16)?;
            let lo = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(hi << 4 | lo).ok()?;
        }
        Some(Self(key))
    }

    /// As 64 hex digits, for the key file.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("invariant: HMAC takes keys of any length")
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a token says of its holder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Claims {
    /// The principal: a visitor's or an agent's id.
    pub sub: Id,
    /// `visitor`, `agent` or `supervisor`.
    #[serde(with = "role_name")]
    pub role: fb::Role,
    /// The widget a visitor came through; 0 for agents.
    #[serde(default)]
    pub wid: u32,
    /// What the other side reads above a message.
    #[serde(default)]
    pub name: String,
    /// The site.
    #[serde(default)]
    pub sid: u32,
    /// Minted at, seconds since the Unix epoch.
    pub iat: u64,
    /// Expires at, seconds since the Unix epoch.
    pub exp: u64,
}

mod role_name {
    //! `fb::Role` by its name; only the roles that hold tokens.
    use crate::fb::Role;
    use crate::names::Named as _;
    use serde::Deserialize as _;

    pub fn serialize<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(role.name().unwrap_or("unknown"))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Role, D::Error> {
        let name = String::deserialize(deserializer)?;
        match Role::from_name(name.as_bytes()) {
            Some(role @ (Role::Visitor | Role::Agent | Role::Supervisor)) => Ok(role),
            _ => Err(serde::de::Error::custom("no such role")),
        }
    }
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("a token of {0} bytes is longer than {TOKEN_BYTES_MAX}")]
    TooLong(usize),
    /// Not three parts of base64url with our header and our claims.
    #[error("not a token of ours: expected header.claims.signature, HS256")]
    Malformed,
    /// Signed with another key, or changed.
    #[error("the signature does not match: another key signed it, or it was changed")]
    BadSignature,
    /// Was good until `expired_at_s`.
    #[error("expired at {expired_at_s} (Unix seconds); get a new one")]
    Expired {
        /// The token's `exp`.
        expired_at_s: u64,
    },
}

impl TokenError {
    /// What to answer in Error.
    #[must_use]
    pub const fn reason(self) -> fb::Reason {
        match self {
            Self::Expired { .. } => fb::Reason::ExpiredToken,
            _ => fb::Reason::BadToken,
        }
    }

    /// What to close with.
    #[must_use]
    pub const fn close_code(self) -> crate::close::CloseCode {
        match self {
            Self::Expired { .. } => crate::close::CloseCode::EXPIRED_TOKEN,
            _ => crate::close::CloseCode::BAD_TOKEN,
        }
    }
}

/// A token for these claims. Control characters leave the name, and it is cut to [`NAME_BYTES_MAX`], so that a
/// token never exceeds [`TOKEN_BYTES_MAX`].
#[must_use]
pub fn mint(claims: &Claims, key: &Key) -> String {
    debug_assert!(claims.role.name().is_some());
    let mut claims = claims.clone();
    claims.name.retain(|c| !c.is_control());
    claims
        .name
        .truncate(claims.name.floor_char_boundary(NAME_BYTES_MAX));
    let body = serde_json::to_vec(&claims).expect("invariant: claims are strings and numbers");
    let mut token = String::with_capacity(TOKEN_BYTES_MAX);
    token.push_str(HEADER);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(body, &mut token);
    let signature = key
        .mac()
        .chain_update(token.as_bytes())
        .finalize()
        .into_bytes();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// The claims of a token that this key signed and that has not expired at `now_s` (seconds since the Unix epoch).
/// The signatures are compared in constant time.
///
/// # Errors
/// See [`TokenError`].
pub fn verify(token: &str, key: &Key, now_s: u64) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong(token.len()));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let body = signed
        .strip_prefix(HEADER)
        .and_then(|rest| rest.strip_prefix('.'))
        .ok_or(TokenError::Malformed)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Malformed)?;
    key.mac()
        .chain_update(signed.as_bytes())
        .verify_slice(&signature)
        .map_err(|_| TokenError::BadSignature)?;
    let body = URL_SAFE_NO_PAD
        .decode(body)
        .map_err(|_| TokenError::Malformed)?;
    let claims: Claims = serde_json::from_slice(&body).map_err(|_| TokenError::Malformed)?;
    if claims.exp <= now_s {
        return Err(TokenError::Expired {
            expired_at_s: claims.exp,
        });
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn claims() -> Claims {
        Claims {
            sub: Id(0x0193_4567_89ab_7cde_8f01_2345_6789_abcd),
            role: fb::Role::Visitor,
            wid: 1,
            name: "访客 8812".into(),
            sid: 1,
            iat: 1_732_000_000,
            exp: 1_732_086_400,
        }
    }

    #[test]
    fn rfc_7519_3_1_the_header_is_the_one_that_every_reader_expects() {
        assert_eq!(
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            HEADER
        );
    }

    #[test]
    fn a_minted_token_is_verified_until_it_expires() {
        let token = mint(&claims(), &key());
        assert_eq!(verify(&token, &key(), 1_732_086_399), Ok(claims()));
        assert_eq!(
            verify(&token, &key(), 1_732_086_400),
            Err(TokenError::Expired {
                expired_at_s: 1_732_086_400
            })
        );
    }

    #[test]
    fn another_key_does_not_verify() {
        let token = mint(&claims(), &Key::new([8; 32]));
        assert_eq!(verify(&token, &key(), 0), Err(TokenError::BadSignature));
    }

    #[test]
    fn no_single_changed_character_goes_unnoticed() {
        let token = mint(&claims(), &key());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert!(verify(&forged, &key(), 0).is_err(), "at {at}");
        }
    }

    #[test]
    fn alg_none_is_refused_before_anything_is_read() {
        let body = token_part(
            r#"{"sub":"00000000000000000000000000000001","role":"supervisor","iat":0,"exp":99}"#,
        );
        let none = token_part(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(
            verify(&format!("{none}.{body}."), &key(), 0),
            Err(TokenError::Malformed)
        );
        assert_eq!(verify("", &key(), 0), Err(TokenError::Malformed));
        assert_eq!(verify("..", &key(), 0), Err(TokenError::Malformed));
        assert_eq!(
            verify(&"a".repeat(5000), &key(), 0),
            Err(TokenError::TooLong(5000))
        );
    }

    #[test]
    fn the_longest_name_leaves_the_token_within_its_limit() {
        // A quote costs two bytes in JSON, and base64 a third more.
        let name = format!("\u{1}{}", "\"".repeat(500));
        let token = mint(&Claims { name, ..claims() }, &key());
        assert_eq!(
            verify(&token, &key(), 0).expect("fits").name,
            "\"".repeat(NAME_BYTES_MAX)
        );
    }

    #[test]
    fn a_key_file_gives_its_key_back() {
        assert_eq!(
            Key::from_hex(&format!(" {}\n", key().to_hex())),
            Some(key())
        );
        assert_eq!(Key::from_hex("07"), None);
        assert_eq!(format!("{:?}", key()), "Key(…)");
    }

    fn token_part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }
}
