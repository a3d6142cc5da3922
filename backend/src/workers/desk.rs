//! The thread between the turn and one worker: questions out, answers in. It owns the backend's end of the worker's
//! bus, and makes a fresh one when the worker has damaged the old. What is asked and answered is the [`Records`]'.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use shm_bus::{
    BusDirectory, Claimed, GatewaySegment, Read, RecordCopy, RecordHeader, Ringer, SegmentOptions,
    ShardEnd,
};

use super::{ANSWER, QUESTION, Records, Worker};
use crate::app::handle::Wake;

/// Questions on their way to the worker.
const QUESTIONS_WAITING_MAX: usize = 1_024;
/// Each of the worker's two rings.
const RING_BYTES: usize = 1 << 20;
const RECORD_BYTES_MAX: usize = 64 << 10;
/// How often the desk looks whether the worker lives.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Before a segment that could not be made is tried again.
const MEND_EVERY: Duration = Duration::from_millis(500);

/// The turn's end of it. Dropped, it stops the thread.
pub struct Desk<R: Records> {
    name: &'static str,
    questions: Sender<(u64, R::Question)>,
    answers: Receiver<(u64, R::Answer)>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// A worker has the seat and reads.
    alive: AtomicBool,
    stop: AtomicBool,
    ringer: std::sync::Mutex<Option<Ringer>>,
}

impl State {
    fn ring(&self) {
        let ringer = self
            .ringer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(ringer) = &*ringer {
            ringer.ring();
        }
    }
}

impl<R: Records> Desk<R> {
    /// Opens the worker's directory in `bus_dir`, which is made if need be, and waits there for a worker. `name` is the
    /// directory's, the thread's and the worker's in log lines. `wake` is called when an answer came, and when a worker
    /// comes or goes.
    ///
    /// # Errors
    /// A sentence: the directory or the rings cannot be made, or there is no thread.
    pub fn start(name: &'static str, bus_dir: &Path, wake: Wake) -> Result<Self, String> {
        let directory = bus_dir.join(name);
        let bus = BusDirectory::open_or_create(&directory).map_err(|error| error.to_string())?;
        let shard = segment(&bus, R::PROTOCOL)?;
        let (questions, asked) = bounded(QUESTIONS_WAITING_MAX);
        // Answers are bounded by the ring that they come from: what the turn does not take stays there.
        let (answered, answers) = bounded(QUESTIONS_WAITING_MAX);
        let state = Arc::new(State::default());
        let clerk = Clerk::<R> {
            name,
            bus,
            asked,
            answered,
            state: Arc::clone(&state),
            wake,
            copy: RecordCopy::with_room(RECORD_BYTES_MAX),
            garbage: 0,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || clerk.run(shard))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            name,
            questions,
            answers,
            state,
            thread: Some(thread),
        })
    }
}

impl<R: Records> Worker<R::Question, R::Answer> for Desk<R> {
    fn is_there(&self) -> bool {
        self.state.alive.load(Ordering::Acquire)
    }

    fn ask(&mut self, number: u64, question: R::Question) -> bool {
        if !self.is_there() {
            return false;
        }
        let asked = self.questions.try_send((number, question)).is_ok();
        self.state.ring();
        asked
    }

    fn answer(&mut self) -> Option<(u64, R::Answer)> {
        self.answers.try_recv().ok()
    }

    fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }
}

impl<R: Records> Drop for Desk<R> {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        self.state.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the {} desk panicked", self.name);
        }
    }
}

