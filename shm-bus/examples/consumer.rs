//! A backend on one page: takes the seat, attaches to every gateway, prints what comes, sleeps when nothing does.
//!
//! ```text
//! cargo run -p tidegate-shm-bus --example consumer -- /dev/shm/my-bus
//! ```

use std::{error::Error, time::Duration};

use shm_bus::{AttachedGateway, BackendSeat, BusDirectory, Read, RecordCopy};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: consumer BUS_DIRECTORY")?;
    let bus = BusDirectory::open_or_create(path)?;
    let mut seat = BackendSeat::take(&bus)?;
    println!(
        "backend {} waits for gateways on {}",
        seat.instance(),
        bus.path().display()
    );
    let (mut gateways, mut copy): (Vec<AttachedGateway>, _) = (Vec::new(), RecordCopy::default());
    loop {
        for instance in seat.discover()? {
            let gateway = seat.attach(instance)?;
            println!(
                "gateway {instance}: pid {}, {} shards",
                gateway.pid(),
                gateway.shards.len()
            );
            gateways.push(gateway);
        }
        // Ask first, drain then: what a gateway published before it died is all there once it is known to be dead.
        let dead: Vec<bool> = gateways.iter().map(|gateway| !gateway.is_alive()).collect();
        for ports in gateways.iter_mut().flat_map(|gateway| &mut gateway.shards) {
            while let Read::Record(header) = ports.to_backend.next(&mut copy) {
                let (shard, kind, slot) = (ports.shard, header.kind, header.slot);
                println!(
                    "shard {shard}: kind {kind}, slot {slot}, {} bytes",
                    copy.payload().len()
                );
            }
            // A real backend commits here, and only then gives the room back.
            ports.to_backend.release_to(ports.to_backend.position());
        }
        let mut was_dead = dead.into_iter();
        for gateway in gateways.extract_if(.., |_| was_dead.next() == Some(true)) {
            let instance = gateway.instance();
            gateway.unlink()?;
            println!("gateway {instance}: gone");
        }
        seat.bell().prepare();
        if gateways
            .iter_mut()
            .flat_map(|gateway| &mut gateway.shards)
            .all(|ports| ports.to_backend.is_empty())
        {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
    }
}
