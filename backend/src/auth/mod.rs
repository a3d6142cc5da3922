//! Who somebody is: passwords of agents, the key that signs tokens, and how often one may try.
//!
//! - [`token_key`]: the file with the key, made at the first start
//! - [`password`]: argon2id, off the turn's thread and a few at a time
//! - [`rate_limit`]: bounded tables of who tried how often
//! - [`random`]: the operating system's randomness

pub mod password;
pub mod random;
pub mod rate_limit;
pub mod token_key;

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Instant, UNIX_EPOCH};

use tidegate_protocol::token::Key;

use crate::store::StoreError;

/// The key that signs and verifies tokens, for those who do not make it: gateways and commands.
///
/// # Errors
/// A sentence: there is no such file, others may read it, or it holds no key.
pub fn token_key(path: &Path) -> Result<Key, StoreError> {
    token_key::load(path)?.ok_or_else(|| {
        StoreError::Refused(format!(
            "there is no token key at {}: start the backend once",
            path.display()
        ))
    })
}

/// The machine's wall clock, µs since the Unix epoch; for tokens and file stamps. Messages carry the turn's time,
/// which never steps back.
#[must_use]
pub fn now_us() -> u64 {
    let since = shm_bus::fault::wall_clock()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// µs since this process first asked: for waiting times. A wall clock that was set back an hour would make everybody
/// whose tries were used up wait for that hour.
#[must_use]
pub fn elapsed_us() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let since = BEGAN.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The same in seconds.
#[must_use]
pub fn now_s() -> u64 {
    now_us() / 1_000_000
}
