//! Committing, and what waits for it: effects, ring space, answers over HTTP.

use std::time::Instant;

use super::{Retry, Stepped, Turn};
use crate::app::command::Refusal;
use crate::bus::cold::ColdReader;
use crate::bus::link::{Gateways, Link};
use crate::engine::effect::Effect;
use crate::engine::rows::RingCursorRow;
use crate::store::{CommitError, Store};

/// The first wait after a commit that failed; it doubles up to [`RETRY_US_MAX`].
const RETRY_US_MIN: u64 = 10_000;
/// The longest wait: relief is noticed within it.
const RETRY_US_MAX: u64 = 500_000;
/// What HTTP is told while the store cannot commit.
const BUSY_RETRY_MS: u32 = 1_000;

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    /// Commits what was applied; `None`: done. A turn that changed no row needs no commit: what it took is released
    /// all the same, and if that is lost with a crash, it is taken again.
    pub(super) fn commit(&mut self, now_us: u64) -> Option<Stepped> {
        self.engine.end_turn(&mut self.out);
        if !self.out.writes.is_empty() {
            self.add_cursors();
        }
        if let Some(journal) = &mut self.journal {
            journal.end_turn(&self.out.writes.ring_cursors);
        }
        if self.out.writes.is_empty() {
            return None;
        }
        if let Some(journal) = &self.journal {
            self.out.writes.meta.push(journal.row());
            if !journal.is_alive() {
                self.journal = None;
            }
        }
        if shm_bus::mutant::is_planted("acknowledge_before_commit") {
            self.publish();
        }
        self.submit(now_us, 0)
    }

    /// The cursors of the rings that were read belong to the transaction of what was read.
    fn add_cursors(&mut self) {
        for (&gateway, attached) in &self.bus.attached {
            if attached.leaving {
                continue;
            }
            for (shard, port) in (0..).zip(&attached.ports) {
                // While leftovers below the stored cursor are read again, the cursor stays: it never moves back.
                if port.taken
                    && port.read_to > port.stored
                    && !shm_bus::mutant::is_planted("publish_without_cursor")
                {
                    let position = port.read_to;
                    self.out.writes.ring_cursors.push(RingCursorRow {
                        gateway,
                        shard,
                        position,
                    });
                }
            }
        }
    }

    pub(super) fn submit_again(&mut self, now_us: u64, retry: Retry) -> Stepped {
        self.refuse_http();
        // Gateways have to see that this backend lives, and who comes meanwhile is attached.
        self.bus.look(now_us);
        if now_us < retry.at_us {
            return Stepped::Idle {
                wake_at_us: retry.at_us,
            };
        }
        self.counters.commit_retries += 1;
        if let Some(stepped) = self.submit(now_us, retry.attempts) {
            return stepped;
        }
        tracing::info!(attempts = retry.attempts, "the store commits again");
        self.ready = true;
        self.publish_and_release();
        self.after(now_us, true)
    }

    fn submit(&mut self, now_us: u64, attempts: u32) -> Option<Stepped> {
        shm_bus::fault::point("turn.before_commit");
        let began = Instant::now();
        let submitted = self.store.submit(&self.out.writes);
        self.counters.commit_us += u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match submitted {
            Ok(index) => {
                self.counters.commits += 1;
                self.retry = None;
                self.ledger_committed = self.engine.ledger();
                debug_assert!(
                    self.store.durable() >= index,
                    "one turn in flight: submitted is durable"
                );
                for cursor in &self.out.writes.ring_cursors {
                    if let Some(gateway) = self.bus.attached.get_mut(&cursor.gateway) {
                        gateway.ports[usize::from(cursor.shard)].stored = cursor.position;
                    }
                }
                shm_bus::fault::point("turn.after_commit");
                None
            }
            Err(CommitError::Broken(error) | CommitError::Unsynced(error)) => {
                self.careful.store_broke(&error);
                Some(Stepped::Broken(error))
            }
            Err(CommitError::Fatal(error)) => {
                self.careful.commit_broke(self.inputs == 1, &error);
                Some(Stepped::Broken(error))
            }
            Err(error) => {
                if attempts == 0 {
                    tracing::error!(%error, "the store cannot commit; trying again");
                    self.ready = false;
                    self.show(now_us);
                }
                let wait_us = (RETRY_US_MIN << attempts.min(16)).min(RETRY_US_MAX);
                let retry = Retry {
                    at_us: now_us + wait_us,
                    attempts: attempts + 1,
                };
                self.retry = Some(retry);
                Some(Stepped::Idle {
                    wake_at_us: retry.at_us,
                })
            }
        }
    }

    /// While the store cannot commit nothing is applied.
    fn refuse_http(&mut self) {
        while let Ok(request) = self.door.requests.try_recv() {
            let _ = request.answer.send(Err(Refusal::busy(BUSY_RETRY_MS)));
        }
    }

    /// Lets out what waited for the commit.
    pub(super) fn publish_and_release(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.committed();
        }
        shm_bus::fault::point("turn.before_publish");
        self.publish();
        self.asked.clear();
        shm_bus::fault::point("turn.after_publish");
        self.release();
        self.bus.unlink_gone();
    }

    fn publish(&mut self) {
        let mut effects = std::mem::take(&mut self.out.effects);
        let polled = !self.door.polls.is_idle();
        for effect in &effects {
            match effect {
                Effect::Http { ticket, answer } => {
                    if let Some(asker) = self.asked.get_mut(*ticket as usize).and_then(Option::take)
                    {
                        let answer = answer
                            .clone()
                            .map(|answer| *answer)
                            .map_err(|refusal| *refusal);
                        // The asker may have gone.
                        let _ = asker.send(answer);
                    }
                }
                effect => self.bus.publish(&self.engine, effect, &self.out.resumes),
            }
            if polled
                && let Effect::Appended { conversation, seq } = effect
                && let Some(conversation) = self.engine.conversations().get(*conversation)
            {
                self.door.polls.tell(conversation.row.id, *seq);
            }
        }
        self.bus.end_publish(&self.engine, self.is_many());
        effects.clear();
        self.out.effects = effects;
    }

    fn release(&mut self) {
        shm_bus::fault::point("turn.before_release");
        for gateway in self.bus.attached.values_mut() {
            for (shard, port) in (0..).zip(&mut gateway.ports) {
                port.taken = false;
                if let Some(position) = port.take_release() {
                    gateway.link.to_backend(shard).release_to(position);
                }
            }
        }
        shm_bus::fault::point("turn.after_release");
    }
}
