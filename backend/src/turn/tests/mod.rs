//! Stories of the turn over real rings and the real store, stepped by hand in virtual time.

mod bot;
mod chat;
mod delivery;
mod double;
mod failures;
mod moderation;
mod reconnects;
mod replay;
mod restarts;
mod retention;
mod rooms;
mod stage;
mod storms;
mod synthetic;
mod translation;
