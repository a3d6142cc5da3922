//! Who was told what. Everything that a client learns is compared with what others learned, and at the end with the
//! database.

use std::collections::BTreeMap;

use tidegate_protocol::Id;

/// The id of a message: whose, session, n.
pub type MessageId = (Id, u64, u64);

/// What stands at one place of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By whom; absent: the system.
    pub sender: Id,
    /// With `n` its id; 0: none.
    pub session: u64,
    /// Counts up by one.
    pub n: u64,
    /// Words.
    pub text: String,
    /// What happened, if the system speaks.
    pub system: u8,
}

/// What was learned so far.
#[derive(Default)]
pub struct Oracle {
    /// Where an accepted message stands.
    pub accepted: BTreeMap<MessageId, (Id, u64)>,
    /// What somebody was shown.
    pub shown: BTreeMap<(Id, u64), Said>,
    /// By conversation and agent: they have it (`None`), or had it until its newest message was this one.
    assigned: BTreeMap<(Id, Id), Option<u64>>,
    /// Commands to hand a conversation on, by conversation: asked, and of these refused.
    pub transfers: BTreeMap<Id, (u64, u64)>,
    /// Backends that were started.
    pub backends: u64,
    /// Whose a conversation is.
    pub visitor_of: BTreeMap<Id, Id>,
    /// Promises that were broken, in order.
    pub failures: Vec<String>,
}

impl Oracle {
    /// A promise was broken.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// A client was told that its message was accepted.
    pub fn accepted(&mut self, id: MessageId, conversation: Id, seq: u64) {
        let place = (conversation, seq);
        match self.accepted.insert(id, place) {
            Some(before) if before != place => self.fail(format!(
                "{} of session {:x} was first told {} {}, then {conversation} {seq}",
                id.2, id.1, before.0, before.1
            )),
            _ => {}
        }
    }

    /// A client was shown what stands at a place.
    pub fn shown(&mut self, conversation: Id, seq: u64, said: Said) {
        match self.shown.get(&(conversation, seq)) {
            Some(before) if *before != said => self.fail(format!(
                "two people read different things at {conversation} {seq}: {before:?} and {said:?}"
            )),
            Some(_) => {}
            None => {
                self.shown.insert((conversation, seq), said);
            }
        }
    }

    /// Whose a conversation is after a turn, up to its newest message.
    pub fn assigned(&mut self, conversation: Id, agent: Option<Id>, seq: u64) {
        let all = (conversation, Id::ABSENT)..=(conversation, Id(u128::MAX));
        for (&(_, other), until) in self.assigned.range_mut(all) {
            if Some(other) != agent && until.is_none() {
                *until = Some(seq);
            }
        }
        if let Some(agent) = agent {
            self.assigned.insert((conversation, agent), None);
        }
    }

    /// An agent is shown something of a conversation, up to a message.
    pub fn shown_to_agent(&mut self, agent: Id, conversation: Id, seq: u64) {
        match self.assigned.get(&(conversation, agent)) {
            None => self.fail(format!(
                "agent {agent} is shown {conversation}, which was never theirs"
            )),
            Some(&Some(until)) if seq > until => self.fail(format!(
                "agent {agent} is shown {seq} of {conversation}, which was theirs up to {until}"
            )),
            Some(_) => {}
        }
    }

    /// A visitor is shown something of a conversation.
    pub fn shown_to_visitor(&mut self, visitor: Id, conversation: Id) {
        let owner = *self.visitor_of.entry(conversation).or_insert(visitor);
        if owner != visitor {
            self.fail(format!(
                "visitor {visitor} is shown {conversation}, which is {owner}'s"
            ));
        }
    }
}
