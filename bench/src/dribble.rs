//! How long does a healthy pair wait, while a thousand connections on its shard each dribble half a frame?
//!
//! The dribblers send the header of a 1,024-byte frame and then its payload a byte at a time, round after round, and
//! never finish it. The pair exchanges a message at a fixed rate and counts from the moment at which each was due, so
//! a stall is not hidden by the messages that it kept from being sent.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::latency::Latencies;
use crate::socket::{BINARY, Socket, frame};

const FRAME_BYTES: usize = 1_024;
const HEALTHY_PAYLOAD: &[u8] = b"a healthy pair chats on";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// A server that reflects (`tidegate gateway --echo --shards 1`).
    pub server: SocketAddr,
    /// Connections that never finish a frame.
    pub dribblers: usize,
    /// Messages a second of the healthy pair.
    pub rate_per_s: u32,
    /// For how long.
    pub duration: Duration,
}

/// What came out.
#[derive(Debug)]
pub struct Answer {
    /// Round trips of the healthy pair.
    pub healthy: Latencies,
    /// Bytes that the dribblers got rid of meanwhile.
    pub dribbled_bytes: u64,
}

/// Asks.
pub fn ask(question: Question) -> io::Result<Answer> {
    let whole = frame(BINARY, &[0; FRAME_BYTES]);
    let header = &whole[..8];
    let mut dribblers = Vec::with_capacity(question.dribblers);
    for _ in 0..question.dribblers {
        let mut socket = Socket::open(question.server, None)?;
        socket.stream().write_all(header)?;
        dribblers.push(socket);
    }
    let over = AtomicBool::new(false);
    let dribbled_bytes = AtomicU64::new(0);
    let mut healthy = Socket::open(question.server, None)?;
    std::thread::scope(|scope| {
        let (over, dribbled) = (&over, &dribbled_bytes);
        let load = scope.spawn(move || -> io::Result<()> {
            // Half of each frame at the most: none is ever whole.
            for _ in 0..FRAME_BYTES / 2 {
                for socket in &mut dribblers {
                    if over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    socket.stream().write_all(&[0])?;
                    dribbled.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        let measured = exchange(&mut healthy, question);
        over.store(true, Ordering::Relaxed);
        load.join()
            .map_err(|_| io::Error::other("the dribbling thread panicked"))??;
        Ok(Answer {
            healthy: measured?,
            dribbled_bytes: dribbled_bytes.load(Ordering::Relaxed),
        })
    })
}

fn exchange(socket: &mut Socket, question: Question) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut payload = Vec::new();
    let step = Duration::from_secs(1) / question.rate_per_s.max(1);
    let begin = Instant::now();
    let mut due = begin;
    while due.duration_since(begin) < question.duration {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.send(BINARY, HEALTHY_PAYLOAD)?;
        socket.receive(&mut payload)?;
        if payload != HEALTHY_PAYLOAD {
            return Err(io::Error::other("the echo came back changed"));
        }
        latencies.record(due.elapsed());
        due += step;
    }
    Ok(latencies)
}
