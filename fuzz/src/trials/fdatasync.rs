//! Where the backend's fdatasync stands under `synchronous = full`, as strace sees it. Acknowledgements go through
//! shared memory, which no trace shows; two things bound them from both sides:
//!
//! - The turn rings a sleeping gateway after it has published. No ring may stand between a write to the log and the
//!   sync of it (one thread, so the trace's order is the program's).
//! - A client sends one message at a time. Between its sending and the arrival of the acknowledgement, by the same
//!   clock, a sync of the log has to end.
//!
//! The same under `normal` has to fail, or this trial would prove nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Stand;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 4;
const AGENTS: u64 = 1;
const MESSAGES: u64 = 500;
const TEXT_BYTES: usize = 40;
const ANSWERED_S_MAX: u64 = 30;

/// What a trace says.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// When each sync of the log ended, seconds since 1970.
    syncs: Vec<f64>,
    /// Rings of gateways.
    rings: usize,
    /// Those with something in the log that was not synchronised.
    rings_too_early: usize,
}

/// `fdatasync-before-acks`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        stand.figure("skipped", "strace is missing; type: apt-get install strace");
        return Ok(());
    }
    let messages = stand.scale.of(MESSAGES);
    let (full, acknowledged) = watch(stand, "full", messages)?;
    let unsynced = without_sync(&full, &acknowledged);
    stand.figure("acknowledgements watched", acknowledged.len());
    stand.figure("fdatasyncs of the log", full.syncs.len());
    stand.figure("acknowledgements without one before them", unsynced);
    stand.figure("doorbells rung", full.rings);
    stand.figure(
        "doorbells rung before the log was synchronised",
        full.rings_too_early,
    );
    ensure!(
        full.rings > 0,
        "no doorbell was rung: the trace shows nothing"
    );
    ensure!(
        unsynced == 0,
        "{unsynced} acknowledgements came without a sync of the log"
    );
    ensure!(
        full.rings_too_early == 0,
        "{} doorbells were rung before the log was synchronised",
        full.rings_too_early
    );
    let (normal, acknowledged) = watch(stand, "normal", messages)?;
    let unsynced = without_sync(&normal, &acknowledged);
    stand.figure(
        "the same under normal: acknowledgements without one",
        unsynced,
    );
    ensure!(
        unsynced > 0 && normal.rings_too_early > 0,
        "under normal nothing is missed, so this trial can't see what it looks for: {unsynced} acknowledgements, {} \
         doorbells",
        normal.rings_too_early
    );
    Ok(())
}

/// Lets a visitor send so many messages one by one under strace; when each was sent and acknowledged.
fn watch(
    stand: &Stand,
    synchronous: &str,
    messages: u64,
) -> anyhow::Result<(Seen, Vec<(f64, f64)>)> {
    let directory = stand.scratch().join(synchronous);
    let setup = Setup::new(&stand.binary, &directory).with("BACKEND__SYNCHRONOUS", synchronous);
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    let pid = shop.system.pid(Role::Backend).context("the backend runs")?;
    let traces = directory.join("traces");
    fs::create_dir_all(&traces)?;
    let strace = Strace::attach(pid, &traces.join("thread"))?;
    let visitor = usize::try_from(AGENTS)?;
    let mut acknowledged = Vec::new();
    for _ in 0..messages {
        let sent = now_s();
        shop.crowd.say(visitor, None, TEXT_BYTES);
        let time_max = Duration::from_secs(ANSWERED_S_MAX);
        shop.crowd.until("it is acknowledged", time_max, |crowd| {
            crowd.unanswered() == 0
        })?;
        acknowledged.push((sent, now_s()));
    }
    strace.detach()?;
    let bus = shop.system.bus().display().to_string();
    let mut seen = Seen::default();
    for trace in fs::read_dir(&traces)? {
        let text = fs::read_to_string(trace?.path())?;
        // The turn's thread is the one that writes the log.
        if text.lines().any(writes_log) {
            seen = read_trace(&text, &bus);
        }
    }
    Ok((seen, acknowledged))
}

