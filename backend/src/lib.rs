#![doc = include_str!("../README.md")]

pub mod admin;
pub mod admission;
pub mod app;
pub mod auth;
pub mod bus;
pub mod config;
pub mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod http;
pub mod journal;
pub mod store;
pub mod turn;
pub mod workers;

pub use app::pages::run_pages;
pub use app::run::{Shutdown, StartError, run};
pub use config::Config;
