//! Stories of the engine.
