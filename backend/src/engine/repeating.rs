//! Repeats: a Send whose number was accepted before is answered with the first answer, however long ago that was.
//!
//! The newest one is in memory, those near it are looked up on the turn, and for the rest readers search
//! ([`crate::store::read::Reader::sent`]): a client repeats what it was not answered, so that is rare, and slow but
//! bounded. Retention may have removed the message; then the answer is `duplicate` without a seq.

use super::answer::Answer;
use super::effect::{Effect, Output, Repeat};
use super::kinds::Outcome;
use super::loaded::{Found, Need, Sent};
use super::sessions::Last;
use super::{Engine, Stop};

/// A repeat that lies less far back than this is looked for on the turn first.
const NEAR_TEXTS_MAX: u64 = 256;

impl Engine {
    /// Answers a number that is not above the session's `last`. A settled one was taken out of a ring by an earlier
    /// process: its answer is found with those of its whole turn.
    pub(crate) fn repeat(
        &mut self,
        repeat: &Repeat,
        last: Last,
        settled: bool,
        out: &mut Output,
    ) -> Result<(), Need> {
        let mut result = Answer::new(repeat.to, repeat.n);
        let is_near = settled || last.n - repeat.n < NEAR_TEXTS_MAX;
        let first = if repeat.n == last.n {
            Some(Sent {
                conversation: last.conversation,
                seq: last.seq,
                at_us: last.at_us,
                body_hash: last.hash,
            })
        } else if is_near {
            self.near(repeat, last)?
        } else {
            None
        };
        if first.is_some() || settled {
            self.repeated(&mut result, first, repeat.hash);
            out.effects.push(result.into_effect());
            return Ok(());
        }
        // A look on the turn had its token already.
        let allowed = if is_near {
            Ok(())
        } else {
            self.take_token(repeat.principal)
        };
        if let Err(Stop::Refused(refusal)) = allowed {
            self.count_refusal(refusal.reason);
            result.refused(&refusal);
            out.effects.push(result.into_effect());
        } else {
            self.tally.duplicate += 1;
            out.effects.push(Effect::Search(*repeat));
        }
        Ok(())
    }

    fn near(&self, repeat: &Repeat, last: Last) -> Result<Option<Sent>, Need> {
        let found = self.fact(Need::Sent {
            principal: repeat.principal,
            session: repeat.session,
            n: repeat.n,
            to: repeat.conversation.unwrap_or(last.conversation),
        })?;
        Ok(match found {
            Found::Sent(sent) => *sent,
            _ => None,
        })
    }

    fn repeated(&mut self, result: &mut Answer, first: Option<Sent>, hash: u64) {
        result.outcome = Outcome::Duplicate;
        if let Some(first) = first {
            if first.body_hash != hash {
                self.tally.id_conflict += 1;
                result.outcome = Outcome::IdConflict;
                return;
            }
            result.conversation = first.conversation;
            result.key = self.conversations.find(first.conversation);
            result.seq = first.seq;
            result.at_us = first.at_us;
        }
        self.tally.duplicate += 1;
    }
}
