//! (the HTTP client)
