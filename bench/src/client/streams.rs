//! What was received, per conversation: nothing twice, nothing out of order, no gap unnoticed; and the marks that say
//! so (`protocol/README.md` § 7 and § 8).
//!
//! A stream's `cursor` is the highest seq up to which everything was handed on. A message beyond cursor + 1 is held
//! back; if what is missing does not come, a resume from the cursor brings it. Our own messages are known from their
//! SendResult and fill their places. What the server can't replay becomes the stream's `hole`: until the driver says
//! that it holds it, the hole's beginning is what we claim.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::limits::CURSORS_PER_HELLO_MAX;
use tidegate_protocol::{Id, fb, message};

use super::event::Message;
use super::limits::{
    ACK_LOST_US, ACK_US, CONVERSATIONS_MAX, GAP_US, HELD_MESSAGES_MAX, JOIN_GAP_US,
    RESUMES_PER_GAP_MAX,
};
use super::{Event, NEVER};

#[derive(Debug)]
struct Stream {
    conversation: Id,
    incarnation: u64,
    cursor: u64,
    hole: Option<(u64, u64)>,
    /// Handed on already, beyond a hole that a resume filled later: after .. ≤ to.
    emitted: (u64, u64),
    /// Beyond cursor + 1.
    held: BTreeMap<u64, Box<Message>>,
    /// Our own acknowledged messages beyond cursor + 1.
    own: BTreeSet<u64>,
    /// The highest seq that the server spoke of.
    announced: u64,
    gap_due_us: u64,
    gap_from: u64,
    delivered: u64,
    read: u64,
    acked_delivered: u64,
    acked_read: u64,
    acked_at_us: u64,
    touched: u64,
    gap_resumes: u8,
    /// Never resumed, nothing received: what is missing now is history, not loss.
    fresh: bool,
    /// The last Welcome did not name it.
    unresumed: bool,
    /// Something arrived: the server wants to hear that it did, new or not.
    owes_ack: bool,
    closed: bool,
}

impl Stream {
    fn new(conversation: Id) -> Self {
        Self {
            conversation,
            incarnation: 0,
            cursor: 0,
            hole: None,
            emitted: (0, 0),
            held: BTreeMap::new(),
            own: BTreeSet::new(),
            announced: 0,
            gap_due_us: NEVER,
            gap_from: 0,
            delivered: 0,
            read: 0,
            acked_delivered: 0,
            acked_read: 0,
            acked_at_us: 0,
            touched: 0,
            gap_resumes: 0,
            fresh: true,
            unresumed: false,
            owes_ack: false,
            closed: false,
        }
    }

    /// Everything up to here is with the driver.
    fn holds(&self) -> u64 {
        self.hole.map_or(self.cursor, |(after, _)| after)
    }

    fn is_dirty(&self) -> bool {
        self.owes_ack
            || self.delivered > self.acked_delivered
            || self.read.min(self.delivered) > self.acked_read
    }

    fn skip_to(&mut self, seq: u64) {
        self.cursor = seq;
        self.fresh = false;
        self.gap_resumes = 0;
        self.held = self.held.split_off(&(seq + 1));
        self.own = self.own.split_off(&(seq + 1));
    }

    fn hand_on(&mut self, message: Box<Message>, events: &mut Vec<Event>) {
        self.cursor = message.seq;
        self.fresh = false;
        self.gap_resumes = 0;
        self.own.remove(&message.seq);
        let (after, to) = self.emitted;
        if message.seq <= after || message.seq > to {
            events.push(Event::Message(message));
        }
    }

    fn open_hole(&mut self, after: u64, to: u64, reset: bool, events: &mut Vec<Event>) {
        self.hole = (to > after).then_some((after, to));
        events.push(Event::Hole {
            conversation: self.conversation,
            incarnation: self.incarnation,
            after,
            to,
            reset,
        });
    }

