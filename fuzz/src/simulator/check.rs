//! After a run: what was promised is compared with what the database holds, read anew from it and from nothing else.

use std::collections::BTreeMap;

use tidegate_backend::engine::kinds::{Content, Role, Side, Status};
use tidegate_backend::engine::rows::{MarksRow, MessageRow};
use tidegate_backend::store::open::Place;
use tidegate_backend::store::read::{Direction, PAGE_ROWS_MAX, Reader};
use tidegate_backend::store::recount::recount_in;
use tidegate_protocol::Id;

use super::oracle::{Oracle, Said};

/// One conversation as stored.
struct Stored {
    visitor: Id,
    agent: Option<Id>,
    status: Status,
    delivered: BTreeMap<Side, u64>,
    messages: Vec<(MessageRow, String)>,
}

/// Compares.
///
/// # Errors
/// The database cannot be read.
pub fn compare(
    oracle: &mut Oracle,
    place: &Place,
    capacities: &[(Id, u32)],
) -> Result<Sums, String> {
    let stored = read_all(place).map_err(|error| error.to_string())?;
    gapless(oracle, &stored);
    acknowledged_is_stored(oracle, &stored);
    shown_is_stored(oracle, &stored);
    at_most_once(oracle, &stored);
    one_open_conversation_a_visitor(oracle, &stored);
    within_capacity(oracle, &stored, capacities);
    let sums = sums(&stored);
    ledger_is_closed(oracle, &sums, place)?;
    Ok(sums)
}

/// At any time: the engine's stored counters agree with the rows. A database that cannot be read now says nothing.
///
/// # Errors
/// They do not.
pub fn ledger_agrees(place: &Place) -> Result<(), String> {
    recount_in(place).map_or(Ok(()), |recount| recount.check())
}

/// The loss ledger, counted from the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Texts, per recipient side.
    pub accepted: u64,
    /// At or below the recipient's delivered mark.
    pub delivered: u64,
    /// The others.
    pub pending: u64,
}

/// The engine's counters, the recount in SQL and the count above are three pieces of code that have to agree.
fn ledger_is_closed(oracle: &mut Oracle, sums: &Sums, place: &Place) -> Result<(), String> {
    let recount = recount_in(place).map_err(|error| error.to_string())?;
    if let Err(wrong) = recount.check() {
        oracle.fail(format!("the ledger is open: {wrong}"));
    }
    let total = recount.ledger.total();
    let counted = (
        total.accepted,
        total.delivered,
        total.pending,
        total.expired,
    );
    let expected = (sums.accepted, sums.delivered, sums.pending, 0);
    if counted != expected {
        oracle.fail(format!(
            "the recount says {counted:?} (accepted, delivered, pending, expired) and the rows one by one {expected:?}"
        ));
    }
    Ok(())
}

