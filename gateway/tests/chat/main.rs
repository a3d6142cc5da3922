//! A real gateway, real sockets, the real bus, and a scripted backend at its other end: stories of what people and
//! their messages meet.

#[path = "../support/mod.rs"]
mod support;

mod backend_restart;
mod bus_echo;
mod full_ring;
mod room;
mod round_trip;
