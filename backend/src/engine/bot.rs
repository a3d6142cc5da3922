//! What a bot says to a visitor whom no agent has.

use tidegate_protocol::Id;

use super::Engine;
use super::effect::{Effect, Output};
use super::kinds::Role;
use super::sending::{MessageId, Who, body_hash, is_text};
use super::table::{Event, Step, step};

/// Who a bot's messages are from: "bot" in ASCII. No id that is made is so small, for each begins with its time.
pub const BOT_PRINCIPAL: Id = Id(0x0062_6f74);

impl Engine {
    /// A message from the bot, if the conversation is open and nobody has it; else nothing, and it is counted. It is a
    /// text to the visitor like an agent's, in the ledger too, but no agent's answer: who waits waits on.
    pub(crate) fn bot_said(&mut self, conversation: Id, text: &str, out: &mut Output) {
        let key = self.conversations.find(conversation);
        let status = key.map(|key| self.conversations.at(key).row.status);
        let step = step(status, Event::BotText);
        let (Some(key), Step::Append, true) = (key, step, is_text(text)) else {
            self.tally.bot_dropped += 1;
            return;
        };
        let who = Who {
            id: BOT_PRINCIPAL,
            role: Role::Bot,
            widget: 0,
        };
        let id = MessageId::of_none(body_hash(conversation, text));
        let seq = self.append_text(key, who, text, id, out);
        self.tally.bot_said += 1;
        out.effects.push(Effect::Appended {
            conversation: key,
            seq,
        });
    }
}
