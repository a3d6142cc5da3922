//! A moderation worker on one page: takes the seat of a worker's bus, answers each question, sleeps when there is none.
//! Texts with `forbidden` are refused, `secret` is starred out, everything else is allowed.
//!
//! ```text
//! cargo run -p tidegate-shm-bus --example moderation_worker -- /dev/shm/tidegate-…/moderation
//! ```
//!
//! The records are specified in Tidegate's backend/src/workers/question.rs.

use std::{error::Error, time::Duration};

use shm_bus::{
    AttachedGateway, BackendSeat, BusDirectory, Claimed, Read, RecordCopy, RecordHeader, ShardPorts,
};

/// What the records mean.
const WORKER_PROTOCOL: u32 = 1;
const QUESTION: u16 = 1;
const ANSWER: u16 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: moderation_worker DIRECTORY")?;
    serve(&path)
}

/// Answers until the bus is gone.
pub fn serve(path: &str) -> Result<(), Box<dyn Error>> {
    let bus = BusDirectory::open_or_create(path)?;
    let mut seat = BackendSeat::take_for(&bus, WORKER_PROTOCOL)?;
    let (mut askers, mut copy): (Vec<AttachedGateway>, _) = (Vec::new(), RecordCopy::default());
    loop {
        for instance in seat.discover()? {
            askers.push(seat.attach(instance)?);
        }
        // Ask first, answer then: what an asker published before it died is all there once it is known to be dead.
        let dead: Vec<bool> = askers.iter().map(|asker| !asker.is_alive()).collect();
        for ports in askers.iter_mut().flat_map(|asker| &mut asker.shards) {
            answer_all(ports, &mut copy)?;
        }
        let mut was_dead = dead.into_iter();
        for asker in askers.extract_if(.., |_| was_dead.next() == Some(true)) {
            asker.unlink()?;
        }
        seat.bell().prepare();
        let mut rings = askers.iter_mut().flat_map(|asker| &mut asker.shards);
        if rings.all(|ports| ports.to_backend.is_empty()) {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
        if !bus.is_at_its_path() {
            return Ok(());
        }
    }
}

fn answer_all(ports: &mut ShardPorts, copy: &mut RecordCopy) -> Result<(), Box<dyn Error>> {
    while let Read::Record(header) = ports.to_backend.next(copy) {
        if header.kind == QUESTION
            && let Some(answer) = copy.payload().get(24..).map(answer)
            && let Claimed::Claimed(mut claim) = ports.to_gateway.claim(answer.len())?
        {
            claim.payload_mut().copy_from_slice(&answer);
            claim.commit(RecordHeader {
                kind: ANSWER,
                trace: header.trace,
                ..RecordHeader::default()
            });
        }
        // Without room for the answer the text gets Tidegate's default.
        ports.to_backend.release_to(ports.to_backend.position());
    }
    ports.to_gateway.ring();
    Ok(())
}

/// An answer's payload: verdict, three zeros, length, text.
fn answer(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let (verdict, said) = if text.contains("forbidden") {
        (1, "not in this shop".to_owned())
    } else if text.contains("secret") {
        (2, text.replace("secret", "******"))
    } else {
        (0, String::new())
    };
    let bytes = u32::try_from(said.len()).expect("a text is short");
    let mut payload = vec![verdict, 0, 0, 0];
    payload.extend_from_slice(&bytes.to_le_bytes());
    payload.extend_from_slice(said.as_bytes());
    payload
}
