//! What /proc says of a process: its memory, its descriptors, the time that it had on a core.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

/// Clock ticks a second, in which the kernel reports CPU time (USER_HZ: 100 on every architecture that runs this).
const TICKS_PER_S: u64 = 100;

fn read(pid: Pid, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
    std::fs::read_to_string(&path).with_context(|| path)
}

/// Memory that is resident and the process's own (not of files, not shared), KiB.
///
/// # Errors
/// It is gone.
pub fn resident_kib(pid: Pid) -> anyhow::Result<u64> {
    let status = read(pid, "status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .context("expected RssAnon in /proc/PID/status")
}

/// Open descriptors.
///
/// # Errors
/// It is gone.
pub fn descriptors(pid: Pid) -> anyhow::Result<usize> {
    let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
    Ok(std::fs::read_dir(&path).with_context(|| path)?.count())
}

/// Time on a core so far, user and system, all threads.
///
/// # Errors
/// It is gone.
pub fn cpu(pid: Pid) -> anyhow::Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name in parentheses may hold blanks; user and system time are the 12th and 13th field behind it.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => {
            Ok(Duration::from_millis((user + system) * 1_000 / TICKS_PER_S))
        }
        _ => anyhow::bail!("expected CPU times in /proc/PID/stat, found {stat:?}"),
    }
}

/// How much of the machine's cores was idle over this time, 0 to 1.
///
/// # Errors
/// There is no /proc.
pub fn idle_part(time: Duration) -> anyhow::Result<f64> {
    let before = core_ticks()?;
    std::thread::sleep(time);
    let after = core_ticks()?;
    let [idle, all] = [after.0 - before.0, after.1 - before.1];
    Ok(idle as f64 / (all as f64).max(1.0))
}

/// Ticks that all cores were idle, and all their ticks.
fn core_ticks() -> anyhow::Result<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait …
    let idle = ticks.get(3).context("expected idle ticks in /proc/stat")?;
    Ok((
        idle + ticks.get(4).unwrap_or(&0),
        ticks.iter().take(8).sum(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let me = rustix::process::getpid();
        let (kib, files) = (resident_kib(me).unwrap(), descriptors(me).unwrap());
        assert!(kib > 100, "{kib} KiB");
        assert!(files >= 3, "{files} descriptors");
        let idle = idle_part(Duration::from_millis(50)).unwrap();
        assert!((0.0..=1.0).contains(&idle), "{idle}");
        let before = cpu(me).unwrap();
        let mut sum = 0_u64;
        while cpu(me).unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
