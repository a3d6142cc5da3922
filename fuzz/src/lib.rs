//! Everything that hunts for bugs in Tidegate.
//!
//! The bodies of the fuzz targets, with what they assert, live in the libraries that they test; this crate feeds
//! them: [`mutate`] on stable Rust, from the golden vectors, by seed; `targets` under libFuzzer (`scripts/fuzz`), from
//! the inputs that [`packed`] keeps.

pub mod corpus;
pub mod hostile;
pub mod mutate;
pub mod packed;
pub mod procfs;
pub mod rig;
pub mod simulator;
pub mod trials;

/// Every body of every library, by the name of its target.
pub fn bodies() -> impl Iterator<Item = (&'static str, mutate::Body)> {
    let libraries = [
        tidegate_protocol::fuzzing::BODIES,
        shm_bus::fuzzing::BODIES,
        tidegate_gateway::fuzzing::BODIES,
        tidegate_backend::fuzzing::BODIES,
        tidegate_settings::fuzzing::BODIES,
    ];
    libraries.into_iter().flatten().copied()
}
