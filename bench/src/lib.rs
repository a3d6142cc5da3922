//! Questions with numbers about Tidegate. Each question is a file: what is asked, how the answer is checked, who
//! saturated first. Many connections that send alike are [`load`]; few with exact timing are plain blocking sockets
//! ([`socket`]); [`crowd`]s of people are made of [`client`]s.
//!
//! The modules stand in the order in which a run meets them.

pub mod bench; //     what every question gets and gives back
pub mod command; //   `tidegate bench QUESTION`
pub mod dialogue; //  with a process of the load: orders and reports
pub mod kernel; //    memory and counters of the kernel
pub mod load; //      many connections over several processes
pub mod machine; //   where, when, from which source
pub mod peers; //     the servers beside which ours runs
pub mod process; //   servers and helpers as child processes: cores, CPU time, memory
pub mod progress;
pub mod questions;
pub mod record; //    what scripts/bench keeps, and the README's table of it
pub mod report; //    tables, plots, checks; as text, JSON, HTML
pub mod target; //    ws:// URLs
pub mod uring; //     the io_uring under the load and the bare echo

pub mod client;
pub mod corpus;
pub mod crowd;
pub mod dribble;
pub mod latency;
pub mod rest;
pub mod server;
pub mod slow_reader;
pub mod socket;
pub mod steps; //    the steps of a message's way, each alone
pub mod system;
pub mod visitors;
