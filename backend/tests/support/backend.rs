//! (the HTTP fixture)
