//! Sending and receiving on open connections: closed loop with a depth, or open loop with a rate.

use std::time::Duration;

use anyhow::Result;

use super::answers::Wrong;
use super::child::{Child, Connection, Stage, own_cpu_us, until};
use super::{Exchange, Exchanged, Pace, Sample, now_ns};
use crate::process::{cpu_us, resident_bytes};

/// Messages that one send carries at most.
const BURST_MESSAGES_MAX: usize = 64;

/// Answers that a connection may owe in an open loop: past it the server is taken for dead.
const UNANSWERED_PER_CONNECTION_MAX: usize = 1 << 14;

const SAMPLE_EVERY_MS: u64 = 100;

/// After the window, what is under way is waited for so long.
const DRAIN_MS_MAX: u64 = 2_000;

/// Longest sleep: what is due without a completion is seen so often.
const SLEEP_MS_MAX: u64 = 10;

const MS: u64 = 1_000_000;

/// An exchange that is under way.
pub(super) struct Running {
    burst: &'static [u8],
    pub(super) frame_bytes: usize,
    pub(super) expected: &'static [u8],
    /// Each answer calls for the next message.
    closed: bool,
    from_ns: u64,
    to_ns: u64,
    answers: u64,
    result: Exchanged,
}

impl Running {
    fn new(order: &Exchange) -> Self {
        let (frame, expected) = order.message.frames();
        let (closed, messages) = match order.pace {
            Pace::Closed { depth } => (true, depth.clamp(1, BURST_MESSAGES_MAX)),
            Pace::Open { .. } => (false, BURST_MESSAGES_MAX.min(1 + (64 << 10) / frame.len())),
        };
        let from_ns = order.begin_ns + order.warm_ms * MS;
        // Some KB for each order, in a process that gets a handful: the kernel reads them at any time.
        Self {
            burst: Box::leak(frame.repeat(messages).into_boxed_slice()),
            frame_bytes: frame.len(),
            expected: Box::leak(expected.into_boxed_slice()),
            closed,
            from_ns,
            to_ns: from_ns + order.window_ms * MS,
            answers: 0,
            result: Exchanged::default(),
        }
    }

    /// The bytes of so many messages, as far as one send carries them.
    pub(super) fn burst(&self, messages: usize) -> &'static [u8] {
        let bytes = messages * self.frame_bytes;
        &self.burst[..bytes.min(self.burst.len())]
    }

    /// So many answers came on a connection.
    pub(super) fn answered(
        &mut self,
        connection: &mut Connection,
        answers: usize,
    ) -> Result<(), Wrong> {
        if answers == 0 {
            return Ok(());
        }
        let now = now_ns();
        for _ in 0..answers {
            let due_ns = connection.due_ns.pop_front();
            let Some(due_ns) = due_ns else {
                return Err("an answer came that nobody asked for".to_owned());
            };
            if (self.from_ns..self.to_ns).contains(&due_ns) {
                let took = Duration::from_nanos(now.saturating_sub(due_ns));
                self.result.latencies.record(took);
            }
        }
        self.answers += answers as u64;
        if self.closed && now < self.to_ns {
            connection.owed += answers;
            connection.due_ns.extend(std::iter::repeat_n(now, answers));
        }
        Ok(())
    }
}

/// What is read at the beginning of the window and at its end.
struct Reading {
    at_ns: u64,
    answers: u64,
    own_us: f64,
    watched_us: Vec<f64>,
}

impl Reading {
    fn now(order: &Exchange, answers: u64) -> Result<Self> {
        let watched = order.watched.iter().map(|pid| cpu_us(*pid));
        Ok(Self {
            watched_us: watched.collect::<std::io::Result<_>>()?,
            own_us: own_cpu_us(),
            at_ns: now_ns(),
            answers,
        })
    }
}

