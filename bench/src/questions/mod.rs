//! The questions. Each is a file: what is asked, how the answer is checked, who saturated first.

pub mod bus;
pub mod bytes;
pub mod chat;
pub mod echo;
pub mod idle;
pub mod parse;
pub mod places;
pub mod scenarios;
pub mod storm;
pub mod stress;
pub mod subject;
