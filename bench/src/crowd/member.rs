//! One of a crowd: a client, its socket, and where it comes from.

use std::net::Ipv4Addr;

use super::socket::Socket;
use crate::client::{Client, NEVER};

/// Members that share one source address, like an office: few enough that its ports never run out.
pub const OFFICE: u32 = 250;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) client: Client,
    pub(super) address: Ipv4Addr,
    pub(super) socket: Option<Socket>,
    /// How many sockets it has had.
    pub(super) stamp: u32,
    /// The earliest entry for it in the crowd's heap.
    pub(super) armed_us: u64,
    pub(super) number: u32,
    /// It stands in the list of those whose output waits.
    pub(super) is_unwritten: bool,
    /// It does not read.
    pub(super) deaf: bool,
}

impl Member {
    pub(super) fn new(client: Client, number: u32, first_office: u32) -> Self {
        let office = first_office + number / OFFICE + 1;
        let [_, second, third, fourth] = office.to_be_bytes();
        Self {
            client,
            address: Ipv4Addr::new(127, second | 1, third, fourth.max(1)),
            socket: None,
            stamp: 0,
            armed_us: NEVER,
            number,
            is_unwritten: false,
            deaf: false,
        }
    }
}
