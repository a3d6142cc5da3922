//! Stories of one shard's chat: the real rings, a scripted backend at their other end, sockets that only remember.
//! Time stands still unless a story moves it.

mod admission;
mod backend_restart;
mod full_ring;
mod hello;
mod liveness;
mod outbound;
mod stage;
mod storm;
