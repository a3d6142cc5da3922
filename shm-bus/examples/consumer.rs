//! A backend in 40 lines: takes the seat, attaches to every gateway, prints what comes, sleeps when nothing does.
//!
//! ```text
//! cargo run -p tidegate-shm-bus --example consumer -- /dev/shm/my-bus
//! ```

use std::{error::Error, time::Duration};

use shm_bus::{BackendSeat, BusDirectory, Read, RecordCopy};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which bus directory?")?;
    let mut seat = BackendSeat::take(&BusDirectory::open_or_create(path)?)?;
    println!("backend {} waits for gateways", seat.instance());
    let (mut gateways, mut copy) = (Vec::new(), RecordCopy::default());
    loop {
        for instance in seat.discover()? {
            let gateway = seat.attach(instance)?;
            println!("gateway {instance}: pid {}", gateway.pid());
            gateways.push(gateway);
        }
        // Ask first, drain then: what a gateway published before it died is all there once it is known to be dead.
        let dead: Vec<bool> = gateways.iter().map(|gateway| !gateway.is_alive()).collect();
        for ports in gateways.iter_mut().flat_map(|gateway| &mut gateway.shards) {
            while let Read::Record(header) = ports.to_backend.next(&mut copy) {
                let (shard, bytes) = (ports.shard, copy.payload().len());
                println!("shard {shard}: kind {}, {bytes} bytes", header.kind);
            }
            // A real backend commits here, and only then gives the room back.
            ports.to_backend.release_to(ports.to_backend.position());
        }
        let mut dead = dead.into_iter();
        for gone in gateways.extract_if(.., |_| dead.next() == Some(true)) {
            let instance = gone.instance();
            gone.unlink()?;
            println!("gateway {instance}: gone");
        }
        seat.bell().prepare();
        let mut shards = gateways.iter_mut().flat_map(|gateway| &mut gateway.shards);
        if shards.all(|ports| ports.to_backend.is_empty()) {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
    }
}
