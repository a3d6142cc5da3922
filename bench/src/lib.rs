//! Questions with numbers about Tidegate. Each question is a file: what is asked, how the answer is checked, who
//! saturated first. The loads here are plain blocking sockets; they are for few connections and exact timing.

pub mod dribble;
pub mod latency;
pub mod server;
pub mod slow_reader;
pub mod socket;
