//! The file that successors are started from: the supervisor's own, until somebody puts a newer one in its place.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Reading and checking the settings takes milliseconds.
const TRY_MS_MAX: u64 = 10_000;
const LOOK_EVERY_MS: u64 = 10;

/// Under which name this program was called. Not the file that the kernel runs: where a link names the current version,
/// the link is what an upgrade changes.
pub fn own() -> Result<PathBuf> {
    let running = env::current_exe().context("cannot find my own program file")?;
    let called = PathBuf::from(env::args_os().next().unwrap_or_default());
    let places: Vec<PathBuf> = if called.components().count() > 1 {
        vec![called]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|directory| directory.join(&called))
            .collect()
    };
    let found = places.into_iter().find(|place| is_same(place, &running));
    std::path::absolute(found.unwrap_or(running)).context("cannot find my own program file")
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path| {
        fs::metadata(path)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    file(one).is_some_and(|one| Some(one) == file(other))
}

/// Whether the program that lies there now starts, and understands the settings that its processes would get.
pub fn try_out(program: &Path, settings: &Path) -> Result<()> {
    let mut trial = Command::new(program)
        .arg("--config")
        .arg(settings)
        .arg("check-config")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let deadline = Instant::now() + Duration::from_millis(TRY_MS_MAX);
    while trial.try_wait().context("cannot wait for it")?.is_none() {
        if Instant::now() >= deadline {
            let _ended_already = trial.kill();
            let _reaped = trial.wait();
            bail!(
                "{} did not check its settings within {TRY_MS_MAX} ms",
                program.display()
            );
        }
        std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    }
    let ended = trial.wait_with_output().context("cannot wait for it")?;
    if !ended.status.success() {
        let said = [ended.stdout, ended.stderr].concat();
        bail!(
            "{} refuses the settings ({}): {}",
            program.display(),
            ended.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}
