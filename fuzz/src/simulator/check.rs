//! After a run: what was promised is compared with what the database holds, read anew from it and from nothing else.

use std::collections::BTreeMap;

use tidegate_backend::engine::kinds::{Content, Role, Side, Status, SystemEvent};
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
    /// Retention removed what stood up to here.
    erased: u64,
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
    keeps_all: bool,
) -> Result<Sums, String> {
    let stored = read_all(place).map_err(|error| error.to_string())?;
    gapless(oracle, &stored, keeps_all);
    acknowledged_is_stored(oracle, &stored);
    shown_is_stored(oracle, &stored);
    at_most_once(oracle, &stored);
    one_open_conversation_a_visitor(oracle, &stored);
    within_capacity(oracle, &stored, capacities);
    handed_on_at_most_as_often_as_asked(oracle, &stored);
    ledger_is_closed(oracle, sums(&stored), place, keeps_all)
}

/// After a power cut under NORMAL: what the database lacks was promised by nobody any more; the count of messages that
/// were acknowledged. What it has is as it was.
///
/// # Errors
/// The database cannot be read.
pub fn forget_what_was_lost(oracle: &mut Oracle, place: &Place) -> Result<usize, String> {
    let stored = read_all(place).map_err(|error| error.to_string())?;
    let is_there = |&(conversation, seq): &(Id, u64)| {
        is_erased(&stored, conversation, seq) || message_at(&stored, conversation, seq).is_some()
    };
    let before = oracle.accepted.len();
    oracle.accepted.retain(|_, place| is_there(place));
    oracle.shown.retain(|place, _| is_there(place));
    acknowledged_is_stored(oracle, &stored);
    shown_is_stored(oracle, &stored);
    Ok(before - oracle.accepted.len())
}

/// What somebody shows of a conversation that is open is what is stored there: who was told more was told that it is
/// gone.
///
/// # Errors
/// The database cannot be read.
pub fn shows_what_is_stored<'a>(
    place: &Place,
    shows: impl Iterator<Item = ((Id, u64), &'a Said)>,
) -> Result<(), String> {
    let stored = read_all(place).map_err(|error| error.to_string())?;
    for ((conversation, seq), said) in shows {
        let found = message_at(&stored, conversation, seq).map(said_of);
        if found.as_ref() != Some(said) && !is_erased(&stored, conversation, seq) {
            return Err(format!(
                "somebody still shows {said:?} at {conversation} {seq}; stored there: {found:?}"
            ));
        }
    }
    Ok(())
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
    /// Removed by retention before they were delivered, as the ledger says.
    pub expired: u64,
}

/// The engine's counters, the recount in SQL and the count above are three pieces of code that have to agree.
fn ledger_is_closed(
    oracle: &mut Oracle,
    mut sums: Sums,
    place: &Place,
    keeps_all: bool,
) -> Result<Sums, String> {
    let recount = recount_in(place).map_err(|error| error.to_string())?;
    if let Err(wrong) = recount.check() {
        oracle.fail(format!("the ledger is open: {wrong}"));
    }
    let total = recount.ledger.total();
    if !keeps_all {
        // What was removed is known to the ledger alone; what is left has to agree.
        sums.expired = total.expired;
        sums.delivered = total.accepted - sums.pending - sums.expired;
        sums.accepted = total.accepted;
    }
    let counted = Sums {
        accepted: total.accepted,
        delivered: total.delivered,
        pending: total.pending,
        expired: total.expired,
    };
    if counted != sums {
        oracle.fail(format!(
            "the recount says {counted:?} and the rows one by one {sums:?}"
        ));
    }
    Ok(sums)
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
            let state = reader.conversation(id)?.map(|listed| listed.state);
            let erased = state.as_ref().map_or(0, |state| state.erased);
            let marks = state.map(|state| state.marks);
            let mark = |of: fn(&MarksRow) -> u64| marks.as_ref().map_or(0, of);
            let stored = Stored {
                visitor: conversation.visitor,
                agent: conversation.agent,
                status: conversation.status,
                delivered: BTreeMap::from([
                    (Side::Visitor, mark(|marks| marks.visitor_delivered)),
                    (Side::Agent, mark(|marks| marks.agent_delivered)),
                ]),
                erased,
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

fn gapless(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>, keeps_all: bool) {
    for (id, conversation) in stored {
        if keeps_all && conversation.erased > 0 {
            let erased = conversation.erased;
            return oracle.fail(format!(
                "{id} lacks everything up to {erased}, and all is kept"
            ));
        }
        for (expected, (row, _)) in (conversation.erased + 1..).zip(&conversation.messages) {
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
        if !holds && !is_erased(stored, conversation, seq) {
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
    let conversation = stored.get(&conversation)?;
    let index = seq.checked_sub(conversation.erased + 1)?;
    conversation.messages.get(usize::try_from(index).ok()?)
}

fn is_erased(stored: &BTreeMap<Id, Stored>, conversation: Id, seq: u64) -> bool {
    let conversation = stored.get(&conversation);
    conversation.is_some_and(|conversation| seq <= conversation.erased)
}

fn shown_is_stored(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let shown = std::mem::take(&mut oracle.shown);
    for (&(conversation, seq), said) in &shown {
        let found = message_at(stored, conversation, seq).map(said_of);
        if found.as_ref() != Some(said) && !is_erased(stored, conversation, seq) {
            oracle.fail(format!(
                "somebody was shown {said:?} at {conversation} {seq}; stored there: {found:?}"
            ));
        }
    }
    oracle.shown = shown;
}

fn said_of((row, text): &(MessageRow, String)) -> Said {
    Said {
        sender: row.sender.unwrap_or_default(),
        session: row.session,
        n: row.n,
        text: text.clone(),
        system: row.system.code(),
    }
}

fn at_most_once(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    let mut places = BTreeMap::new();
    for (id, conversation) in stored {
        for (row, _) in &conversation.messages {
            // Over HTTP a message has no number: its session is made of its Idempotency-Key.
            if row.content == Content::System || (row.n, row.session) == (0, 0) {
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

/// A command takes effect once, or is refused and takes none.
fn handed_on_at_most_as_often_as_asked(oracle: &mut Oracle, stored: &BTreeMap<Id, Stored>) {
    for (id, conversation) in stored {
        let (asked, refused) = oracle.transfers.get(id).copied().unwrap_or_default();
        let events = conversation.messages.iter();
        let found = events.filter(|(row, _)| row.system == SystemEvent::Transferred);
        let found = found.count() as u64;
        if found > asked - refused {
            oracle.fail(format!(
                "{id} was handed on {found} times; asked for {asked} times, refused {refused} times"
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
