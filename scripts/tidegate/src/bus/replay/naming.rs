//! Conversations get their ids from the backend, so another one gives others. What a recorded client says about a
//! conversation is said about the same one now: the same visitor's first, second, third. Both are told by the
//! ConversationStates that went to clients.

use std::collections::HashMap;

use tidegate_protocol::bus::{self, ENVELOPE_DOWN, MULTICAST, OPENED, Opened};
use tidegate_protocol::{Id, Kind, View, fb, verify};

use crate::bus::mask::envelope_kind;

/// A visitor's conversation: whose, and the how-manieth.
type Place = (Id, usize);

/// The conversations of one telling, recorded or live.
#[derive(Debug, Default)]
pub struct Naming {
    places: HashMap<Id, Place>,
    ids: HashMap<Id, Vec<Id>>,
}

impl Naming {
    /// Learns from what went to clients.
    pub fn learn(&mut self, kind: u16, flags: u16, payload: &[u8]) {
        let body = match kind {
            ENVELOPE_DOWN => payload,
            MULTICAST => match bus::read_multicast(payload) {
                Ok((_, body)) => body,
                Err(_) => return,
            },
            _ => return,
        };
        let view = envelope_kind(flags).and_then(|kind| verify(kind, body).ok());
        match view {
            Some(View::ConversationState(state)) => self.see(&state),
            Some(View::Welcome(welcome)) => {
                for one in welcome.conversations().into_iter().flatten() {
                    if let Some(state) = one.state() {
                        self.see(&state);
                    }
                }
            }
            _ => {}
        }
    }

    fn see(&mut self, state: &fb::ConversationState<'_>) {
        let id = |id: Option<&fb::Id>| id.map(|id| Id::from_halves(id.hi(), id.lo()));
        let (Some(conversation), Some(visitor)) = (id(state.conversation()), id(state.visitor()))
        else {
            return;
        };
        let ids = self.ids.entry(visitor).or_default();
        self.places.entry(conversation).or_insert_with(|| {
            ids.push(conversation);
            (visitor, ids.len() - 1)
        });
    }

    fn place(&self, id: Id) -> Option<Place> {
        self.places.get(&id).copied()
    }

    fn at(&self, (visitor, nth): Place) -> Option<Id> {
        self.ids.get(&visitor)?.get(nth).copied()
    }
}

/// What became of the ids in something that a client said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// It names no conversation, or all are called as they are called now.
    Whole,
    /// One is not there yet.
    NotYet,
    /// One was never told of in the recording: it stays as it is.
    Unknown,
}

/// Calls the conversations in a record that leads to the backend as they are called now.
pub fn rename(
    recorded: &Naming,
    live: &Naming,
    kind: u16,
    flags: u16,
    payload: &mut [u8],
) -> Renamed {
    let mut outcome = Renamed::Whole;
    let mut now = Vec::new();
    for at in ids(kind, flags, payload) {
        match recorded.place(id_at(payload, at)) {
            None => outcome = Renamed::Unknown,
            Some(place) => match live.at(place) {
                Some(id) => now.push((at, id)),
                // All of them or none: it is tried again.
                None => return Renamed::NotYet,
            },
        }
    }
    for (at, id) in now {
        write_id(payload, at, id);
    }
    outcome
}

const ID_BYTES: usize = 16;

/// Where the ids of conversations stand: structs lie in a table as they are, so they can be written over.
fn ids(kind: u16, flags: u16, payload: &[u8]) -> Vec<usize> {
    let (kind, body) = match kind {
        OPENED => match Opened::read(payload) {
            Ok(opened) => (Some(Kind::Hello), opened.hello),
            Err(_) => return Vec::new(),
        },
        bus::ENVELOPE => (envelope_kind(flags), payload),
        _ => return Vec::new(),
    };
    let mut found: Vec<&fb::Id> = Vec::new();
    match kind.and_then(|kind| verify(kind, body).ok()) {
        Some(View::Send(send)) => found.extend(send.conversation()),
        Some(View::Ack(ack)) => found.extend(ack.conversation()),
        Some(View::Typing(typing)) => found.extend(typing.conversation()),
        Some(View::Command(command)) => found.extend(command.conversation()),
        Some(View::Hello(hello)) => {
            let cursors = hello.cursors().into_iter().flatten();
            found.extend(cursors.filter_map(|cursor| cursor.conversation()));
        }
        _ => {}
    }
    let begin = payload.as_ptr().addr();
    let at = found
        .into_iter()
        .map(|id| std::ptr::from_ref(id).addr() - begin);
    at.filter(|at| id_at(payload, *at) != Id::default())
        .collect()
}

fn id_at(payload: &[u8], at: usize) -> Id {
    let half = |at: usize| {
        let bytes = payload[at..at + ID_BYTES / 2].try_into();
        u64::from_le_bytes(bytes.expect("8 bytes"))
    };
    Id::from_halves(half(at), half(at + ID_BYTES / 2))
}

fn write_id(payload: &mut [u8], at: usize, id: Id) {
    let (high, low) = payload[at..at + ID_BYTES].split_at_mut(ID_BYTES / 2);
    high.copy_from_slice(&id.hi().to_le_bytes());
    low.copy_from_slice(&id.lo().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::message;

    fn told(naming: &mut Naming, visitor: u128, conversation: u128) {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let state = message::ConversationState {
            conversation: Id(conversation),
            visitor: Id(visitor),
            ..Default::default()
        };
        let flags = Kind::ConversationState as u16;
        naming.learn(ENVELOPE_DOWN, flags, state.encode(&mut builder));
    }

    #[test]
    fn a_conversation_is_called_as_the_same_visitors_same_one_is_called_now() {
        let (mut recorded, mut live) = (Naming::default(), Naming::default());
        for (conversation, again) in [(11, 1 << 70), (12, 2 << 70), (11, 3 << 70)] {
            told(&mut recorded, 5, conversation);
            if again != 3 << 70 {
                told(&mut live, 5, again);
            }
        }
        told(&mut recorded, 6, 13);
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let mut say = |conversation: u128| {
            let send = message::Send {
                n: 1,
                text: "hi",
                conversation: Id(conversation),
            };
            let mut payload = send.encode(&mut builder).to_vec();
            let flags = Kind::Send as u16;
            let outcome = rename(&recorded, &live, bus::ENVELOPE, flags, &mut payload);
            let Ok(View::Send(send)) = verify(Kind::Send, &payload) else {
                panic!("still a Send")
            };
            let id = send
                .conversation()
                .map(|id| Id::from_halves(id.hi(), id.lo()));
            (outcome, id.unwrap_or_default().0)
        };
        assert_eq!(say(0), (Renamed::Whole, 0));
        assert_eq!(say(11), (Renamed::Whole, 1 << 70));
        assert_eq!(say(12), (Renamed::Whole, 2 << 70));
        assert_eq!(say(13), (Renamed::NotYet, 13));
        assert_eq!(say(14), (Renamed::Unknown, 14));
    }
}
