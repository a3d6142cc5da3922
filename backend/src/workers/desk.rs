//! The thread between the turn and one worker: questions out, answers in. It owns the backend's end of the worker's
//! bus, and makes a fresh one when the worker has damaged the old.

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
use tidegate_protocol::Id;

use super::Moderator;
use super::question::{
    ANSWER, QUESTION, Verdict, WORKER_PROTOCOL, question_bytes, read_answer, write_question,
};
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

struct Question {
    number: u64,
    sender: Id,
    conversation: Id,
    text: String,
}

/// The turn's end of it. Dropped, it stops the thread.
pub struct Desk {
    questions: Sender<Question>,
    answers: Receiver<(u64, Verdict)>,
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

impl Desk {
    /// Opens the worker's directory, which is made if need be, and waits there for a worker. `wake` is called when an
    /// answer came.
    ///
    /// # Errors
    /// A sentence: the directory or the rings cannot be made, or there is no thread.
    pub fn start(directory: &Path, wake: Wake) -> Result<Self, String> {
        let bus = BusDirectory::open_or_create(directory).map_err(|error| error.to_string())?;
        let shard = segment(&bus)?;
        let (questions, asked) = bounded(QUESTIONS_WAITING_MAX);
        // Answers are bounded by the ring that they come from: what the turn does not take stays there.
        let (answered, answers) = bounded(QUESTIONS_WAITING_MAX);
        let state = Arc::new(State::default());
        let clerk = Clerk {
            bus,
            asked,
            answered,
            state: Arc::clone(&state),
            wake,
            copy: RecordCopy::with_room(RECORD_BYTES_MAX),
            garbage: 0,
        };
        let thread = thread::Builder::new()
            .name("moderation".to_owned())
            .spawn(move || clerk.run(shard))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            questions,
            answers,
            state,
            thread: Some(thread),
        })
    }

    /// Whether a worker is there.
    #[must_use]
    pub fn has_worker(&self) -> bool {
        self.state.alive.load(Ordering::Acquire)
    }
}

impl Moderator for Desk {
    fn ask(&mut self, number: u64, sender: Id, conversation: Id, text: &str) -> bool {
        if !self.has_worker() {
            return false;
        }
        let question = Question {
            number,
            sender,
            conversation,
            text: text.to_owned(),
        };
        let asked = self.questions.try_send(question).is_ok();
        self.state.ring();
        asked
    }

    fn answer(&mut self) -> Option<(u64, Verdict)> {
        self.answers.try_recv().ok()
    }

    fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        self.state.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the moderation desk panicked");
        }
    }
}

/// The two rings of a fresh segment. It lives as long as its shard's end does, and goes with the worker that drains it,
/// or with the next segment's making.
fn segment(bus: &BusDirectory) -> Result<ShardEnd, String> {
    let options = SegmentOptions {
        shards: 1,
        ring_bytes: RING_BYTES,
        record_bytes_max: RECORD_BYTES_MAX,
        protocol: WORKER_PROTOCOL,
        build: concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut segment = GatewaySegment::create(bus, &options).map_err(|error| error.to_string())?;
    let shard = segment.take_shard(0);
    shard.ok_or_else(|| "invariant: a fresh segment has its shard".to_owned())
}

/// What the thread holds.
struct Clerk {
    bus: BusDirectory,
    asked: Receiver<Question>,
    answered: Sender<(u64, Verdict)>,
    state: Arc<State>,
    wake: Wake,
    copy: RecordCopy,
    /// Records that were no answers.
    garbage: u64,
}

impl Clerk {
    fn run(mut self, mut shard: ShardEnd) {
        self.show_ringer(&shard);
        while !self.state.stop.load(Ordering::Acquire) {
            self.look(&shard);
            self.ask(&mut shard);
            if self.take(&mut shard).is_err() {
                tracing::error!("the moderation worker damaged its ring: it gets a fresh one");
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
                tracing::info!(pid = watch.pid(), "a moderation worker is there");
            } else {
                tracing::warn!("the moderation worker is gone: texts get the default");
            }
        }
    }

    /// What finds no room is not asked: the default comes in time.
    fn ask(&mut self, shard: &mut ShardEnd) {
        let mut any = false;
        while let Ok(question) = self.asked.try_recv() {
            let Ok(Claimed::Claimed(mut claim)) =
                shard.to_backend.claim(question_bytes(&question.text))
            else {
                continue;
            };
            write_question(question.conversation, &question.text, claim.payload_mut());
            claim.commit(RecordHeader {
                kind: QUESTION,
                principal: question.sender.0,
                trace: question.number,
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
                    let verdict = read_answer(self.copy.payload());
                    match verdict.filter(|_| header.kind == ANSWER) {
                        Some(verdict) => {
                            any |= self.answered.try_send((header.trace, verdict)).is_ok()
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
                "the moderation worker answered nonsense"
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
            match segment(&self.bus) {
                Ok(shard) => {
                    self.show_ringer(&shard);
                    return Some(shard);
                }
                Err(error) => tracing::error!(%error, "no rings for the moderation worker"),
            }
            thread::sleep(MEND_EVERY);
        }
        None
    }
}
