//! Questions with numbers about Tidegate. Each question is a file: what is asked, how the answer is checked, who
//! saturated first. Loads for few connections and exact timing are plain blocking sockets ([`socket`]); crowds are
//! made of [`client`].

pub mod client;
pub mod dribble;
pub mod latency;
pub mod server;
pub mod slow_reader;
pub mod socket;
