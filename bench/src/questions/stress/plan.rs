//! How large a rush this machine and this Tidegate can carry: the smallest of some bounds, each with its reason, so that a
//! verdict is one about Tidegate and not about a limit of descriptors.

use std::fs;

use crate::machine;
use crate::system::System;

/// The rush that everything is built for.
const VISITORS_MAX: u64 = 100_000;
/// Descriptors of a gateway that are not connections.
const SPARE_DESCRIPTORS: u64 = 500;
/// Memory of one visitor with both ends: sockets of the kernel, gateway, backend, and our client.
const VISITOR_BYTES: u64 = 16 << 10;
/// Newcomers that one core carries in a second, accepted, greeted, and played.
const ARRIVALS_PER_CORE_PER_S: u64 = 1_500;

/// A bound on the number of visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) visitors: u64,
    pub(super) reason: String,
}

/// The smallest bound for newcomers who come within so many seconds.
pub(super) fn carried(system: &System, ramp_s: u64) -> Bound {
    let gateways = system.gateways();
    let descriptors = gateways.iter().map(|pid| free_descriptors(*pid)).sum();
    let connections = gateways.len() as u64 * u64::from(system.connections_per_gateway_max());
    let cores = machine::cores().len() as u64;
    smallest([
        (
            VISITORS_MAX,
            "the rush that Tidegate is built for".to_owned(),
        ),
        (
            descriptors,
            format!(
                "the descriptors of {} gateway process(es); for more: tidegate up --gateways N",
                gateways.len()
            ),
        ),
        (connections, "gateway.connections_max".to_owned()),
        (
            available_bytes() / 2 / VISITOR_BYTES,
            "half of the memory that is available".to_owned(),
        ),
        (
            cores * ARRIVALS_PER_CORE_PER_S * ramp_s,
            format!(
                "{cores} cores for server and load, {ARRIVALS_PER_CORE_PER_S} newcomers a second each"
            ),
        ),
    ])
}

fn smallest<const N: usize>(bounds: [(u64, String); N]) -> Bound {
    let smallest = bounds.into_iter().min_by_key(|(visitors, _)| *visitors);
    let (visitors, reason) = smallest.expect("invariant: there are bounds");
    Bound { visitors, reason }
}

fn free_descriptors(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let used = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
    soft_limit(&limits).saturating_sub(used + SPARE_DESCRIPTORS)
}

/// `Max open files  SOFT  HARD  files`
fn soft_limit(limits: &str) -> u64 {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next());
    soft.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn available_bytes() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bound_gives_its_reason() {
        let bounds = [
            (5, "five".to_owned()),
            (3, "three".to_owned()),
            (4, "four".to_owned()),
        ];
        let bound = smallest(bounds);
        assert_eq!((bound.visitors, bound.reason.as_str()), (3, "three"));
    }

    #[test]
    fn limits_and_memory_are_read_from_proc() {
        let line =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  20000  files\n";
        assert_eq!(soft_limit(line), 1_024);
        assert!(available_bytes() > 1 << 20);
    }
}
