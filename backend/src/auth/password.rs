//! Passwords of agents: argon2id, checked off the turn's thread and only a few at a time.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use super::random;

/// Memory of one check. With [`PASSES`] and one lane: OWASP's recommendation for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
const PASSES: u32 = 2;
/// Shortest password that is accepted.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest, so that hashing costs the same for all.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Checks that may wait for a place; more are told to come back.
const CHECKS_WAITING_MAX: usize = 64;
/// Letters and digits that cannot be mistaken for one another; 32 of them, so that a byte's low bits pick evenly.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why a password was not taken or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error(
        "a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
    )]
    Length,
    /// Too many checks wait.
    #[error("too many logins at once; try again")]
    Busy,
    /// The hash could not be made.
    #[error("hashing failed: {0}")]
    Failed(String),
}

fn argon2id() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None)
        .map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a new password; some 20 ms.
///
/// # Errors
/// Its length, or no randomness.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::Length);
    }
    let mut salt = [0; 16];
    random::fill(&mut salt).map_err(|error| PasswordError::Failed(error.to_string()))?;
    let hash = argon2id()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(hash.to_string())
}

/// Is it the password of that hash? A hash that does not parse has none.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    let (Ok(argon2id), Ok(hash)) = (argon2id(), PasswordHash::new(hash)) else {
        return false;
    };
    password.len() <= PASSWORD_BYTES_MAX
        && argon2id.verify_password(password.as_bytes(), &hash).is_ok()
}

/// A password to be told once: 16 characters, 80 bits.
///
/// # Errors
/// No randomness.
pub fn generate() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect())
}

/// Checks passwords on tokio's blocking threads, at most so many at once.
#[derive(Debug, Clone)]
pub struct Checker {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Hash of a password that nobody has: an unknown user costs the same time as a wrong password.
    nobody: Arc<str>,
}

impl Checker {
    /// At most `checks_max` at once.
    ///
    /// # Errors
    /// If not even one hash can be made.
    pub fn new(checks_max: usize) -> Result<Self, PasswordError> {
        let unknown = generate().map_err(|error| PasswordError::Failed(error.to_string()))?;
        Ok(Self {
            places: Arc::new(Semaphore::new(checks_max.max(1))),
            waiting: Arc::new(Semaphore::new(CHECKS_WAITING_MAX)),
            nobody: hash(&unknown)?.into(),
        })
    }

    /// Is it the password? `None`: there is no such user, and the answer takes as long.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when too many wait already.
    pub async fn check(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(PasswordError::Busy);
        };
        let Ok(_place) = self.places.acquire().await else {
            return Err(PasswordError::Busy);
        };
        let nobody = Arc::clone(&self.nobody);
        let checked = tokio::task::spawn_blocking(move || match hash {
            Some(hash) => verify(&password, &hash),
            None => {
                let _always_wrong = verify(&password, &nobody);
                false
            }
        });
        checked
            .await
            .map_err(|error| PasswordError::Failed(error.to_string()))
    }

    /// Hashes a new password in the same places.
    ///
    /// # Errors
    /// As [`hash`], and [`PasswordError::Busy`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        let Ok(_place) = self.places.acquire().await else {
            return Err(PasswordError::Busy);
        };
        let hashed = tokio::task::spawn_blocking(move || hash(&password));
        hashed
            .await
            .map_err(|error| PasswordError::Failed(error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_argon2id_and_knows_its_password_only() {
        let hashed = hash("correct horse").unwrap();
        assert!(
            hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashed}"
        );
        assert!(verify("correct horse", &hashed));
        assert!(!verify("correct horsf", &hashed));
        assert!(!verify("correct horse", "no hash"));
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(matches!(hash("short"), Err(PasswordError::Length)));
        assert!(matches!(
            hash(&"x".repeat(PASSWORD_BYTES_MAX + 1)),
            Err(PasswordError::Length)
        ));
    }

    #[test]
    fn generated_passwords_differ() {
        assert_ne!(generate().unwrap(), generate().unwrap());
        assert_eq!(generate().unwrap().len(), 16);
    }

    #[tokio::test]
    async fn an_unknown_user_is_checked_and_refused() {
        let checker = Checker::new(1).unwrap();
        assert!(!checker.check("whatever".to_owned(), None).await.unwrap());
    }
}
