//! The questions. Each is a file: what is asked, how the answer is checked, who saturated first.

pub mod chat;
pub mod echo;
