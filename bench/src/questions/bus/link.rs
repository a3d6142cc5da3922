//! What all ways between two processes have in common: records go, records come, and each is checked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::latency::Latencies;

/// Payload of a record: with the 48 bytes of the ring's own header it takes 512. The other ways carry the same
/// payload and whatever they put around it.
pub const PAYLOAD_BYTES: usize = 464;
/// Records of one burst: some milliseconds of the fastest way.
const FAST_BURST: u64 = 100_000;
/// No burst is shorter, however slow its way.
const SLOW_BURST: u64 = 2_000;
/// Of the time of a measurement, what goes into touching all memory once before it counts.
const WARM_UP: f64 = 0.2;

/// One end of a way between two processes.
pub trait Link {
    /// Hands one record over; `fill` writes all of its payload.
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()>;

    /// Waits for the next record; `read` sees its payload.
    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T>;

    /// What was sent goes now: for ways that gather records to save system calls.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Send it back.
    Ping(u64),
    /// Send so many records, numbered from 0.
    Burst(u64),
    /// One of those.
    Record(u64),
    /// Nothing more comes.
    End,
}

impl Said {
    #[inline]
    fn write(self, payload: &mut [u8]) {
        let (kind, number) = match self {
            Self::Ping(number) => (1, number),
            Self::Burst(records) => (2, records),
            Self::Record(number) => (3, number),
            Self::End => (4, 0),
        };
        let (first, rest) = payload.split_at_mut(16);
        first[..8].copy_from_slice(&u64::to_le_bytes(kind));
        first[8..].copy_from_slice(&number.to_le_bytes());
        let (filling, last) = rest.split_at_mut(rest.len() - 8);
        filling.fill(0x5a);
        last.copy_from_slice(&(!number).to_le_bytes());
    }

    #[inline]
    fn read(payload: &[u8]) -> Result<Self> {
        ensure!(
            payload.len() == PAYLOAD_BYTES,
            "a record of {} bytes arrived, expected {PAYLOAD_BYTES}",
            payload.len()
        );
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
        let (kind, number) = (word(0), word(8));
        ensure!(
            word(PAYLOAD_BYTES - 8) == !number,
            "a record arrived whose end belongs to another"
        );
        Ok(match kind {
            1 => Self::Ping(number),
            2 => Self::Burst(number),
            3 => Self::Record(number),
            4 => Self::End,
            other => anyhow::bail!("a record of kind {other} arrived"),
        })
    }
}

/// What one measurement of one way came to.
#[derive(Debug, Default)]
pub struct Measured {
    /// Nanoseconds a record, one figure for each burst.
    pub record_ns: Vec<f64>,
    /// From the sending of a record to the receipt of its answer.
    pub round_trips: Latencies,
}

