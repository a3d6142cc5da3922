//! The operating system's randomness.

use std::io;

use tidegate_protocol::Id;

/// Fills a buffer.
///
/// # Errors
/// If the system has none to give.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    getrandom::fill(buffer)
        .map_err(|error| io::Error::other(format!("no randomness from the system: {error}")))
}

/// A number.
///
/// # Errors
/// As [`fill`].
pub fn u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A new id of this moment.
///
/// # Errors
/// As [`fill`].
pub fn id() -> io::Result<Id> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Id::new(super::now_us() / 1_000, u128::from_le_bytes(bytes)))
}
