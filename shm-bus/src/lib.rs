//! A crash-safe bus of memory-mapped rings between a gateway and a backend process.
