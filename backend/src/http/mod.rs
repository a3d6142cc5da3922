//! HTTP for people and business systems.

pub mod origin;