impl Child {
    pub(super) fn exchange(&mut self, order: &Exchange) -> Result<Exchanged> {
        (self.lost, self.first_error) = (0, None);
        while now_ns() < order.begin_ns {
            self.turn(until(order.begin_ns))?;
        }
        let running = Running::new(order);
        let (from_ns, to_ns) = (running.from_ns, running.to_ns);
        self.running = Some(running);
        let mut schedule = match order.pace {
            Pace::Closed { depth } => {
                self.fill(depth.clamp(1, BURST_MESSAGES_MAX));
                None
            }
            Pace::Open { per_s } => Some(Schedule::new(order.begin_ns, per_s)),
        };
        while now_ns() < from_ns {
            self.step(&mut schedule, from_ns)?;
        }
        let first = Reading::now(order, self.answers())?;
        let mut before = (first.at_ns, first.answers);
        while now_ns() < to_ns {
            let next_ns = before.0 + SAMPLE_EVERY_MS * MS;
            self.step(&mut schedule, next_ns.min(to_ns))?;
            if now_ns() >= next_ns {
                before = self.sample(order, first.at_ns, before);
            }
        }
        let last = Reading::now(order, self.answers())?;
        let mut result = self.drained(to_ns)?;
        let seconds =
            |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from)).as_secs_f64();
        result.messages = last.answers - first.answers;
        result.window_s = seconds(first.at_ns, last.at_ns);
        result.load_cpu_us = last.own_us - first.own_us;
        let watched = last.watched_us.iter().zip(&first.watched_us);
        result.watched_cpu_us = watched.map(|(last, first)| last - first).collect();
        result.lost = self.lost;
        result.first_error = self.first_error.take();
        Ok(result)
    }

    fn answers(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.answers)
    }

    /// The first messages of a closed loop.
    fn fill(&mut self, depth: usize) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.stage == Stage::Open {
                connection.owed = depth;
                connection
                    .due_ns
                    .extend(std::iter::repeat_n(now_ns(), depth));
                self.send_owed(index);
            }
        }
    }

    /// Sends what is due, and waits for answers until the next is due, or this moment.
    fn step(&mut self, schedule: &mut Option<Schedule>, until_ns: u64) -> Result<()> {
        let next_ns = match schedule {
            Some(schedule) => self.send_due(schedule)?,
            None => u64::MAX,
        };
        let sleep = until(until_ns.min(next_ns)).min(Duration::from_millis(SLEEP_MS_MAX));
        self.turn(sleep)
    }

    /// When the next is due.
    fn send_due(&mut self, schedule: &mut Schedule) -> Result<u64> {
        let count = self.connections.len();
        loop {
            let (due_ns, now) = (schedule.due_ns(), now_ns());
            if due_ns > now || count == 0 {
                return Ok(due_ns);
            }
            let index = schedule.sent % count;
            schedule.sent += 1;
            let connection = &mut self.connections[index];
            if connection.stage != Stage::Open {
                continue;
            }
            anyhow::ensure!(
                connection.due_ns.len() < UNANSWERED_PER_CONNECTION_MAX,
                "a connection waits for {UNANSWERED_PER_CONNECTION_MAX} answers: the server does not keep up by far"
            );
            connection.due_ns.push_back(due_ns);
            connection.owed += 1;
            if let Some(running) = &mut self.running
                && (running.from_ns..running.to_ns).contains(&due_ns)
            {
                let late = Duration::from_nanos(now - due_ns);
                running.result.lag.record(late);
            }
            self.send_owed(index);
        }
    }

    fn sample(&mut self, order: &Exchange, from_ns: u64, before: (u64, u64)) -> (u64, u64) {
        let (now, answers) = (now_ns(), self.answers());
        let resident = order
            .watched
            .iter()
            .filter_map(|pid| resident_bytes(*pid).ok());
        let elapsed = |from: u64| Duration::from_nanos(now.saturating_sub(from)).as_secs_f64();
        let sample = Sample {
            at_s: elapsed(from_ns),
            rate_per_s: super::count(answers - before.1) / elapsed(before.0).max(1e-9),
            resident_bytes: resident.sum(),
        };
        if let Some(running) = &mut self.running {
            running.result.samples.push(sample);
        }
        (now, answers)
    }

    /// Waits for what is under way, and ends the exchange.
    fn drained(&mut self, to_ns: u64) -> Result<Exchanged> {
        let give_up_ns = to_ns + DRAIN_MS_MAX * MS;
        let awaited = |child: &Self| {
            child
                .connections
                .iter()
                .any(|one| !one.due_ns.is_empty() || one.sending)
        };
        while awaited(self) && now_ns() < give_up_ns {
            self.turn(Duration::from_millis(SLEEP_MS_MAX))?;
        }
        let Some(mut running) = self.running.take() else {
            return Ok(Exchanged::default());
        };
        let now = now_ns();
        for connection in &mut self.connections {
            for due_ns in connection.due_ns.drain(..) {
                if (running.from_ns..running.to_ns).contains(&due_ns) {
                    let took = Duration::from_nanos(now.saturating_sub(due_ns));
                    running.result.latencies.record(took);
                    running.result.unanswered += 1;
                }
            }
            connection.owed = 0;
        }
        Ok(running.result)
    }
}

/// Messages at a rate, over all connections in turn.
struct Schedule {
    begin_ns: u64,
    per_s: f64,
    sent: usize,
}

impl Schedule {
    fn new(begin_ns: u64, per_s: f64) -> Self {
        Self {
            begin_ns,
            per_s,
            sent: 0,
        }
    }

    /// When the next one is due: counted from the beginning, so that no error adds up.
    fn due_ns(&self) -> u64 {
        if self.per_s <= 0.0 {
            return u64::MAX;
        }
        let after = super::count(self.sent as u64) / self.per_s;
        self.begin_ns + u64::try_from(Duration::from_secs_f64(after).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_rate_however_late_it_is_asked() {
        let mut schedule = Schedule::new(1_000, 40_000.0);
        assert_eq!(schedule.due_ns(), 1_000);
        schedule.sent = 40_000 * 3_600;
        assert_eq!(schedule.due_ns(), 1_000 + 3_600_000_000_000);
        assert_eq!(
            Schedule::new(0, 0.0).due_ns(),
            u64::MAX,
            "nothing is ever due"
        );
    }
}