    fn recovered(&mut self, seq: u64) {
        let Some((after, to)) = self.hole.take() else {
            return;
        };
        // What follows the hole's beginning comes again: the part beyond the hole was handed on already.
        if self.cursor > to {
            self.emitted = (to, self.cursor);
        }
        self.cursor = after.min(seq);
    }

    fn unrecovered(&mut self, seq: u64, reset: bool, events: &mut Vec<Event>) {
        let after = if reset { 0 } else { self.holds().min(seq) };
        self.skip_to(seq);
        self.hole = None;
        self.emitted = (0, 0);
        if seq > after || reset {
            self.open_hole(after, seq, reset, events);
        }
    }

    /// Another history: what we said of the old one means nothing. True: it is another.
    fn put_incarnation(&mut self, incarnation: u64) -> bool {
        let reset = self.incarnation != 0 && self.incarnation != incarnation;
        self.incarnation = incarnation;
        reset
    }
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    touches: u64,
    flushed_at_us: u64,
    side: fb::Side,
    live: bool,
    /// The newest Welcome answers no Hello: it does not know our cursors.
    again: bool,
    /// A gap wants a resume: connect again.
    pub(super) wants_resume: bool,
}

impl Streams {
    fn touch(&mut self, conversation: Id) -> usize {
        self.touches += 1;
        let touched = self.touches;
        let found = self.find(conversation);
        let index = found.unwrap_or_else(|| {
            if self.streams.len() >= CONVERSATIONS_MAX {
                self.forget_one();
            }
            self.streams.push(Stream::new(conversation));
            self.streams.len() - 1
        });
        self.streams[index].touched = touched;
        index
    }

    fn find(&self, conversation: Id) -> Option<usize> {
        let is_it = |stream: &Stream| stream.conversation == conversation;
        self.streams.iter().position(is_it)
    }

