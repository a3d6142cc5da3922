//! Tidegate backend: the live-chat domain.
//!
//! Modules in the order in which a message meets them:
//!
//! - [`bus`]: records out of the rings, records into them, who is connected where
//! - [`turn`]: take what is there, apply, commit, publish, release
//! - [`engine`]: the rules, pure: `apply(now, input)` gives effects and a [`engine::write_set::WriteSet`]
//! - [`journal`]: the inputs of the turn, written down so that they can be applied again
//! - [`store`]: what is kept
//! - [`app`]: how the parts are wired, and what HTTP may ask of the turn

pub mod admin;
pub mod app;
pub mod auth;
pub mod bus;
pub mod config;
pub mod engine;
pub mod http;
pub mod journal;
pub mod store;
pub mod turn;

pub use app::run::{Shutdown, StartError, run};
pub use config::Config;
