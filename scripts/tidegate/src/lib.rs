//! What the one binary reads before it does anything: the settings, and how it logs. A library, so that everything that
//! hunts for bugs reaches it.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod logging;
pub mod settings;