fn writes_log(line: &str) -> bool {
    line.contains("-wal>") && (line.contains(" write(") || line.contains(" pwrite64("))
}

/// One thread's trace, made with `-ttt -T -y`.
fn read_trace(text: &str, bus: &str) -> Seen {
    let mut seen = Seen::default();
    let mut unsynced = false;
    for line in text.lines() {
        if writes_log(line) {
            unsynced = true;
        } else if line.contains("-wal>") && line.contains("sync(") && line.contains(") = 0 ") {
            unsynced = false;
            let began = line
                .split(' ')
                .next()
                .and_then(|time| time.parse::<f64>().ok());
            let took = line
                .rsplit_once('<')
                .and_then(|(_, rest)| rest.trim_end_matches('>').parse::<f64>().ok());
            if let (Some(began), Some(took)) = (began, took) {
                seen.syncs.push(began + took);
            }
        } else if line.contains(" write(") && line.contains(&format!("<{bus}/")) {
            seen.rings += 1;
            seen.rings_too_early += usize::from(unsynced);
        }
    }
    seen
}

fn without_sync(seen: &Seen, acknowledged: &[(f64, f64)]) -> usize {
    acknowledged
        .iter()
        .filter(|(sent, came)| !seen.syncs.iter().any(|sync| sent <= sync && sync <= came))
        .count()
}

fn now_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Attached to a process until detached or dropped.
struct Strace(Child);

impl Strace {
    /// Writes one file a thread, with a thread's id behind the name.
    fn attach(pid: Pid, into: &Path) -> anyhow::Result<Self> {
        let mut strace = Command::new("strace")
            .args(["-ff", "-ttt", "-T", "-y", "-s", "0"])
            .args(["-e", "trace=write,pwrite64,fsync,fdatasync", "-o"])
            .arg(into)
            .args(["-p", &pid.as_raw_nonzero().to_string()])
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = strace.stderr.take().context("a pipe")?;
        let strace = Self(strace);
        let mut said = String::new();
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            if line.contains("attached") {
                return Ok(strace);
            }
            said.push_str(&line);
        }
        anyhow::bail!("strace cannot watch the backend: {said}")
    }

    fn detach(mut self) -> anyhow::Result<()> {
        self.interrupt();
        self.0.wait()?;
        Ok(())
    }

    fn interrupt(&self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _gone_already = kill_process(pid, Signal::INT);
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.interrupt();
        let _reaped = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
1.000000 write(9</d/tidegate.db-wal>, \"\"..., 24) = 24 <0.000010>
1.000100 fdatasync(9</d/tidegate.db-wal>) = 0 <0.000400>
1.000600 write(12</bus/g/bell>, \"\"..., 1) = 1 <0.000010>
2.000000 pwrite64(9</d/tidegate.db-wal>, \"\"..., 24, 32) = 24 <0.000010>
2.000600 write(12</bus/g/bell>, \"\"..., 1) = 1 <0.000010>
";

    #[test]
    fn a_ring_between_a_write_to_the_log_and_its_sync_is_seen() {
        let seen = read_trace(TRACE, "/bus");
        assert_eq!(
            (seen.rings, seen.rings_too_early, seen.syncs.len()),
            (2, 1, 1)
        );
        assert!((seen.syncs[0] - 1.0005).abs() < 1e-9);
    }

    #[test]
    fn an_acknowledgement_without_a_sync_since_its_message_was_sent_is_seen() {
        let seen = read_trace(TRACE, "/bus");
        assert_eq!(without_sync(&seen, &[(0.9, 1.1)]), 0);
        assert_eq!(without_sync(&seen, &[(0.9, 1.0001), (1.9, 2.1)]), 2);
    }
}
