//! People whom the load generator plays: in a queue of their own, so that nobody who is real gets one of them or waits
//! behind them, and removed a bounded step at a time when an operator asks for it.
//!
//! What is removed stays in the loss ledger, as with retention: a text that its recipient had acknowledged counts as
//! delivered, one that was pending as expired. Sessions stay too: that no repeat is taken twice is promised for ever.

use super::command::HttpAnswer;
use super::conversation::ConversationKey;
use super::effect::Output;
use super::kinds::{CloseReason, Status};
use super::loaded::{Found, Need};
use super::queue::Queue;
use super::{Engine, Stop};

impl Engine {
    /// Where a conversation waits for an agent.
    pub(crate) fn queue_of(&self, key: ConversationKey) -> &Queue {
        if self.conversations.at(key).row.synthetic {
            &self.synthetic_queue
        } else {
            &self.queue
        }
    }

    /// The same, to change.
    pub(crate) fn queue_of_mut(&mut self, key: ConversationKey) -> &mut Queue {
        if self.conversations.at(key).row.synthetic {
            &mut self.synthetic_queue
        } else {
            &mut self.queue
        }
    }

    /// One step of removing what the load generator left. Who is still connected stays, and what they have is removed
    /// when they have gone.
    pub(crate) fn clean_synthetic(&mut self, out: &mut Output) -> Result<HttpAnswer, Stop> {
        let step = match self.fact(Need::Synthetic)? {
            Found::Synthetic(step) => step.clone(),
            _ => return Ok(HttpAnswer::Cleaned { more: false }),
        };
        let more = !step.is_empty();
        for left in &step.conversations {
            if let Some(key) = self.conversations.find(left.run.conversation) {
                let conversation = self.conversations.at(key);
                if conversation.row.status != Status::Closed {
                    // Its rows change with this turn: the next step finds it closed.
                    self.close(key, CloseReason::Abandoned, out);
                    continue;
                }
                if conversation.marks_dirty || conversation.marks_turn == self.turn {
                    self.write_marks(out);
                    continue;
                }
            }
            if left.run.rows > 0 {
                self.erase(&left.run, out);
            }
            if left.whole {
                out.writes.conversations_gone.push(left.run.conversation);
            }
        }
        for &visitor in &step.visitors {
            if !self.connections.is_connected(visitor) {
                out.writes.visitors_gone.push(visitor);
                self.people.forget(visitor);
            }
        }
        for &agent in &step.agents {
            if !self.connections.is_connected(agent) && self.agents.remove(agent) {
                out.writes.agents_gone.push(agent);
            }
        }
        let gone = out.writes.visitors_gone.len() + out.writes.agents_gone.len();
        Ok(HttpAnswer::Cleaned {
            more: more && (gone > 0 || !step.conversations.is_empty()),
        })
    }
}
