//! Trials of the real processes: each breaks something in a running Tidegate, and measures what its users see of it.
//!
//! A trial is one file with one function, and one line in [`TRIALS`]. It fails with an error that says what was
//! expected and what was found; what it measured it leaves as figures, which `fuzz/README.md` quotes with the command
//! that prints them. `scripts/faults` builds what the trials need and runs them.

mod backlogs;
mod churn;
mod clock_stepped;
mod descriptor_limit;
mod far_crowd;
mod fdatasync;
mod field_trial;
mod hostile_peers;
mod kill_at_points;
mod kills;
mod offline_million;
mod poison;
mod power_cut;
mod recover_connections;
mod recover_conversations;
mod restart_loop;
mod ring_full;
mod rings_full_both_ways;
mod stand;
mod stop_backend;
mod stop_gateway;
mod store_disk;
mod store_faults;
mod takeover;
mod terminate_under_load;
mod waiting;

pub use far_crowd::play as play_far_crowd;
pub use stand::{Scale, Stand};

/// One trial.
#[derive(Clone, Copy)]
pub struct Trial {
    /// What a person types.
    pub name: &'static str,
    /// What it proves, in one sentence.
    pub promise: &'static str,
    /// Runs it; an error is a promise broken.
    pub run: fn(&mut Stand) -> anyhow::Result<()>,
}

/// Every trial, sorted by name.
pub static TRIALS: &[Trial] = &[
    Trial {
        name: "backlogs",
        promise: "a backlog of any length comes contiguous, or it is said what does not: never a silent gap",
        run: backlogs::run,
    },
    Trial {
        name: "churn",
        promise: "2,000 people who come and go leave memory and descriptors as they were",
        run: churn::run,
    },
    Trial {
        name: "clock-stepped",
        promise: "a wall clock that is stepped an hour both ways is noticed by nobody",
        run: clock_stepped::run,
    },
    Trial {
        name: "descriptor-limit",
        promise: "without a descriptor left accepting pauses at little cost, and goes on when there is room",
        run: descriptor_limit::run,
    },
    Trial {
        name: "fdatasync-before-acks",
        promise: "under synchronous = full an fsync of the log stands before every acknowledgement",
        run: fdatasync::run,
    },
    Trial {
        name: "field-trial",
        promise: "3,000 clients send 8 KiB without pause, kill -9, 500,000 junk envelopes: nothing lost, p99 at most 200 ms",
        run: field_trial::run,
    },
    Trial {
        name: "hostile-peers",
        promise: "every attack ends in its status, code or timeout, and a healthy pair chats on",
        run: hostile_peers::run,
    },
    Trial {
        name: "kill-at-points",
        promise: "death at any named point of the turn and of the rings loses, doubles and disorders nothing",
        run: kill_at_points::run,
    },
    Trial {
        name: "kill-backend",
        promise: "kill -9 of the backend at random loses, doubles and disorders nothing",
        run: kills::backend,
    },
    Trial {
        name: "kill-both",
        promise: "kill -9 of backend and gateway together loses, doubles and disorders nothing",
        run: kills::both,
    },
    Trial {
        name: "kill-gateway",
        promise: "kill -9 of the gateway at random loses, doubles and disorders nothing",
        run: kills::gateway,
    },
    Trial {
        name: "offline-million",
        promise: "while 1,000,000 messages wait for the offline, new sends' p99 is at most 1.2 times that of an empty system",
        run: offline_million::run,
    },
    Trial {
        name: "poison-inputs",
        promise: "an input that breaks the backend is put aside after two tries, and everybody else goes on",
        run: poison::run,
    },
    Trial {
        name: "power-cut",
        promise: "after a power cut under normal every client is told of another history; under full nothing is lost",
        run: power_cut::run,
    },
    Trial {
        name: "recover-connections",
        promise: "with 100,000 live connections all are announced and served within 5 s of a kill; chats keep p99 under 500 ms",
        run: recover_connections::run,
    },
    Trial {
        name: "recover-conversations",
        promise: "with 10,000 open conversations the backend is ready again within 2 s after kill -9",
        run: recover_conversations::run,
    },
    Trial {
        name: "restart-loop",
        promise: "backend and gateway killed as soon as they are ready start again each time, and leave nothing to clean",
        run: restart_loop::run,
    },
    Trial {
        name: "ring-full",
        promise: "while the ring is full sends are held, then refused busy, pings are answered, and nothing is lost",
        run: ring_full::run,
    },
    Trial {
        name: "rings-full-both-ways",
        promise: "two gateways whose rings are full both ways do not wait for each other, and a third chats on",
        run: rings_full_both_ways::run,
    },
    Trial {
        name: "stop-backend",
        promise: "while the backend is stopped pings are answered, and afterwards every send",
        run: stop_backend::run,
    },
    Trial {
        name: "stop-gateway",
        promise: "while one gateway of two is stopped the people of the other notice nothing",
        run: stop_gateway::run,
    },
    Trial {
        name: "store-damaged",
        promise: "a damaged database is refused with code 78 and what to do",
        run: store_disk::damaged,
    },
    Trial {
        name: "store-disk-full",
        promise: "on a full disk nothing is acknowledged, and all goes on within two seconds of room",
        run: store_disk::full,
    },
    Trial {
        name: "store-locked",
        promise: "beside somebody else's lock nothing is acknowledged, and all goes on within two seconds of its end",
        run: store_disk::locked,
    },
    Trial {
        name: "store-write-faults",
        promise: "a write or sync of the store that fails is a retry or a restart, never an acknowledgement",
        run: store_faults::run,
    },
    Trial {
        name: "takeover",
        promise: "a newer program takes over with all chats open: no connect refused, all resumed within 10 s",
        run: takeover::run,
    },
    Trial {
        name: "terminate-under-load",
        promise: "SIGTERM tells everybody, ends within 5 s and loses nothing",
        run: terminate_under_load::run,
    },
];
