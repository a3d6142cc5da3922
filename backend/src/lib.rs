//! Tidegate backend: the live-chat domain.
