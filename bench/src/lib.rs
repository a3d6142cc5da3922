//! Questions with numbers about Tidegate.
