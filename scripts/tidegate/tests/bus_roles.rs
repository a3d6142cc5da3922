//! Who may have which role on a bus, with whole processes: one backend, gateways of its release, and a sentence for all
//! others that names who is in the way.

mod stage;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use shm_bus::{BackendSeat, BusDirectory, GatewaySegment, SegmentOptions};
use stage::{Stage, command, directory, eventually};
use tempfile::TempDir;
use tidegate_protocol::bus::BUS_PROTOCOL;

/// What a process ends with that another start would not help.
const EXIT_UNUSABLE: i32 = 78;

/// A bus, and data directories of several processes that want a role on it.
struct Ground {
    directory: TempDir,
    bus: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let directory = directory();
        let bus = directory.path().join("bus");
        Self { directory, bus }
    }

    /// `tidegate` on a data directory of this name.
    fn process(&self, data: &str, role: &str) -> Command {
        let data = self.directory.path().join(data);
        if role == "gateway" {
            let (secrets, key) = (data.join("secrets"), data.join("secrets/token.key"));
            fs::create_dir_all(&secrets).expect("the directory is ours");
            fs::write(&key, "5a".repeat(32)).expect("the directory is ours");
            for (path, mode) in [(&data, 0o700), (&secrets, 0o700), (&key, 0o600)] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
            }
        }
        let mut command = command(self.directory.path());
        command
            .arg("--data-dir")
            .arg(data)
            .arg(role)
            .env("TIDEGATE_BUS_DIR", &self.bus)
            .env("TIDEGATE_BACKEND__HTTP_LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_GATEWAY__SHARDS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if role == "gateway" {
            command.env("TIDEGATE_GATEWAY__ADMIN_LISTEN", "127.0.0.1:0");
        }
        command
    }

    /// Waits until a backend serves the bus.
    fn backend_pid(&self) -> u32 {
        eventually("a backend", || {
            let bus = BusDirectory::open(&self.bus).ok()?;
            let control = shm_bus::Control::observe(&bus).ok()?;
            Some(control.backend_pid())
                .filter(|pid| *pid != 0 && control.backend_heartbeat_us() > 0)
        })
    }
}

