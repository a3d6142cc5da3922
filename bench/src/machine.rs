//! Where, when and from which source a figure came: without it a figure can't be compared.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const S_PER_DAY: u64 = 86_400;

/// The machine and the moment of a run.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Processor, cores, memory and kernel in one line.
    pub hardware: String,
    /// When the run began, UTC, RFC 3339 to the second.
    pub at: String,
    /// The source's commit (`+` with changes), or the program's version away from its source.
    pub commit: String,
    /// What was typed.
    pub command: String,
}

impl Machine {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        Self {
            hardware: hardware(),
            at: rfc3339(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
            commit: commit(),
            command: typed(),
        }
    }
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

/// Which cores the server under question gets, and which the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// The server's.
    pub server: Option<usize>,
    /// The load's: all others. A machine of one core shares it.
    pub load: Vec<usize>,
}

impl Cores {
    /// The first for the server, the others for the load.
    #[must_use]
    pub fn parted() -> Self {
        Self::of(&cores())
    }

    fn of(cores: &[usize]) -> Self {
        let server = cores.first().copied();
        let load = match cores {
            [only] => vec![*only],
            _ => cores.iter().skip(1).copied().collect(),
        };
        Self { server, load }
    }
}

fn hardware() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = field(&cpu, "model name").unwrap_or("unknown processor");
    let memory_kib: u64 = field(&memory, "MemTotal")
        .and_then(|value| value.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let virtual_machine = if field(&cpu, "flags").is_some_and(|flags| flags.contains(" hypervisor"))
    {
        ", virtual machine"
    } else {
        ""
    };
    format!(
        "{} cores of {model}{virtual_machine}, {} GiB, Linux {}",
        cores().len(),
        (memory_kib + (1 << 19)) >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn commit() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let version = concat!("version ", env!("CARGO_PKG_VERSION")).to_owned();
    if !source.is_dir() {
        return version;
    }
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(source)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return version;
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    if changed.is_empty() {
        commit
    } else {
        format!("{commit}+")
    }
}

fn typed() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program.as_str()).file_name();
        *program = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    }
    words.join(" ")
}

/// A time since 1970 as `2026-01-31T12:00:00Z`.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (mut year, mut days) = (1970, seconds / S_PER_DAY);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let second = seconds % S_PER_DAY;
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        days + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_calendar() {
        let shown = |seconds| rfc3339(Duration::from_secs(seconds));
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(shown(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn the_server_has_a_core_of_its_own_where_there_are_two() {
        let parted = |server, load: &[usize]| Cores {
            server,
            load: load.to_vec(),
        };
        assert_eq!(Cores::of(&[2, 5, 7]), parted(Some(2), &[5, 7]));
        assert_eq!(Cores::of(&[2]), parted(Some(2), &[2]));
        assert_eq!(Cores::of(&[]), parted(None, &[]));
    }

    #[test]
    fn the_hardware_line_names_cores_memory_and_kernel() {
        let line = hardware();
        assert!(
            line.contains(" cores of ") && line.contains(" GiB, Linux "),
            "{line}"
        );
    }
}
