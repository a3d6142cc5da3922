//! Acknowledgements: marks rise, the ledger follows, receipts go out. And typing, which leaves no trace.

use tidegate_protocol::{Id, fb};

use super::Engine;
use super::connections::ConnectionKey;
use super::conversation::ConversationKey;
use super::effect::{Effect, Output};
use super::input::Envelope;
use super::kinds::Side;
use super::loaded::{Found, Need, Pending};
use super::marks::SideMarks;
use super::sending::Who;

impl Engine {
    pub(crate) fn ack(
        &mut self,
        envelope: &Envelope<'_>,
        who: Who,
        ack: &fb::Ack<'_>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let id = Id::from(ack.conversation());
        let Some(key) = self.conversation_of(id)? else {
            return Ok(());
        };
        let connection = self.connections.at(envelope.address);
        self.acknowledge(key, who.id, ack.delivered(), ack.read(), connection, out)?;
        if let Some(connection) = connection {
            let delivered = ack.delivered().max(ack.read());
            out.effects.push(Effect::Acked {
                connection,
                conversation: key,
                delivered,
            });
        }
        Ok(())
    }

    /// Merges marks. Somebody who takes no part changes nothing, and is not told: it may be an old tab whose
    /// conversation was handed on.
    pub(crate) fn acknowledge(
        &mut self,
        key: ConversationKey,
        principal: Id,
        delivered: u64,
        read: u64,
        except: Option<ConnectionKey>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let conversation = self.conversations.at(key);
        let Some(side) = conversation.side_of(principal) else {
            return Ok(());
        };
        let before = conversation.marks.side(side);
        let after = before.merge(SideMarks::acknowledged(delivered, read, conversation.seq));
        if after == before {
            return Ok(());
        }
        let newly = self.texts_to(key, side, before.delivered, after.delivered)?;
        let due_us = self.now_us + self.rules.marks_delay_us;
        let conversation = self.conversations.at_mut(key);
        *conversation.marks.side_mut(side) = after;
        match side {
            Side::Visitor => {
                conversation.pending.to_visitor -= newly;
                conversation.delivered_unwritten.to_visitor += newly;
            }
            Side::Agent => {
                conversation.pending.to_agent -= newly;
                conversation.delivered_unwritten.to_agent += newly;
            }
        }
        if !conversation.marks_dirty {
            conversation.marks_dirty = true;
            self.marks_dirty.push(key);
            self.marks_due_us = self.marks_due_us.min(due_us);
        }
        out.effects.push(Effect::Receipt {
            conversation: key,
            side,
            except,
        });
        Ok(())
    }

    /// How many texts in `above < seq <= up_to` a side has to receive. At the newest seq it is all that is pending;
    /// else the window is walked; what is older than the window is counted by the store.
    fn texts_to(
        &self,
        key: ConversationKey,
        side: Side,
        above: u64,
        up_to: u64,
    ) -> Result<u64, Need> {
        let conversation = self.conversations.at(key);
        let of = |pending: &Pending| match side {
            Side::Visitor => pending.to_visitor,
            Side::Agent => pending.to_agent,
        };
        let pending = of(&conversation.pending);
        if pending == 0 || above >= up_to {
            return Ok(0);
        }
        if up_to == conversation.seq {
            return Ok(pending);
        }
        if above + 1 < conversation.window_first() {
            let need = Need::Pending {
                conversation: conversation.row.id,
                above,
                up_to,
            };
            let Found::Pending(counts) = self.fact(need)? else {
                return Ok(0);
            };
            // The store lacks what this turn appended; that is in the window.
            return Ok(of(counts).min(pending));
        }
        let texts = (above + 1..=up_to).filter(|&seq| {
            let entry = conversation
                .position_of(seq)
                .and_then(|position| self.window.get(position));
            entry.is_some_and(|entry| entry.to == Some(side))
        });
        Ok((texts.count() as u64).min(pending))
    }

    pub(crate) fn typing(&mut self, who: Who, typing: &fb::Typing<'_>, out: &mut Output) {
        let Some(key) = self.conversations.find(Id::from(typing.conversation())) else {
            return;
        };
        let conversation = self.conversations.at(key);
        if let Some(side) = conversation.side_of(who.id)
            && conversation.is_open()
        {
            out.effects.push(Effect::Typing {
                conversation: key,
                side,
                active: typing.active(),
            });
        }
    }

    /// Puts the marks that are ahead of the store into the WriteSet.
    pub(crate) fn write_marks(&mut self, out: &mut Output) {
        self.marks_due_us = u64::MAX;
        for key in std::mem::take(&mut self.marks_dirty) {
            self.write_marks_of(key, out);
        }
    }

    /// Puts one conversation's marks into the WriteSet if they are ahead of the store: what they say is delivered is
    /// in the ledger from now on. True if they were.
    pub(crate) fn write_marks_of(&mut self, key: ConversationKey, out: &mut Output) -> bool {
        let Some(conversation) = self.conversations.get_mut(key) else {
            return false;
        };
        let dirty = std::mem::take(&mut conversation.marks_dirty);
        if dirty {
            conversation.marks_turn = self.turn;
            out.writes.marks.push(conversation.marks_row());
            self.ledger
                .deliver(std::mem::take(&mut conversation.delivered_unwritten));
        }
        dirty
    }
}