/// A process that is ended with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the binary starts"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_some()
    }

    /// Waits for the end; exit code and what it said.
    fn output(mut self) -> (Option<i32>, String) {
        eventually("the end of a process", || self.has_ended().then_some(()));
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said).expect("a pipe");
        }
        (self.0.wait().expect("it ended").code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_backend_is_refused_by_the_firsts_pid_and_the_first_goes_on() {
    let stage = Stage::start();
    let first = stage.pids("backend")[0];
    let bus = stage.bus();
    // On the same data directory, and on another one with the same bus.
    let same = command(stage.directory.path())
        .arg("backend")
        .output()
        .expect("runs");
    assert_eq!(same.status.code(), Some(EXIT_UNUSABLE), "{}", said(&same));
    assert!(
        said(&same).contains("already uses the data directory"),
        "{}",
        said(&same)
    );
    let ground = Ground {
        directory: directory(),
        bus,
    };
    let other = ground.process("other", "backend").output().expect("runs");
    assert_eq!(other.status.code(), Some(EXIT_UNUSABLE), "{}", said(&other));
    let sentence = format!(
        ": a backend already holds this bus (pid {first}); stop it (kill {first}), or start this"
    );
    assert!(said(&other).contains(&sentence), "{}", said(&other));
    assert_eq!(stage.pids("backend"), [first]);
    let mut visitor = stage::people::Person::visitor(&stage, "00000000000000a1");
    assert_eq!(visitor.say("still served", None)["outcome"], "accepted");
}

/// Of eight backends that start at once, one runs and seven end with a sentence. Returns the one.
fn race(ground: &Ground, data: impl Fn(usize) -> String, refusal: &str) -> Running {
    let mut starters: Vec<Running> = (0..8)
        .map(|n| Running::start(&mut ground.process(&data(n), "backend")))
        .collect();
    eventually("seven refusals", || {
        let ended = starters
            .iter_mut()
            .filter_map(|it| it.has_ended().then_some(()))
            .count();
        (ended >= 7).then_some(())
    });
    let mut owner = None;
    for mut starter in starters {
        if starter.has_ended() {
            let (code, said) = starter.output();
            assert_eq!(code, Some(EXIT_UNUSABLE), "{said}");
            assert!(
                said.contains(refusal) && !said.contains("panicked"),
                "{said}"
            );
        } else {
            assert!(owner.replace(starter).is_none(), "two of them run");
        }
    }
    let mut owner = owner.expect("one of eight runs");
    eventually("the one to serve", || {
        (ground.backend_pid() == owner.0.id()).then_some(())
    });
    assert!(!owner.has_ended());
    owner
}

#[test]
fn of_eight_starters_on_one_bus_one_runs_and_seven_are_refused_cleanly() {
    let ground = Ground::new();
    for _ in 0..2 {
        // Killed with -9: the next race has an owner again, and nothing to clean.
        drop(race(
            &ground,
            |n| format!("data-{n}"),
            "a backend already holds this bus (pid ",
        ));
    }
}

#[test]
fn of_eight_starters_on_one_data_directory_one_runs_and_seven_are_refused_cleanly() {
    let ground = Ground::new();
    drop(race(
        &ground,
        |_| "data".to_owned(),
        "already uses the data directory",
    ));
}

/// The bus protocol of some other release.
const STRANGE: u32 = 999;

fn strange_gateway(bus: &BusDirectory) -> GatewaySegment {
    let options = SegmentOptions {
        protocol: STRANGE,
        build: "tidegate gateway 9.9".to_owned(),
        ..SegmentOptions::default()
    };
    GatewaySegment::create(bus, &options).expect("nobody minds yet")
}

#[test]
fn an_old_gateway_is_refused_by_name_by_a_new_backend_and_told_so() {
    let ground = Ground::new();
    let bus = BusDirectory::open_or_create(&ground.bus).expect("a bus");
    let mut old = strange_gateway(&bus);
    let end = old.take_shard(0).expect("the first time");
    let mut backend = Running::start(&mut ground.process("data", "backend"));
    let by = eventually("the refusal", || end.backend.refused_by());
    assert_eq!(end.backend.pid(), backend.0.id());
    assert!(end.backend.instance().is_none(), "{by} never attached");
    assert!(!backend.has_ended(), "it goes on for others");
    let path = ground.bus.join(format!("gateway-{}", old.instance()));
    drop((old, end));
    eventually("its segment to go", || (!path.exists()).then_some(()));
    stage::signal(backend.0.id(), "TERM");
    let (code, said) = backend.output();
    assert_eq!(code, Some(0));
    let maker = format!("pid {}", std::process::id());
    assert!(
        said.contains("tidegate gateway 9.9") && said.contains(&maker),
        "{said}"
    );
    let sentence = format!("speaks bus protocol 999, this backend speaks {BUS_PROTOCOL}");
    assert!(said.contains(&sentence), "{said}");
}

#[test]
fn a_new_gateway_is_refused_by_name_beside_an_old_backend() {
    let ground = Ground::new();
    let bus = BusDirectory::open_or_create(&ground.bus).expect("a bus");
    // It comes while the backend is there: it does not start.
    let seat = BackendSeat::take_for(&bus, STRANGE).expect("nobody else is there");
    let gateway = Running::start(&mut ground.process("data", "gateway"));
    let (code, said) = gateway.output();
    assert!(code.is_some_and(|code| code != 0), "{said}");
    let sentence = format!(
        "the backend on this bus (pid {}) speaks bus protocol 999, this gateway speaks {BUS_PROTOCOL}",
        std::process::id()
    );
    assert!(said.contains(&sentence), "{said}");
    drop(seat);

    // The backend comes while it runs: it is told, and ends.
    let gateway = Running::start(&mut ground.process("data", "gateway"));
    eventually("its segment", || bus.segments().ok()?.pop());
    let mut seat = BackendSeat::take_for(&bus, STRANGE).expect("nobody else is there");
    let name = eventually("the gateway", || seat.discover().ok()?.pop());
    let refusal = seat.attach(name).map(drop).expect_err("another release");
    assert!(
        refusal.to_string().contains("made by \"tidegate gateway "),
        "{refusal}"
    );
    let (code, said) = gateway.output();
    assert_eq!(code, Some(1), "started again by its supervisor: {said}");
    let sentence = format!(
        "the backend {} (pid {}) does not serve",
        seat.instance(),
        std::process::id()
    );
    assert!(said.contains(&sentence), "{said}");
    assert_eq!(seat.bury_refused(), [name]);
}

/// Writes another layout version into a control page.
fn of_another_layout(bus: &Path) {
    let page = fs::File::options()
        .write(true)
        .open(bus.join("control.backend.mem"));
    page.and_then(|page| page.write_all_at(&9u32.to_le_bytes(), 12))
        .expect("it is there");
}

#[test]
fn a_bus_of_another_layout_refuses_both_roles_while_somebody_lives_on_it_and_nobody_after() {
    let ground = Ground::new();
    let bus = BusDirectory::open_or_create(&ground.bus).expect("a bus");
    let old = GatewaySegment::create(&bus, &SegmentOptions::default()).expect("a segment");
    of_another_layout(&ground.bus);
    for role in ["backend", "gateway"] {
        let refused = ground.process(role, role).output().expect("runs");
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(EXIT_UNUSABLE), "{said}");
        assert!(
            said.contains("control.backend.mem: found layout version 9 (made by "),
            "{said}"
        );
        assert!(
            said.contains("run gateway and backend of one release"),
            "{said}"
        );
    }
    drop(old);
    let mut backend = Running::start(&mut ground.process("backend", "backend"));
    assert_eq!(ground.backend_pid(), backend.0.id());
    assert!(!backend.has_ended());
}
