//! Locks that die with their process.
