//! Many processes start at once; one backend gets the seat, every gateway its segment, and nothing is left behind.

#![cfg(not(miri))]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::collections::BTreeSet;

use shm_bus::{BackendSeat, BusDirectory, GatewaySegment, SeatError};
use stage::{Actor, Stage, instance, listen, part, say, small};

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((part, bus)) = part() else { return };
    say("ready");
    listen();
    match part.as_str() {
        "backend" => match BackendSeat::take(&bus) {
            Ok(seat) => {
                say(format_args!("owner {}", seat.instance()));
                listen();
            }
            Err(SeatError::Taken { pid, .. }) => say(format_args!("refused by {pid}")),
            Err(other) => say(other),
        },
        "gateway" => {
            let segment = GatewaySegment::create(&bus, &small()).unwrap();
            say(segment.instance());
            listen();
        }
        "opener" => {
            let path = bus.path().with_extension(listen());
            let bus = BusDirectory::open_or_create(path).unwrap();
            say(bus.path().is_dir());
        }
        other => panic!("no such part: {other}"),
    }
}

/// Starts so many, and lets them go all at once.
fn race(stage: &Stage, part: &str, count: usize) -> Vec<Actor> {
    let mut actors: Vec<_> = (0..count).map(|_| stage.start(part)).collect();
    actors.iter().for_each(|actor| actor.expect("ready"));
    actors.iter_mut().for_each(|actor| actor.tell("go"));
    actors
}

#[test]
fn of_eight_backends_one_gets_the_seat_and_seven_are_refused_by_its_pid() {
    let stage = Stage::new();
    let mut before = 0;
    for _ in 0..3 {
        let mut actors = race(&stage, "backend", 8);
        let said: Vec<_> = actors.iter().map(Actor::hear).collect();
        let owners = said
            .iter()
            .filter(|said| said.starts_with("owner "))
            .count();
        assert_eq!(owners, 1, "{said:?}");
        let owner = said
            .iter()
            .position(|said| said.starts_with("owner "))
            .unwrap();
        let pid = actors[owner].pid();
        // A refusal may come before the owner has written its pid down: then it says the one before, or 0.
        let refusals = [pid, before, 0].map(|pid| format!("refused by {pid}"));
        assert_eq!(
            said.iter().filter(|said| refusals.contains(said)).count(),
            7,
            "{said:?}"
        );
        actors[owner].kill();
        before = pid;
    }
}

#[test]
fn eight_gateways_get_eight_segments() {
    let stage = Stage::new();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    for _ in 0..3 {
        let mut actors = race(&stage, "gateway", 8);
        let names: BTreeSet<_> = actors.iter().map(|actor| instance(&actor.hear())).collect();
        assert_eq!(names.len(), 8);
        let found = seat.discover().unwrap();
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), names);
        let attached: Vec<_> = found
            .iter()
            .map(|name| seat.attach(*name).unwrap())
            .collect();
        actors.iter_mut().for_each(Actor::kill);
        for gateway in attached {
            gateway.unlink().unwrap();
        }
    }
    assert_eq!(stage.bus_entries("gateway-"), [""; 0]);
}

#[test]
fn eight_openers_make_one_bus() {
    let stage = Stage::new();
    for round in 0..3 {
        let mut actors = race(&stage, "opener", 8);
        actors
            .iter_mut()
            .for_each(|actor| actor.tell(&format!("fresh-{round}")));
        actors.iter().for_each(|actor| actor.expect("true"));
        let path = stage.bus.path().with_extension(format!("fresh-{round}"));
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        let expected = [
            "backend.bell",
            "backend.lock",
            "control.backend.mem",
            "control.gateways.mem",
        ];
        assert_eq!(names, expected, "and no leavings");
    }
}
