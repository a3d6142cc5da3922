//! Time passes: graces end, visitors who stay away are let go, marks are written, memory is given back.

use tidegate_protocol::Id;

use super::agents::Attendance;
use super::conversation::ConversationKey;
use super::effect::{Effect, Output};
use super::input::Envelope;
use super::kinds::{Outcome, Reason, Status};
use super::rows::QuarantineRow;
use super::table::{Event, Step, step};
use super::{Engine, effect::Detail};

impl Engine {
    /// When a [`super::input::Input::Tick`] would change something, at the earliest.
    #[must_use]
    pub fn next_tick_us(&self) -> u64 {
        let agents = self.agents.next_deadline().map_or(u64::MAX, |(at, _)| at);
        let away = self.away.first().map_or(u64::MAX, |&(at, ..)| at);
        agents.min(away).min(self.marks_due_us)
    }

    pub(crate) fn tick(&mut self, out: &mut Output) {
        while let Some((at_us, agent)) = self.agents.next_deadline()
            && at_us <= self.now_us
        {
            let changed = self.agents.attend(agent, Attendance::Gone);
            if changed {
                self.presence_dirty.insert(agent);
                self.queue_dirty = true;
            }
            self.requeue_all_of(agent, out);
        }
        while let Some(&(at_us, key, id)) = self.away.first()
            && at_us <= self.now_us
        {
            self.away.pop_first();
            self.look_for_visitor(ConversationKey(key), id, out);
        }
        if self.marks_due_us <= self.now_us {
            self.write_marks(out);
        }
    }

    /// The visitor may have come back, or the conversation may be over: look before closing it.
    fn look_for_visitor(&mut self, key: ConversationKey, id: Id, out: &mut Output) {
        let found = self
            .conversations
            .get_mut(key)
            .filter(|found| found.row.id == id);
        let Some(conversation) = found else { return };
        conversation.look_at_us = 0;
        if self.connections.is_connected(conversation.row.visitor) {
            return;
        }
        let status = conversation.row.status;
        let stay_us = match status {
            Status::Waiting => self.rules.abandoned_us,
            Status::Chatting => self.rules.visitor_gone_us,
            Status::Closed => return,
        };
        if conversation.seen_at_us + stay_us > self.now_us {
            self.watch_visitor(key);
        } else if let Step::Close(reason) = step(Some(status), Event::VisitorAway) {
            self.close(key, reason, out);
        }
    }

    /// Closed conversations beyond the bound leave memory: at the beginning of a turn, so that whatever the last one
    /// said of them was published, and nothing of this one can name them. One whose marks are not stored yet stays
    /// for one turn more: who asks for it meanwhile must not read older marks.
    pub(crate) fn forget_closed(&mut self, out: &mut Output) {
        let closed_max = self.rules.closed_conversations_max;
        while let Some(key) = self.conversations.excess_closed(closed_max) {
            if self.write_marks_of(key, out) {
                return;
            }
            let seq = self
                .conversations
                .forget_oldest_closed()
                .map_or(0, |gone| gone.seq);
            out.effects.push(Effect::Forgotten {
                conversation: key,
                seq,
            });
        }
    }

    /// Puts an input aside that broke the engine twice, and answers it.
    pub(crate) fn quarantined(
        &mut self,
        envelope: &Envelope<'_>,
        position: u64,
        error: &str,
        out: &mut Output,
    ) {
        let id = self.new_id();
        self.tally.quarantined += 1;
        self.count_refusal(Reason::Internal);
        out.writes.quarantine.push(QuarantineRow {
            site_id: self.rules.site_id,
            id,
            at_us: self.now_us,
            gateway: envelope.address.gateway,
            shard: envelope.address.shard,
            position,
            principal: envelope.principal,
            error: error.to_owned(),
            input_json: serde_json::json!({
                "address": envelope.address,
                "session": envelope.session,
                "kind": envelope.kind,
                "payload_hex": envelope.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            })
            .to_string(),
        });
        // The payload may be what broke the engine: of a Send nothing but its number is read, by the checked view.
        let n = match tidegate_protocol::Kind::from_u8(envelope.kind)
            .map(|kind| tidegate_protocol::verify(kind, envelope.payload))
        {
            Some(Ok(tidegate_protocol::View::Send(send))) => Some(send.n()),
            _ => None,
        };
        out.effects.push(match n {
            Some(n) => Effect::SendResult {
                to: envelope.address,
                n,
                outcome: Outcome::Refused,
                key: None,
                conversation: Id::ABSENT,
                seq: 0,
                at_us: 0,
                expected_n: 0,
                retry_ms: 0,
                reason: Reason::Internal,
                detail: Detail::Reference(id),
            },
            None => Effect::Refused {
                to: envelope.address,
                request: 0,
                field: "",
                refusal: super::command::Refusal {
                    reason: Reason::Internal,
                    detail: format!("reference {id}").into(),
                    retry_ms: 0,
                },
            },
        });
    }
}
