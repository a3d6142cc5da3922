//! The data directory: made on the first start with safe modes, owned by one supervisor at a time.
//!
//! ```text
//! tidegate-data/            0700
//!   tidegate.db             the store (backend)
//!   secrets/token.key       signs and verifies tokens
//!   log-level               `tidegate log` writes it
//!   run/up.lock             held by the supervisor; its pid inside
//!   run/settings.toml       what the processes run on: file, environment and flags resolved
//!   run/gateway-PID.ready   this gateway accepts connections
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::logging;
use crate::settings::Settings;

/// The agent that the first start makes.
pub const DEMO_AGENT: &str = "demo";

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes the directory, or checks that the one there is ours alone.
pub fn create(data_dir: &Path) -> Result<()> {
    for directory in [data_dir.to_owned(), data_dir.join("run")] {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&directory).with_context(|| {
            format!(
                "cannot make the data directory {}; make it writable, or name another: --data-dir DIRECTORY",
                directory.display()
            )
        })?;
    }
    let found =
        fs::metadata(data_dir).with_context(|| format!("cannot read {}", data_dir.display()))?;
    let me = rustix::process::getuid().as_raw();
    if found.uid() != me {
        bail!(
            "{} belongs to user {} and this is user {me}; start as that user, or name another: --data-dir DIRECTORY",
            data_dir.display(),
            found.uid()
        );
    }
    if found.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} can be read by other users (mode {:o}); type: chmod 700 {}",
            data_dir.display(),
            found.permissions().mode() & 0o777,
            data_dir.display()
        );
    }
    Ok(())
}

fn run_file(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("run").join(name)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(FILE_MODE);
    options
}

/// Held while the supervisor lives; the kernel lets go of it however it dies.
#[derive(Debug)]
pub struct SupervisorLock {
    _file: File,
}

/// Takes the directory for this supervisor, or says who has it.
pub fn lock(data_dir: &Path) -> Result<SupervisorLock> {
    let path = run_file(data_dir, "up.lock");
    let mut file = private_file()
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let pid = pid.trim();
        bail!(
            "Tidegate already runs on {} (pid {pid}); stop it with `kill {pid}`, or name another directory: --data-dir DIRECTORY",
            data_dir.display()
        );
    }
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .context("cannot write the lock file")?;
    for stale in ready_files(data_dir) {
        let _already_gone = fs::remove_file(stale);
    }
    Ok(SupervisorLock { _file: file })
}

/// On the first start: makes the token key, which backend and gateways read, and the demo agent; returns the agent's
/// name and password.
pub fn first_start(settings: &Settings) -> Result<Option<(String, String)>> {
    tidegate_backend::auth::token_key::load_or_create(&settings.backend.token_key_path())
        .context("cannot prepare the token key")?;
    if !settings.up.demo_agent {
        return Ok(None);
    }
    let password = tidegate_backend::admin::ensure_demo_agent(&settings.backend, DEMO_AGENT)
        .context("cannot prepare the database")?;
    Ok(password.map(|password| (DEMO_AGENT.to_owned(), password)))
}

/// Writes the settings as they are after file, environment and flags, for the other processes to read.
pub fn write_resolved(settings: &Settings) -> Result<PathBuf> {
    let path = run_file(&settings.data_dir, "settings.toml");
    let text = toml::to_string(settings).context("settings can't be written as TOML")?;
    let mut file = private_file()
        .truncate(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn ready_file(data_dir: &Path, pid: u32) -> PathBuf {
    run_file(data_dir, &format!("gateway-{pid}.ready"))
}

fn ready_files(data_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(data_dir.join("run")) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "ready")
        })
        .collect()
}

/// This gateway process accepts connections; removed when dropped.
#[derive(Debug)]
pub struct ReadyMark(PathBuf);

impl ReadyMark {
    /// Leaves the mark for the supervisor.
    pub fn leave(data_dir: &Path) -> Result<Self> {
        let path = ready_file(data_dir, std::process::id());
        private_file()
            .truncate(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for ReadyMark {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.0);
    }
}

/// Whether the gateway process has left its mark.
pub fn gateway_is_up(data_dir: &Path, pid: u32) -> bool {
    ready_file(data_dir, pid).exists()
}

/// Whether no gateway's segment is on the bus: what they left was taken.
pub fn bus_is_empty(bus_dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(bus_dir) else {
        return true;
    };
    !entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("gateway-"))
}

/// Gives the bus's memory back, unless a segment is on it: what is in there is for the next backend.
pub fn remove_empty_bus(bus_dir: &Path) {
    if bus_is_empty(bus_dir) {
        let _gone_already = fs::remove_dir_all(bus_dir);
    }
}

/// The process id of the running supervisor, if there is one.
pub fn supervisor(data_dir: &Path) -> Result<Option<Pid>> {
    let path = run_file(data_dir, "up.lock");
    let Ok(mut file) = File::open(&path) else {
        return Ok(None);
    };
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(None);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().parse().ok().and_then(Pid::from_raw))
}

/// The settings that the running Tidegate of this directory resolved at its start, whatever flags and variables it
/// was given then; the caller's own where none runs.
pub fn running_settings(settings: Settings) -> Result<Settings> {
    if supervisor(&settings.data_dir)?.is_none() {
        return Ok(settings);
    }
    let path = run_file(&settings.data_dir, "settings.toml");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}, which `up` wrote", path.display()))?;
    toml::from_str(&text).with_context(|| {
        format!(
            "{} was written by another version of tidegate; use the one that runs",
            path.display()
        )
    })
}

/// `tidegate log LEVEL`
#[derive(Debug, clap::Args)]
pub struct LogArguments {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module: `info,tidegate_gateway=debug`
    level: String,
}

/// Writes the level and tells the running processes.
pub fn change_log_level(data_dir: &Path, arguments: &LogArguments) -> Result<()> {
    logging::parse_level(&arguments.level)?;
    let path = logging::level_file(data_dir);
    let mut file = private_file().truncate(true).open(&path).with_context(|| {
        format!(
            "cannot write {}; has Tidegate been started here? (--data-dir DIRECTORY)",
            path.display()
        )
    })?;
    writeln!(file, "{}", arguments.level)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match supervisor(data_dir)? {
        Some(pid) => {
            kill_process(pid, Signal::USR1)
                .with_context(|| format!("cannot signal pid {}", pid.as_raw_nonzero()))?;
            println!("log level is now {}", arguments.level);
        }
        None => println!(
            "Tidegate does not run on {}; the level holds from the next start",
            data_dir.display()
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_read_is_refused_with_the_line_to_type() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let directory = scratch.path().join("data");
        create(&directory).expect("a fresh directory is made");
        assert_eq!(
            fs::metadata(&directory)
                .expect("it exists")
                .permissions()
                .mode()
                & 0o777,
            DIRECTORY_MODE
        );
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("chmod");
        let error = create(&directory)
            .expect_err("others can read it")
            .to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_second_supervisor_is_told_who_has_the_directory() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let directory = scratch.path().join("data");
        create(&directory).expect("a fresh directory is made");
        let held = lock(&directory).expect("nobody holds it");
        let error = lock(&directory).expect_err("it is held").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        // Another test may have forked meanwhile: its child holds a copy until it has become another program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while let Err(error) = lock(&directory) {
            assert!(std::time::Instant::now() < deadline, "still held: {error}");
            std::thread::yield_now();
        }
    }
}