fn read_all(place: &Place) -> Result<BTreeMap<Id, Stored>, tidegate_backend::store::StoreError> {
    let reader = Reader::new(place.open_reader()?, 1);
    let mut all = BTreeMap::new();
    let mut after = Id::ABSENT;
    loop {
        let page = reader.export(after, Id(u128::MAX))?;
        for row in page.rows {
            let conversation = row.conversation;
            let id = conversation.id;
            let listed = reader.conversation(id)?;
            let marks = listed.map(|listed| listed.state.marks);
            let mark = |of: fn(&MarksRow) -> u64| marks.as_ref().map_or(0, of);
            let stored = Stored {
                visitor: conversation.visitor,
                agent: conversation.agent,
                status: conversation.status,
                delivered: BTreeMap::from([
                    (Side::Visitor, mark(|marks| marks.visitor_delivered)),
                    (Side::Agent, mark(|marks| marks.agent_delivered)),
                ]),
                messages: messages(&reader, id)?,
            };
            all.insert(id, stored);
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

fn messages(
    reader: &Reader,
    id: Id,
) -> Result<Vec<(MessageRow, String)>, tidegate_backend::store::StoreError> {
    let mut messages: Vec<(MessageRow, String)> = Vec::new();
    loop {
        let after = messages.last().map_or(0, |last| last.0.seq);
        let page = reader.history(id, Direction::After(after), PAGE_ROWS_MAX)?;
        if page.messages.is_empty() {
            return Ok(messages);
        }
        let texts = page.messages.iter();
        let texts = texts.map(|row| (*row, page.text(row.text).to_owned()));
        messages.extend(texts.collect::<Vec<_>>());
    }
}

fn gapless(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    for (id, conversation) in stored {
        for (expected, (row, _)) in (1..).zip(&conversation.messages) {
            if row.seq != expected {
                return oracle.fail(format!("{id} has {} where {expected} belongs", row.seq));
            }
        }
    }
}

fn acknowledged_is_stored(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let accepted = std::mem::take(&mut oracle.accepted);
    for (&(principal, session, n), &(conversation, seq)) in &accepted {
        let row = message_at(stored, conversation, seq);
        let holds = row.is_some_and(|(row, _)| {
            (row.sender, row.session, row.n) == (Some(principal), session, n)
        });
        if !holds {
            oracle.fail(format!(
                "{principal} was told that {n} of session {session:x} is {conversation} {seq}; stored there: {row:?}"
            ));
        }
    }
    oracle.accepted = accepted;
}

fn message_at(
    stored: &BTreeMap<Id, Stored>,
    conversation: Id,
    seq: u64,
) -> Option<&(MessageRow, String)> {
    let index = usize::try_from(seq.checked_sub(1)?).ok()?;
    stored.get(&conversation)?.messages.get(index)
}

fn shown_is_stored(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let shown = std::mem::take(&mut oracle.shown);
    for (&(conversation, seq), said) in &shown {
        let found = message_at(stored, conversation, seq).map(|(row, text)| Said {
            sender: row.sender.unwrap_or_default(),
            session: row.session,
            n: row.n,
            text: text.clone(),
            system: row.system.code(),
        });
        if found.as_ref() != Some(said) {
            oracle.fail(format!(
                "somebody was shown {said:?} at {conversation} {seq}; stored there: {found:?}"
            ));
        }
    }
    oracle.shown = shown;
}

fn at_most_once(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let mut places = BTreeMap::new();
    for (id, conversation) in stored {
        for (row, _) in &conversation.messages {
            if row.content == Content::System || row.n == 0 {
                continue;
            }
            let place = (*id, row.seq);
            if let Some(before) = places.insert((row.sender, row.session, row.n), place) {
                oracle.fail(format!(
                    "{} of session {:x} is stored twice: {before:?} and {place:?}",
                    row.n, row.session
                ));
            }
        }
    }
}

fn one_open_conversation_a_visitor(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let mut open = BTreeMap::new();
    for (id, conversation) in stored {
        if conversation.status != Status::Closed
            && let Some(other) = open.insert(conversation.visitor, id)
        {
            let visitor = conversation.visitor;
            oracle.fail(format!(
                "{visitor} has two open conversations: {other} and {id}"
            ));
        }
    }
}

fn within_capacity(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>, capacities: &[(Id, u32)]) {
    for &(agent, capacity) in capacities {
        let open = stored.values().filter(|conversation| {
            conversation.status == Status::Chatting && conversation.agent == Some(agent)
        });
        let open = open.count();
        if open > capacity as usize {
            oracle.fail(format!(
                "{agent} has {open} conversations and room for {capacity}"
            ));
        }
    }
}

fn sums(stored: &BTreeMap<Id, Stored>) -> Sums {
    let mut sums = Sums::default();
    for conversation in stored.values() {
        for (row, _) in &conversation.messages {
            if row.content == Content::System {
                continue;
            }
            let recipient = match row.sender_role {
                Role::Visitor => Side::Agent,
                _ => Side::Visitor,
            };
            sums.accepted += 1;
            if row.seq <= conversation.delivered[&recipient] {
                sums.delivered += 1;
            } else {
                sums.pending += 1;
            }
        }
    }
    sums
}
