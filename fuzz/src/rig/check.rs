//! Compares what clients saw with what is stored, from the outside and afterwards: what was acknowledged is stored, once,
//! where the acknowledgement said; nothing else is; each sender's messages stand in the order in which they were
//! acknowledged; every conversation is gapless; and every receiver got all of it in order, or was told what not.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use tidegate_backend::store::audit::{self, MessageRow};
use tidegate_protocol::Id;

use super::journal::{Entry, Journal, Mark, Room};

/// Violations that a failure shows; the rest are counted.
const SHOWN_MAX: usize = 12;

/// What the database says.
#[derive(Debug, Default)]
pub struct Stored {
    /// `ok`, or SQLite's complaints.
    pub integrity: String,
    /// By conversation and seq.
    pub messages: Vec<MessageRow>,
}

impl Stored {
    /// Reads a database, beside a running backend or without one.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(database: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            integrity: audit::integrity(database)?,
            messages: audit::messages(database)?,
        })
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// `PRAGMA integrity_check` complains.
    Damaged(String),
    /// It was acknowledged, and is not stored at that place.
    Lost(Mark, Id, u64),
    /// It is stored more than once.
    Doubled(Mark, Vec<(Id, u64)>),
    /// Two rows have one message id.
    SameId(u64, u64),
    /// It is stored, and nobody sent it.
    Invented(Id, u64),
    /// It was acknowledged at two places.
    TwoAnswers(Mark),
    /// It was refused, and is stored.
    RefusedYetStored(Mark),
    /// A sender's messages do not stand in the order in which they were sent or acknowledged.
    OutOfOrder(Mark, Id, u64),
    /// The stored conversation lacks a seq.
    Gap(Id, u64),
    /// A receiver was handed something else than the next, and nobody said so.
    SilentGap {
        /// Whose.
        member: u32,
        /// Where.
        conversation: Id,
        /// The last that they had.
        had: u64,
        /// What came.
        came: u64,
    },
    /// A receiver had to ask for what was missing.
    Missed(u32, Id, u64),
    /// A receiver was shown something else than what is stored.
    Differs(u32, Id, u64),
    /// At the end a receiver lacks what is stored.
    Behind {
        /// Who.
        member: u32,
        /// Where.
        conversation: Id,
        /// Up to where they have it.
        has: u64,
        /// Up to where it is stored.
        stored: u64,
    },
}

/// The outcome.
#[derive(Debug, Default)]
pub struct Report {
    /// Messages that were acknowledged.
    pub accepted: u64,
    /// Messages that people wrote and the database has.
    pub stored: u64,
    /// Messages that were handed to receivers.
    pub received: u64,
    /// Holes that were announced.
    pub holes: u64,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Itself, if every promise was kept.
    ///
    /// # Errors
    /// The first violations, in words.
    pub fn into_result(self) -> anyhow::Result<Self> {
        if self.violations.is_empty() {
            return Ok(self);
        }
        anyhow::bail!("{self}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} stored, {} received, {} holes announced; {} promises broken",
            self.accepted,
            self.stored,
            self.received,
            self.holes,
            self.violations.len()
        )?;
        for violation in self.violations.iter().take(SHOWN_MAX) {
            write!(f, "\n      {violation:?}")?;
        }
        Ok(())
    }
}

/// Looks for every violation.
#[must_use]
pub fn check(journal: &Journal, stored: &Stored) -> Report {
    let mut check = Check {
        journal,
        rows: HashMap::with_capacity(stored.messages.len()),
        highest: HashMap::new(),
        report: Report::default(),
    };
    if stored.integrity != "ok" {
        check.broken(Violation::Damaged(stored.integrity.clone()));
    }
    let places = check.rows_are_unique_and_gapless(&stored.messages);
    check.sends_are_stored_as_acknowledged(&places);
    check.receivers_have_it_in_order();
    check.report
}

struct Check<'a> {
    journal: &'a Journal,
    rows: HashMap<(Id, u64), &'a MessageRow>,
    highest: HashMap<Id, u64>,
    report: Report,
}

type Places = HashMap<Mark, Vec<(Id, u64)>>;

impl<'a> Check<'a> {
    fn broken(&mut self, violation: Violation) {
        self.report.violations.push(violation);
    }

    fn rows_are_unique_and_gapless(&mut self, messages: &'a [MessageRow]) -> Places {
        let mut places: Places = HashMap::new();
        let mut ids = HashMap::new();
        for row in messages {
            let highest = self.highest.entry(row.conversation).or_default();
            let expected = *highest + 1;
            *highest = row.seq;
            if row.seq != expected {
                self.broken(Violation::Gap(row.conversation, expected));
            }
            self.rows.insert((row.conversation, row.seq), row);
            if !row.is_text {
                continue;
            }
            self.report.stored += 1;
            if row.session != 0 && ids.insert((row.session, row.n), row.seq).is_some() {
                self.broken(Violation::SameId(row.session, row.n));
            }
            match Mark::of(&row.text) {
                Some(mark) => {
                    let at = (row.conversation, row.seq);
                    places.entry(mark).or_default().push(at);
                }
                None => self.broken(Violation::Invented(row.conversation, row.seq)),
            }
        }
        for (&mark, at) in &places {
            if at.len() > 1 {
                self.report
                    .violations
                    .push(Violation::Doubled(mark, at.clone()));
            }
        }
        places
    }

