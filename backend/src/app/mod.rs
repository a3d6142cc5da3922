//! How the parts are wired, and what the rest of the process (HTTP) may ask of the turn.

pub use crate::engine::command;

pub mod handle;
pub mod live_view;
mod pace;
pub mod pages;
pub mod run;