    fn forget_one(&mut self) {
        let closed = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, one)| one.closed);
        if let Some((index, _)) = closed.min_by_key(|(_, one)| one.touched) {
            self.streams.swap_remove(index);
        }
    }

    // --- resume ------------------------------------------------------------------------------------------------

    /// For Hello: what we hold; the open ones first, then the newest.
    pub(super) fn cursors(&self) -> Vec<message::Cursor> {
        let mut known: Vec<&Stream> = self
            .streams
            .iter()
            .filter(|one| one.incarnation != 0)
            .collect();
        known.sort_by_key(|one| (one.closed, core::cmp::Reverse(one.touched)));
        known.truncate(CURSORS_PER_HELLO_MAX);
        let cursor = |one: &Stream| message::Cursor {
            conversation: one.conversation,
            incarnation: one.incarnation,
            seq: one.holds(),
        };
        known.into_iter().map(cursor).collect()
    }

    pub(super) fn lost(&mut self) {
        self.live = false;
        self.wants_resume = false;
        self.flushed_at_us = 0;
        for stream in &mut self.streams {
            stream.gap_due_us = NEVER;
        }
    }

    /// A Welcome came; [`resumed`](Self::resumed) follows for each conversation that it names.
    /// `again`: on a connection that was open, because the server was started anew.
    pub(super) fn welcomed(&mut self, side: fb::Side, again: bool) {
        self.live = true;
        self.side = side;
        self.again = again;
        for stream in &mut self.streams {
            stream.unresumed = true;
        }
    }

    pub(super) fn resumed(
        &mut self,
        state: &fb::ConversationState<'_>,
        recovered: bool,
        events: &mut Vec<Event>,
    ) {
        let side = self.side;
        let index = self.touch(state.conversation().into());
        let stream = &mut self.streams[index];
        let (seq, known) = (state.seq(), stream.incarnation != 0);
        let reset = stream.put_incarnation(state.incarnation());
        stream.unresumed = false;
        stream.announced = seq;
        stream.closed = state.status() == fb::ConversationStatus::Closed;
        stream.held.clear();
        if reset {
            (stream.delivered, stream.read) = (0, 0);
            stream.own.clear();
        }
        marks_of(stream, side, state);
        if known {
            events.push(Event::Resumed {
                conversation: stream.conversation,
                incarnation: stream.incarnation,
                seq,
                recovered: recovered && !reset,
            });
        }
        if recovered && !reset {
            stream.recovered(seq);
            // It goes on behind our side's mark, which another device of ours, or who had the conversation before, may
            // have raised beyond what we hold.
            self.wants_resume |= self.again && stream.holds() < stream.acked_delivered;
        } else {
            stream.unrecovered(seq, reset, events);
        }
        stream.fresh = false;
        stream.delivered = stream.delivered.max(stream.holds());
    }

    /// The server spoke of a conversation outside Welcome.
    pub(super) fn state(
        &mut self,
        state: &fb::ConversationState<'_>,
        takes_part: bool,
        now_us: u64,
        events: &mut Vec<Event>,
    ) {
        let side = self.side;
        let index = self.touch(state.conversation().into());
        let stream = &mut self.streams[index];
        stream.closed = state.status() == fb::ConversationStatus::Closed;
        if stream.unresumed && takes_part {
            // Too many for one Welcome: this one's gap is not replayed, and must not go unnoticed.
            let seq = state.seq();
            let reset = stream.put_incarnation(state.incarnation());
            stream.unresumed = false;
            stream.announced = seq;
            marks_of(stream, side, state);
            if seq > stream.cursor || reset {
                stream.unrecovered(seq, reset, events);
            }
            self.advance(index, now_us, events);
            return;
        }
        if stream.incarnation == 0 {
            stream.incarnation = state.incarnation();
        }
        stream.announced = stream.announced.max(state.seq());
        // Marks live in the server's memory for a moment: what a crash there lost is said again.
        if now_us > stream.acked_at_us + ACK_LOST_US {
            marks_of(stream, side, state);
        }
        if takes_part {
            self.watch_gap(index, now_us);
        }
    }

    // --- receiving ---------------------------------------------------------------------------------------------

    pub(super) fn message(&mut self, message: Box<Message>, now_us: u64, events: &mut Vec<Event>) {
        let index = self.touch(message.conversation);
        let stream = &mut self.streams[index];
        stream.owes_ack = true;
        if message.seq <= stream.cursor {
            return;
        }
        stream.announced = stream.announced.max(message.seq);
        if message.seq == stream.cursor + 1 {
            stream.hand_on(message, events);
        } else {
            stream.held.insert(message.seq, message);
        }
        self.advance(index, now_us, events);
        if self.streams[index].held.len() > HELD_MESSAGES_MAX {
            self.repair(index, now_us, events);
        }
    }

    /// Our own message was accepted.
    pub(super) fn own_message(
        &mut self,
        conversation: Id,
        seq: u64,
        now_us: u64,
        events: &mut Vec<Event>,
    ) {
        let index = self.touch(conversation);
        let stream = &mut self.streams[index];
        if seq > stream.cursor {
            stream.own.insert(seq);
            self.advance(index, now_us, events);
        }
    }

    fn advance(&mut self, index: usize, now_us: u64, events: &mut Vec<Event>) {
        let stream = &mut self.streams[index];
        loop {
            let next = stream.cursor + 1;
            if let Some(message) = stream.held.remove(&next) {
                stream.hand_on(message, events);
            } else if stream.own.remove(&next) {
                stream.skip_to(next);
            } else {
                break;
            }
        }
        stream.delivered = stream.delivered.max(stream.holds());
        self.watch_gap(index, now_us);
    }

    // --- gaps --------------------------------------------------------------------------------------------------

    /// Something beyond the cursor is known: what lies between is waited for, for a while.
    fn watch_gap(&mut self, index: usize, now_us: u64) {
        let live = self.live;
        let stream = &mut self.streams[index];
        let missing = !stream.held.is_empty() || (stream.fresh && stream.announced > stream.cursor);
        if !missing {
            stream.gap_due_us = NEVER;
        } else if stream.gap_due_us == NEVER && live {
            let wait_us = if stream.fresh { JOIN_GAP_US } else { GAP_US };
            stream.gap_due_us = now_us + wait_us;
            stream.gap_from = stream.cursor;
        }
    }

    fn repair(&mut self, index: usize, now_us: u64, events: &mut Vec<Event>) {
        let stream = &mut self.streams[index];
        stream.gap_due_us = NEVER;
        if !stream.fresh && stream.gap_resumes < RESUMES_PER_GAP_MAX {
            stream.gap_resumes += 1;
            events.push(Event::Missed {
                conversation: stream.conversation,
                after: stream.cursor,
            });
            self.wants_resume = true;
            return;
        }
        // History that the socket does not bring: up to the first thing that is there.
        let there = stream.held.keys().chain(&stream.own).copied();
        let first = there.chain([stream.announced + 1]).min().unwrap_or(1);
        let after = stream.holds();
        stream.skip_to(first - 1);
        stream.open_hole(after, first - 1, false, events);
        self.advance(index, now_us, events);
    }

    // --- marks -------------------------------------------------------------------------------------------------

    /// The driver holds everything up to seq.
    pub(super) fn holds(
        &mut self,
        conversation: Id,
        seq: u64,
        now_us: u64,
        events: &mut Vec<Event>,
    ) {
        let index = self.touch(conversation);
        let stream = &mut self.streams[index];
        match &mut stream.hole {
            Some((_, to)) if seq >= *to => stream.hole = None,
            Some((after, _)) => *after = (*after).max(seq),
            None => {}
        }
        if seq > stream.cursor {
            stream.skip_to(seq);
        }
        self.advance(index, now_us, events);
    }

    pub(super) fn read_up_to(&mut self, conversation: Id, seq: u64) {
        let index = self.touch(conversation);
        let stream = &mut self.streams[index];
        stream.read = stream.read.max(seq);
    }

    /// The highest seq up to which everything was handed on, or told as a hole that was settled.
    pub(super) fn cursor(&self, conversation: Id) -> u64 {
        self.find(conversation)
            .map_or(0, |index| self.streams[index].holds())
    }

    /// When acknowledgements or gaps are due.
    pub(super) fn deadline_us(&self) -> u64 {
        if !self.live {
            return NEVER;
        }
        let gaps = self
            .streams
            .iter()
            .map(|one| one.gap_due_us)
            .min()
            .unwrap_or(NEVER);
        if self.streams.iter().any(Stream::is_dirty) {
            gaps.min(self.flushed_at_us + ACK_US)
        } else {
            gaps
        }
    }

    pub(super) fn tick(&mut self, now_us: u64, events: &mut Vec<Event>) {
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            if now_us < stream.gap_due_us {
                continue;
            }
            stream.gap_due_us = NEVER;
            if stream.cursor == stream.gap_from {
                self.repair(index, now_us, events);
            } else {
                self.watch_gap(index, now_us);
            }
        }
    }

    /// What is to be acknowledged now: each conversation that owes an Ack, or whose marks rose.
    pub(super) fn acks(&mut self, now_us: u64) -> Vec<message::Ack> {
        let due = self.live && now_us >= self.flushed_at_us.saturating_add(ACK_US);
        let mut acks = Vec::new();
        if !due && self.flushed_at_us != 0 || !self.live {
            return acks;
        }
        for stream in self.streams.iter_mut().filter(|one| one.is_dirty()) {
            let read = stream.read.min(stream.delivered);
            acks.push(message::Ack {
                conversation: stream.conversation,
                delivered: stream.delivered,
                read,
            });
            stream.owes_ack = false;
            stream.acked_delivered = stream.delivered;
            stream.acked_read = stream.acked_read.max(read);
            stream.acked_at_us = now_us;
            self.flushed_at_us = now_us;
        }
        acks
    }
}

fn marks_of(stream: &mut Stream, side: fb::Side, state: &fb::ConversationState<'_>) {
    (stream.acked_delivered, stream.acked_read) = if side == fb::Side::Agent {
        (state.agent_delivered(), state.agent_read())
    } else {
        (state.visitor_delivered(), state.visitor_read())
    };
}