/// The two rings of a fresh segment. It lives as long as its shard's end does, and goes with the worker that drains it,
/// or with the next segment's making.
fn segment(bus: &BusDirectory, protocol: u32) -> Result<ShardEnd, String> {
    let options = SegmentOptions {
        shards: 1,
        ring_bytes: RING_BYTES,
        record_bytes_max: RECORD_BYTES_MAX,
        protocol,
        build: concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut segment = GatewaySegment::create(bus, &options).map_err(|error| error.to_string())?;
    let shard = segment.take_shard(0);
    shard.ok_or_else(|| "invariant: a fresh segment has its shard".to_owned())
}

/// What the thread holds.
struct Clerk<R: Records> {
    name: &'static str,
    bus: BusDirectory,
    asked: Receiver<(u64, R::Question)>,
    answered: Sender<(u64, R::Answer)>,
    state: Arc<State>,
    wake: Wake,
    copy: RecordCopy,
    /// Records that were no answers.
    garbage: u64,
}

impl<R: Records> Clerk<R> {
    fn run(mut self, mut shard: ShardEnd) {
        self.show_ringer(&shard);
        while !self.state.stop.load(Ordering::Acquire) {
            self.look(&shard);
            self.ask(&mut shard);
            if self.take(&mut shard).is_err() {
                tracing::error!(
                    "the {} worker damaged its ring: it gets a fresh one",
                    self.name
                );
                self.state.alive.store(false, Ordering::Release);
                match self.mend() {
                    Some(fresh) => shard = fresh,
                    None => return,
                }
            }
            shard.sleeper.prepare();
            let full = self.answered.is_full();
            if self.asked.is_empty() && (full || shard.to_gateway.is_empty()) {
                shard.sleeper.sleep(LOOK_EVERY);
            } else {
                shard.sleeper.wake();
            }
        }
    }

    fn show_ringer(&self, shard: &ShardEnd) {
        let mut ringer = self
            .state
            .ringer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *ringer = Some(shard.sleeper.ringer());
    }

    /// A worker that has the seat and attached to these rings reads them.
    fn look(&self, shard: &ShardEnd) {
        let watch = &shard.backend;
        let alive = watch.alive() && watch.instance().is_some();
        if self.state.alive.swap(alive, Ordering::AcqRel) != alive {
            if alive {
                tracing::info!(pid = watch.pid(), "a {} worker is there", self.name);
            } else {
                tracing::warn!(
                    "the {} worker is gone: what it would be asked gets the default",
                    self.name
                );
            }
            (self.wake)();
        }
    }

    /// What finds no room is not asked: the default comes in time.
    fn ask(&mut self, shard: &mut ShardEnd) {
        let mut any = false;
        while let Ok((number, question)) = self.asked.try_recv() {
            let Ok(Claimed::Claimed(mut claim)) =
                shard.to_backend.claim(R::question_bytes(&question))
            else {
                continue;
            };
            R::write_question(&question, claim.payload_mut());
            claim.commit(RecordHeader {
                kind: QUESTION,
                principal: R::principal(&question).0,
                trace: number,
                ..RecordHeader::default()
            });
            any = true;
        }
        if any {
            shard.to_backend.ring();
        }
    }

    /// Passes answers on, as many as the turn has room for; an error: the ring is beyond reading.
    fn take(&mut self, shard: &mut ShardEnd) -> Result<(), ()> {
        let mut any = false;
        while !self.answered.is_full() {
            match shard.to_gateway.next(&mut self.copy) {
                Read::Empty => break,
                Read::Bad(bad) if bad.condemned => return Err(()),
                Read::Bad(_) => self.garbage += 1,
                Read::Record(header) => {
                    let answer = R::read_answer(self.copy.payload());
                    match answer.filter(|_| header.kind == ANSWER) {
                        Some(answer) => {
                            any |= self.answered.try_send((header.trace, answer)).is_ok()
                        }
                        None => self.garbage += 1,
                    }
                }
            }
        }
        let position = shard.to_gateway.position();
        shard.to_gateway.release_to(position);
        if self.garbage > 0 {
            tracing::warn!(
                records = self.garbage,
                "the {} worker answered nonsense",
                self.name
            );
            self.garbage = 0;
        }
        if any {
            (self.wake)();
        }
        Ok(())
    }

    /// Fresh rings; `None`: asked to stop before there were any.
    fn mend(&self) -> Option<ShardEnd> {
        while !self.state.stop.load(Ordering::Acquire) {
            match segment(&self.bus, R::PROTOCOL) {
                Ok(shard) => {
                    self.show_ringer(&shard);
                    return Some(shard);
                }
                Err(error) => tracing::error!(%error, "no rings for the {} worker", self.name),
            }
            thread::sleep(MEND_EVERY);
        }
        None
    }
}
