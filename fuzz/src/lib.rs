//! Everything that hunts for bugs in Tidegate.