impl Measured {
    /// The median of the bursts.
    #[must_use]
    pub fn median_record_ns(&self) -> f64 {
        let mut sorted = self.record_ns.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The far end: does as it is told until the near end has had enough.
///
/// # Errors
/// When the way breaks, or something arrives that nobody sent.
pub fn serve(link: &mut impl Link) -> Result<()> {
    loop {
        match link.receive(Said::read)? {
            Said::Ping(number) => link.send(|payload| Said::Ping(number).write(payload))?,
            Said::Burst(records) => {
                for number in 0..records {
                    link.send(|payload| Said::Record(number).write(payload))?;
                }
            }
            Said::End => return Ok(()),
            said @ Said::Record(_) => anyhow::bail!("{said:?} arrived, expected a question"),
        }
        link.flush()?;
    }
}

/// The near end: bursts for half of the time, round trips for the other.
///
/// # Errors
/// When the way breaks; when a record is missing, doubled, out of order or damaged.
pub fn measure(link: &mut impl Link, duration: Duration, into: &mut Measured) -> Result<()> {
    let mut unheard = Measured::default();
    bursts(link, duration.mul_f64(WARM_UP / 2.0), &mut unheard)?;
    pings(link, duration.mul_f64(WARM_UP / 2.0), &mut unheard)?;
    bursts(link, duration.mul_f64((1.0 - WARM_UP) / 2.0), into)?;
    pings(link, duration.mul_f64((1.0 - WARM_UP) / 2.0), into)
}

/// Tells the far end that it may end.
///
/// # Errors
/// When the way breaks.
pub fn end(link: &mut impl Link) -> Result<()> {
    link.send(|payload| Said::End.write(payload))?;
    link.flush()
}

fn bursts(link: &mut impl Link, duration: Duration, into: &mut Measured) -> Result<()> {
    let (began, mut records) = (Instant::now(), SLOW_BURST);
    while began.elapsed() < duration {
        link.send(|payload| Said::Burst(records).write(payload))?;
        link.flush()?;
        let check = |number| {
            move |payload: &[u8]| {
                let said = Said::read(payload)?;
                ensure!(
                    said == Said::Record(number),
                    "{said:?} arrived, expected record {number}"
                );
                Ok(())
            }
        };
        link.receive(check(0))?;
        // From the first record on: how long the question took to arrive is the round trips' to tell.
        let first = Instant::now();
        for number in 1..records {
            link.receive(check(number))?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        into.record_ns
            .push(first.elapsed().as_secs_f64() * 1e9 / (records - 1) as f64);
        // A burst of a fast way is longer, so that its beginning does not count.
        if first.elapsed() < Duration::from_millis(1) {
            records = FAST_BURST;
        }
    }
    Ok(())
}

fn pings(link: &mut impl Link, duration: Duration, into: &mut Measured) -> Result<()> {
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < duration {
        // In groups: looking at the clock for the end must not stand between two round trips.
        for _ in 0..16 {
            let sent = Instant::now();
            link.send(|payload| Said::Ping(number).write(payload))?;
            link.flush()?;
            let said = link.receive(Said::read)?;
            into.round_trips.record(sent.elapsed());
            ensure!(
                said == Said::Ping(number),
                "{said:?} arrived, expected the answer to ping {number}"
            );
            number += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc;

    use super::*;

    struct Channel {
        to: mpsc::Sender<Vec<u8>>,
        from: mpsc::Receiver<Vec<u8>>,
    }

    impl Link for Channel {
        fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            let mut payload = vec![0; PAYLOAD_BYTES];
            fill(&mut payload);
            Ok(self.to.send(payload)?)
        }

        fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
            read(&self.from.recv()?)
        }
    }

    #[test]
    fn both_ends_agree_over_any_way() {
        let ((to_far, from_near), (to_near, from_far)) = (mpsc::channel(), mpsc::channel());
        let far = std::thread::spawn(move || {
            let (to, from) = (to_near, from_near);
            serve(&mut Channel { to, from })
        });
        let (to, from) = (to_far, from_far);
        let (mut near, mut measured) = (Channel { to, from }, Measured::default());
        measure(&mut near, Duration::from_millis(50), &mut measured).expect("all is well");
        end(&mut near).expect("it listens");
        far.join().expect("no panic").expect("told to end");
        assert!(measured.median_record_ns() > 0.0 && measured.round_trips.count() > 0);
    }

    /// Answers with what was put there.
    struct Canned(VecDeque<Said>);

    impl Link for Canned {
        fn send(&mut self, _fill: impl FnOnce(&mut [u8])) -> Result<()> {
            Ok(())
        }

        fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
            let mut payload = vec![0; PAYLOAD_BYTES];
            self.0.pop_front().expect("enough").write(&mut payload);
            read(&payload)
        }
    }

    #[test]
    fn a_record_that_is_missing_is_noticed() {
        let mut link = Canned([Said::Record(0), Said::Record(2)].into());
        let mut measured = Measured::default();
        let error = bursts(&mut link, Duration::from_secs(1), &mut measured).expect_err("a gap");
        assert_eq!(error.to_string(), "Record(2) arrived, expected record 1");
    }

    #[test]
    fn a_torn_record_is_noticed() {
        let mut payload = vec![0; PAYLOAD_BYTES];
        Said::Record(7).write(&mut payload);
        assert_eq!(Said::read(&payload).expect("whole"), Said::Record(7));
        payload[PAYLOAD_BYTES - 1] ^= 1;
        Said::read(&payload).expect_err("torn");
    }
}
