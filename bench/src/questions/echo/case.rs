//! The cases of the comparison, and who was at its end first in each.

use crate::load::{Exchanged, Pace};

/// One shape of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// As it is typed.
    pub name: &'static str,
    /// Connections.
    pub connections: u64,
    /// Payload of each message.
    pub bytes: usize,
    /// When messages are sent.
    pub pace: Pace,
}

/// Each case has a target in [`super::compare`].
pub const CASES: [Case; 6] = [
    closed("500x128", 500, 128, 1),
    closed("500x1024", 500, 1_024, 1),
    closed("10000x128", 10_000, 128, 1),
    closed("deep128", 500, 128, 16),
    closed("deep1024", 500, 1_024, 16),
    Case {
        name: "open",
        connections: 500,
        bytes: 128,
        pace: Pace::Open { per_s: 40_000.0 },
    },
];

const fn closed(name: &'static str, connections: u64, bytes: usize, depth: usize) -> Case {
    Case {
        name,
        connections,
        bytes,
        pace: Pace::Closed { depth },
    }
}

/// The case of this name.
pub fn parse(name: &str) -> Result<Case, String> {
    let found = CASES.iter().find(|case| case.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        format!("there is no case {name}: there are {}", names.join(", "))
    })
}

/// From where on a core counts as full: the kernel's own work on it is not all in the process's CPU time.
const FULL_CORE: f64 = 0.95;

/// Where the load's lag says that it did not keep its schedule, ms.
const LAG_MS_MAX: f64 = 10.0;

/// Who had no more to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saturated {
    /// The server: the rate is its own.
    Server,
    /// The load: the rate is the load's; CPU time per message is still the server's.
    Load,
    /// Both.
    Both,
    /// Neither: the rate is the schedule's, or each waits for the other.
    Neither,
}

impl Saturated {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Load => "load",
            Self::Both => "both",
            Self::Neither => "–",
        }
    }

    /// As it is told.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Server => "The server saturated first: the rate is what its core gives.",
            Self::Load => "The load saturated first: the server could do more than this rate.",
            Self::Both => "Server and load were both at the end of their cores.",
            Self::Neither => "Neither saturated: server and load had time left.",
        }
    }
}

impl Case {
    /// As tables name it.
    pub fn describe(&self) -> String {
        let Self {
            connections, bytes, ..
        } = self;
        match self.pace {
            Pace::Closed { depth: 1 } => {
                format!("{connections} connections, {bytes} B, one under way")
            }
            Pace::Closed { depth } => {
                format!("{connections} connections, {bytes} B, {depth} under way each")
            }
            Pace::Open { per_s } => {
                format!("{connections} connections, {bytes} B, open loop at {per_s:.0} a second")
            }
        }
    }

    /// Who had no more to give, the load having so many cores.
    pub fn saturated(&self, exchanged: &Exchanged, load_cores: usize) -> Saturated {
        let processes = f64::from(u32::try_from(load_cores.max(1)).unwrap_or(u32::MAX));
        let late_ms = exchanged.lag.quantile(0.99).as_secs_f64() * 1e3;
        let late = matches!(self.pace, Pace::Open { .. }) && late_ms > LAG_MS_MAX;
        let load = late || exchanged.load_cores() / processes >= FULL_CORE;
        match (exchanged.watched_cores() >= FULL_CORE, load) {
            (true, true) => Saturated::Both,
            (true, false) => Saturated::Server,
            (false, true) => Saturated::Load,
            (false, false) => Saturated::Neither,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_load_that_sends_late_has_saturated_whatever_its_core_says() {
        let case = parse("open").unwrap();
        let mut exchanged = Exchanged {
            window_s: 1.0,
            load_cpu_us: 400_000.0,
            watched_cpu_us: vec![500_000.0],
            ..Exchanged::default()
        };
        assert_eq!(case.saturated(&exchanged, 1), Saturated::Neither);
        exchanged.lag.record(Duration::from_millis(11));
        assert_eq!(case.saturated(&exchanged, 1), Saturated::Load);
        exchanged.watched_cpu_us = vec![990_000.0];
        assert_eq!(case.saturated(&exchanged, 1), Saturated::Both);
        assert_eq!(
            parse("500x128").unwrap().saturated(&exchanged, 1),
            Saturated::Server
        );
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        assert!(parse("500").unwrap_err().contains("500x128, 500x1024"));
    }
}
