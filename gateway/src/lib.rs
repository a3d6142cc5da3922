//! Tidegate gateway: sockets in, ring out; ring in, sockets out.
