//! Who is asked: a server that was started here, or one that runs already.

use anyhow::Result;

use crate::bench::Options;
use crate::load::{Visitors, count};
use crate::peers::{Fleet, Peer, Server};
use crate::process::{cpu_us, descriptors, resident_bytes, shared_bytes};
use crate::system::{Setup, System};
use crate::target::Target;

/// A server under question.
#[derive(Debug)]
pub struct Subject {
    /// As tables name it.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Its processes, as far as they are known: without any, CPU time and memory are not measured.
    pub pids: Vec<u32>,
    _own: Own,
}

/// What was started here, and ends with the question.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their ends")]
enum Own {
    Nothing,
    Peer(Server),
    Fleet(Fleet),
    Whole(System),
}

impl Subject {
    /// A peer of so many processes on one port, all on one core.
    ///
    /// # Errors
    /// When one can't be started.
    pub fn peer(peer: Peer, processes: usize, core: Option<usize>) -> Result<Self> {
        if processes > 1 {
            let fleet = Fleet::start(peer, processes, core)?;
            let kind = match peer {
                Peer::Tidegate => "gateways",
                _ => "processes",
            };
            return Ok(Self {
                name: format!("{}, {processes} {kind}", peer.name()),
                target: fleet.target.clone(),
                pids: fleet.pids(),
                _own: Own::Fleet(fleet),
            });
        }
        let server = peer.start(core)?;
        Ok(Self {
            name: peer.name().to_owned(),
            target: server.target.clone(),
            pids: vec![server.process.id()],
            _own: Own::Peer(server),
        })
    }

    /// The server that `--server` names; without it ours, of so many gateways on one port, all on one core.
    ///
    /// # Errors
    /// When one can't be started, or the URL is none.
    pub fn asked(options: &Options, gateways: usize, core: Option<usize>) -> Result<Self> {
        let Some(url) = &options.server else {
            return Self::peer(Peer::Tidegate, gateways, core);
        };
        Ok(Self {
            name: url.clone(),
            target: Target::parse(url)?,
            pids: options.watch.clone(),
            _own: Own::Nothing,
        })
    }

    /// A whole Tidegate with so many gateways, all on one core, and who may visit it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn whole(gateways: usize, core: Option<usize>) -> Result<(Self, Visitors)> {
        let system = System::start(&Setup {
            gateways,
            shards: 1,
            synchronous: "normal",
            core,
        })?;
        let visitors = Visitors {
            key: system.token_key_hex(),
            run: fastrand::u32(1..),
        };
        let mut pids = system.gateways();
        pids.extend(system.backend());
        let subject = Self {
            name: format!("tidegate, {gateways} gateways and the backend"),
            target: Target::parse(&format!("ws://{}/ws", system.ws()))?,
            pids,
            _own: Own::Whole(system),
        };
        Ok((subject, visitors))
    }

    /// Descriptors that its processes have open now.
    ///
    /// # Errors
    /// When one has ended.
    pub fn descriptors(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            sum += descriptors(*pid)?;
        }
        Ok(sum)
    }

    /// Whether CPU time and memory can be measured.
    #[must_use]
    pub fn watched(&self) -> bool {
        !self.pids.is_empty()
    }

    /// CPU time of its processes so far, µs.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu_us(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in &self.pids {
            sum += cpu_us(*pid)?;
        }
        Ok(sum)
    }

    /// Resident memory of its processes, bytes. The bus is counted once: the backend maps what each gateway does.
    ///
    /// # Errors
    /// When one has ended.
    pub fn resident_bytes(&self) -> Result<f64> {
        let (mut own, mut bus) = (0, 0);
        for pid in &self.pids {
            let shared = shared_bytes(*pid)?;
            own += resident_bytes(*pid)?.saturating_sub(shared);
            bus = shared.max(bus);
        }
        Ok(count(own + bus))
    }
}

/// Which servers run: ours, or with `--compare` these, or all.
#[must_use]
pub fn peers(compare: bool, only: &[Peer]) -> Vec<Peer> {
    match (compare, only) {
        (false, _) => vec![Peer::Tidegate],
        (true, []) => Peer::ALL.to_vec(),
        (true, only) => only.to_vec(),
    }
}

/// The middle of several figures; of an even number of them, the mean of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(vec![1.0, 9.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![5.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