    fn sends_are_stored_as_acknowledged(&mut self, places: &Places) {
        let mut sent: HashMap<Mark, ()> = HashMap::new();
        let mut answers: HashMap<Mark, (Room, u64)> = HashMap::new();
        // Per sender and conversation: the newest acknowledged, by their own count and by seq.
        let mut newest: HashMap<(u32, Room), (u32, u64)> = HashMap::new();
        for entry in self.journal.entries() {
            match *entry {
                Entry::Sent(mark) => {
                    sent.insert(mark, ());
                }
                Entry::Refused(mark) if places.contains_key(&mark) => {
                    self.broken(Violation::RefusedYetStored(mark));
                }
                Entry::Accepted {
                    mark,
                    session,
                    n,
                    room,
                    seq,
                } => {
                    self.report.accepted += 1;
                    let conversation = self.journal.conversation(room);
                    let row = self.rows.get(&(conversation, seq));
                    let kept = row.is_some_and(|row| {
                        row.session == session && row.n == n && Mark::of(&row.text) == Some(mark)
                    });
                    if !kept {
                        self.broken(Violation::Lost(mark, conversation, seq));
                    }
                    if answers.insert(mark, (room, seq)).is_some() {
                        self.broken(Violation::TwoAnswers(mark));
                    }
                    let before = newest.entry((mark.member, room)).or_default();
                    let in_order = mark.key > before.0 && seq > before.1;
                    *before = (mark.key, seq);
                    if !in_order {
                        self.broken(Violation::OutOfOrder(mark, conversation, seq));
                    }
                }
                _ => {}
            }
        }
        for (mark, at) in places {
            if !sent.contains_key(mark) {
                let (conversation, seq) = at[0];
                self.broken(Violation::Invented(conversation, seq));
            }
        }
        self.stored_order_is_the_order_of_sending(places);
    }

    /// Also of what was stored and whose acknowledgement nobody saw.
    fn stored_order_is_the_order_of_sending(&mut self, places: &Places) {
        let mut by_sender: BTreeMap<(u32, Id), Vec<(u64, Mark)>> = BTreeMap::new();
        for (&mark, at) in places {
            for &(conversation, seq) in at {
                by_sender
                    .entry((mark.member, conversation))
                    .or_default()
                    .push((seq, mark));
            }
        }
        for ((_, conversation), mut said) in by_sender {
            said.sort_unstable();
            for pair in said.windows(2) {
                if pair[1].1.key < pair[0].1.key {
                    self.broken(Violation::OutOfOrder(pair[1].1, conversation, pair[1].0));
                }
            }
        }
    }

    fn receivers_have_it_in_order(&mut self) {
        let mut has: HashMap<(u32, Room), Received> = HashMap::new();
        for entry in self.journal.entries() {
            match *entry {
                Entry::Accepted {
                    mark, room, seq, ..
                } => {
                    has.entry((mark.member, room)).or_default().own(seq);
                }
                Entry::Received {
                    member,
                    room,
                    seq,
                    mark,
                } => {
                    self.report.received += 1;
                    let conversation = self.journal.conversation(room);
                    let received = has.entry((member, room)).or_default();
                    if let Err(had) = received.next(seq) {
                        self.broken(Violation::SilentGap {
                            member,
                            conversation,
                            had,
                            came: seq,
                        });
                    }
                    let row = self.rows.get(&(conversation, seq));
                    let said = row.map(|row| {
                        if row.is_text {
                            Mark::of(&row.text)
                        } else {
                            None
                        }
                    });
                    if said != Some(mark) {
                        self.broken(Violation::Differs(member, conversation, seq));
                    }
                }
                Entry::Hole {
                    member,
                    room,
                    after,
                    to,
                    reset,
                } => {
                    self.report.holes += 1;
                    has.entry((member, room))
                        .or_default()
                        .told(after, to, reset);
                }
                Entry::Missed {
                    member,
                    room,
                    after,
                } => {
                    let conversation = self.journal.conversation(room);
                    self.broken(Violation::Missed(member, conversation, after));
                }
                Entry::Holds { member, room, seq } => {
                    let conversation = self.journal.conversation(room);
                    let stored = self.highest.get(&conversation).copied().unwrap_or(0);
                    let proven = has.entry((member, room)).or_default().up_to();
                    if seq.min(proven) < stored {
                        self.broken(Violation::Behind {
                            member,
                            conversation,
                            has: seq.min(proven),
                            stored,
                        });
                    }
                }
                Entry::Sent(_) | Entry::Refused(_) => {}
            }
        }
    }
}

/// What one receiver has of one conversation: everything up to `seq`, and own ones beyond.
#[derive(Debug, Default)]
struct Received {
    seq: u64,
    own: std::collections::BTreeSet<u64>,
}

impl Received {
    /// An own message was acknowledged at that place.
    fn own(&mut self, seq: u64) {
        if seq > self.seq {
            self.own.insert(seq);
        }
    }

    /// Own messages fill their places.
    fn up_to(&mut self) -> u64 {
        while self.own.remove(&(self.seq + 1)) {
            self.seq += 1;
        }
        self.seq
    }

    /// A message was handed on. `Err`: it was not the next after what is told. An own one that a resume brings may
    /// stand where its acknowledgement already counted.
    fn next(&mut self, seq: u64) -> Result<(), u64> {
        let was_own = self.own.contains(&seq);
        let had = self.up_to();
        if seq == had && was_own {
            return Ok(());
        }
        self.seq = self.seq.max(seq);
        self.own.remove(&seq);
        if seq == had + 1 { Ok(()) } else { Err(had) }
    }

    fn told(&mut self, after: u64, to: u64, reset: bool) {
        if reset {
            self.own.clear();
            self.seq = to;
        } else if self.up_to() >= after {
            self.seq = self.seq.max(to);
            self.own = self.own.split_off(&(self.seq + 1));
        }
    }
}

#[cfg(test)]
mod tests;
