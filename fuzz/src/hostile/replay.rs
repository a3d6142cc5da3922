//! What was overheard, said again: a bearer's token can't be told from its copy, so a copy gains no second place, and
//! no message is taken twice.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::Value;
use tidegate_bench::socket::{Socket, TEXT};

use super::target::Target;

const SUPERSEDED: u16 = 4501;
const PERSON: u128 = 0x4e91a;
const SEND: &str = r#"{"kind":"send","n":1,"text":"overheard"}"#;

/// Replays a Hello and a Send: the older connection ends with 4501, the send is `duplicate` with its first seq.
///
/// # Errors
/// It was not so.
pub fn replay(target: &Target) -> anyhow::Result<()> {
    let hello = target.tokens().context("a chat")?.hello(PERSON);
    let (mut first, accepted) = say(target.ws, &hello)?;
    ensure!(
        accepted["outcome"] == "accepted",
        "expected accepted, found {accepted}"
    );
    let (second, repeated) = say(target.ws, &hello)?;
    ensure!(
        repeated["outcome"] == "duplicate" && repeated["seq"] == accepted["seq"],
        "expected duplicate of {accepted}, found {repeated}"
    );
    let code = first.until_closed()?;
    ensure!(
        code == SUPERSEDED,
        "expected {SUPERSEDED} for the older connection, found {code}"
    );
    drop(second);
    Ok(())
}

struct Listener(Socket);

impl Listener {
    fn until_closed(&mut self) -> io::Result<u16> {
        let mut payload = Vec::new();
        loop {
            if self.0.receive(&mut payload)? == 8 {
                let code = payload.first_chunk().copied().unwrap_or_default();
                return Ok(u16::from_be_bytes(code));
            }
        }
    }
}

/// Says both on a fresh connection; what became of the send.
fn say(server: SocketAddr, hello: &str) -> io::Result<(Listener, Value)> {
    let mut socket = Socket::open(server, None)?;
    socket.send(TEXT, hello.as_bytes())?;
    socket.send(TEXT, SEND.as_bytes())?;
    let mut payload = Vec::new();
    loop {
        if socket.receive(&mut payload)? == 8 {
            return Err(io::Error::other("closed before the answer"));
        }
        let envelopes = match serde_json::from_slice(&payload) {
            Ok(Value::Array(batch)) => batch,
            Ok(one) => vec![one],
            Err(_) => Vec::new(),
        };
        if let Some(result) = envelopes
            .into_iter()
            .find(|one| one["kind"] == "send_result")
        {
            return Ok((Listener(socket), result));
        }
    }
}
