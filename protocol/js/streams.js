// What was received, per conversation: nothing twice, nothing out of order, no gap unnoticed; and the marks that say so.
//
// A stream's `cursor` is the highest seq up to which everything was handed on. A message beyond cursor + 1 is held
// back for a moment; if what is missing does not come, a resume from the cursor brings it. Our own messages are
// known from their SendResult and fill their places in the sequence. What the server can't replay becomes the
// stream's `hole`: the application reads it over HTTP and says so by delivered(); until then the hole's beginning is
// what we claim to hold, so neither a reconnect nor a crash can make the server believe otherwise.

import { ACK_LOST_MS, ACK_MS, CONVERSATIONS_MAX, CURSORS_PER_HELLO_MAX, GAP_MS, HELD_MESSAGES_MAX, JOIN_GAP_MS,
  RESUMES_PER_GAP_MAX } from './limits.js';

/** In place of a timer: acknowledgements leave when what arrived was looked at. */
const SOON = 'soon';

class Stream {
  constructor(conversation) {
    this.conversation = conversation;
    this.incarnation = 0;
    this.cursor = 0;
    this.fresh = true;        // never resumed, nothing received: what is missing now is history, not loss
    this.hole = null;         // { after, to }: after < seq <= to did not come over the socket
    this.emittedTo = 0;       // handed on already, beyond a hole that a later resume filled
    this.emittedAfter = 0;
    this.held = new Map();    // seq → message, beyond cursor + 1
    this.own = new Map();     // seqs beyond cursor + 1 that are our own acknowledged messages
    this.unresumed = false;   // the last Welcome did not name it
    this.announced = 0;       // highest seq that the server spoke of
    this.gapTimer = null;
    this.gapResumes = 0;
    this.delivered = 0;
    this.read = 0;
    this.ackedDelivered = 0;
    this.ackedRead = 0;
    this.owesAck = false;     // something arrived: the server wants to hear that it did, new or not
    this.ackedAt = 0;
  }

  /** Everything up to here is with the application. */
  holds() {
    return this.hole ? this.hole.after : this.cursor;
  }
}

export class Streams {
  /** hooks: { deliver(message), history(event) → heard?, resume(), ack(values), isClosed(conversation), side() } */
  constructor(clock, hooks) {
    this.clock = clock;
    this.hooks = hooks;
    this.streams = new Map(); // in order of last touch
    this.ackTimer = null;
    this.flushedAt = 0;
    this.live = false;
  }

  touch(conversation) {
    const stream = this.streams.get(conversation) || new Stream(conversation);
    this.streams.delete(conversation);
    this.streams.set(conversation, stream);
    if (this.streams.size > CONVERSATIONS_MAX) this.forgetOne();
    return stream;
  }

  forgetOne() {
    for (const [conversation, stream] of this.streams) {
      if (!this.hooks.isClosed(conversation)) continue;
      this.clearGap(stream);
      this.streams.delete(conversation);
      return;
    }
  }

  // --- resume ----------------------------------------------------------------------------------------------------

  /** For Hello: what we hold. */
  cursors() {
    const closed = this.hooks.isClosed;
    return Array.from(this.streams.values()).reverse()
      .filter((stream) => stream.incarnation !== 0)
      .sort((a, b) => Number(closed(a.conversation)) - Number(closed(b.conversation)))
      .slice(0, CURSORS_PER_HELLO_MAX)
      .map((stream) => ({ conversation: stream.conversation, incarnation: stream.incarnation, seq: stream.holds() }));
  }

  lost() {
    this.live = false;
    if (this.ackTimer !== SOON) this.clock.clearTimeout(this.ackTimer);
    this.ackTimer = null;
    this.flushedAt = 0;
    for (const stream of this.streams.values()) this.clearGap(stream);
  }

  /**
   * `again`: on a connection that was open, because the server was started anew. Such a Welcome does not know our
   * cursors: it goes on behind our side's mark, which another device of ours, or who had the conversation before, may
   * have raised beyond what we hold. 'resume': then connect again, with cursors.
   */
  welcomed(conversations, again) {
    this.live = true;
    let lacks = false;
    for (const stream of this.streams.values()) stream.unresumed = true;
    for (const { state, recovered } of conversations) {
      const stream = this.touch(state.conversation);
      stream.unresumed = false;
      const reset = stream.incarnation !== 0 && stream.incarnation !== state.incarnation;
      stream.incarnation = state.incarnation;
      stream.announced = state.seq;
      stream.held.clear();
      if (reset) Object.assign(stream, { delivered: 0, read: 0, own: new Map() });
      this.marksOf(stream, state);
      if (recovered && !reset) {
        this.recovered(stream, state.seq);
        if (again && stream.holds() < stream.ackedDelivered) lacks = true;
      } else {
        this.unrecovered(stream, state.seq, reset);
      }
      stream.fresh = false;
      this.markDelivered(stream);
    }
    return lacks ? 'resume' : '';
  }

  welcomeLate(stream, state) {
    const reset = stream.incarnation !== 0 && stream.incarnation !== state.incarnation;
    Object.assign(stream, { unresumed: false, incarnation: state.incarnation, announced: state.seq });
    this.marksOf(stream, state);
    if (state.seq > stream.cursor || reset) this.unrecovered(stream, state.seq, reset);
    this.advance(stream);
  }

  recovered(stream, seq) {
    if (!stream.hole) return;
    // What follows the hole's beginning comes again: the part beyond the hole was handed on already.
    if (stream.cursor > stream.hole.to) {
      stream.emittedAfter = stream.hole.to;
      stream.emittedTo = stream.cursor;
    }
    stream.cursor = Math.min(stream.hole.after, seq);
    stream.hole = null;
  }

  unrecovered(stream, seq, reset) {
    const after = reset ? 0 : Math.min(stream.holds(), seq);
    this.skipTo(stream, seq);
    stream.hole = null;
    stream.emittedTo = 0;
    if (seq > after || reset) this.openHole(stream, after, seq, reset);
  }

  /** The sequence goes on after seq; what lies before is settled by other means. */
  skipTo(stream, seq) {
    stream.cursor = seq;
    stream.fresh = false;
    stream.gapResumes = 0;
    for (const key of [...stream.held.keys()]) if (key <= seq) stream.held.delete(key);
    for (const key of [...stream.own.keys()]) if (key <= seq) stream.own.delete(key);
  }

  openHole(stream, after, to, reset) {
    stream.hole = to > after ? { after, to } : null;
    const { conversation, incarnation } = stream;
    if (!this.hooks.history({ conversation, after, to, incarnation, reset })) stream.hole = null;
  }

  // --- receiving -------------------------------------------------------------------------------------------------

  /** The server spoke of a conversation outside Welcome. */
  state(state, takesPart) {
    const stream = this.touch(state.conversation);
    if (stream.unresumed && takesPart) {
      // Too many for one Welcome: this one's gap is not replayed, and must not go unnoticed.
      this.welcomeLate(stream, state);
      return;
    }
    if (stream.incarnation === 0) stream.incarnation = state.incarnation;
    stream.announced = Math.max(stream.announced, state.seq);
    // Marks live in the server's memory for a moment: what a crash there lost is said again.
    if (this.clock.now() - stream.ackedAt > ACK_LOST_MS) this.marksOf(stream, state);
    this.scheduleAcks(stream);
    if (takesPart) this.watchGap(stream);
  }

  message(message) {
    const stream = this.touch(message.conversation);
    stream.owesAck = true;
    if (message.seq <= stream.cursor) return this.scheduleAcks(stream);
    stream.announced = Math.max(stream.announced, message.seq);
    if (message.seq !== stream.cursor + 1) stream.held.set(message.seq, message);
    else this.handOn(stream, message);
    this.advance(stream);
    if (stream.held.size > HELD_MESSAGES_MAX) this.repair(stream);
    return undefined;
  }

  /** Our own message was accepted as seq. */
  ownMessage(conversation, seq) {
    const stream = this.touch(conversation);
    if (seq <= stream.cursor) return;
    stream.own.set(seq, true);
    this.advance(stream);
  }

  advance(stream) {
    for (;;) {
      const next = stream.cursor + 1;
      const message = stream.held.get(next);
      if (message) this.handOn(stream, message);
      else if (stream.own.has(next)) this.skipTo(stream, next);
      else break;
      stream.held.delete(next);
      stream.own.delete(next);
    }
    this.markDelivered(stream);
    this.watchGap(stream);
  }

  handOn(stream, message) {
    stream.cursor = message.seq;
    stream.fresh = false;
    stream.gapResumes = 0;
    stream.own.delete(message.seq);
    if (message.seq > stream.emittedAfter && message.seq <= stream.emittedTo) return;
    this.hooks.deliver(message);
  }

  // --- gaps ------------------------------------------------------------------------------------------------------

  /** Something beyond the cursor is known: what lies between is waited for, for a while. */
  watchGap(stream) {
    const missing = stream.held.size > 0 || (stream.fresh && stream.announced > stream.cursor);
    if (!missing) return this.clearGap(stream);
    if (stream.gapTimer !== null || !this.live) return;
    const at = stream.cursor;
    stream.gapTimer = this.clock.setTimeout(() => {
      stream.gapTimer = null;
      if (stream.cursor === at) this.repair(stream);
      else this.watchGap(stream);
    }, stream.fresh ? JOIN_GAP_MS : GAP_MS);
  }

  clearGap(stream) {
    this.clock.clearTimeout(stream.gapTimer);
    stream.gapTimer = null;
  }

  repair(stream) {
    this.clearGap(stream);
    if (!stream.fresh && stream.gapResumes < RESUMES_PER_GAP_MAX) {
      stream.gapResumes++;
      this.hooks.resume();
      return;
    }
    // History that the socket does not bring: up to the first thing that is there.
    let first = stream.announced + 1;
    for (const seq of [...stream.held.keys(), ...stream.own.keys()]) first = Math.min(first, seq);
    const after = stream.holds();
    this.skipTo(stream, first - 1);
    this.openHole(stream, after, first - 1, false);
    this.advance(stream);
  }

  // --- marks -----------------------------------------------------------------------------------------------------

  marksOf(stream, state) {
    const side = this.hooks.side();
    stream.ackedDelivered = state[`${side}_delivered`];
    stream.ackedRead = state[`${side}_read`];
  }

  /** The application holds everything up to seq. */
  held(conversation, seq, incarnation) {
    const stream = this.touch(conversation);
    if (incarnation && stream.incarnation === 0) stream.incarnation = incarnation;
    if (stream.hole && seq >= stream.hole.to) stream.hole = null;
    else if (stream.hole) stream.hole.after = Math.max(stream.hole.after, seq);
    if (seq > stream.cursor) this.skipTo(stream, seq);
    this.advance(stream);
  }

  readUpTo(conversation, seq) {
    const stream = this.touch(conversation);
    stream.read = Math.max(stream.read, seq);
    this.scheduleAcks(stream);
  }

  markDelivered(stream) {
    stream.delivered = Math.max(stream.delivered, stream.holds());
    this.scheduleAcks(stream);
  }

  isDirty(stream) {
    return stream.owesAck || stream.delivered > stream.ackedDelivered ||
      Math.min(stream.read, stream.delivered) > stream.ackedRead;
  }

  /** After a quiet time at once (a hidden page's timers may be minutes late), else ACK_MS after the last. */
  scheduleAcks(stream) {
    if (!this.live || this.ackTimer === SOON || !this.isDirty(stream)) return;
    const wait = this.flushedAt + ACK_MS - this.clock.now();
    if (wait > 0 && this.ackTimer === null) this.ackTimer = this.clock.setTimeout(() => this.flushAcks(), wait);
    if (wait > 0) return;
    this.clock.clearTimeout(this.ackTimer);
    this.ackTimer = SOON;
    Promise.resolve().then(() => this.ackTimer === SOON && this.flushAcks());
  }

  /** One Ack for each conversation that owes one, or whose marks rose. */
  flushAcks() {
    if (this.ackTimer !== SOON) this.clock.clearTimeout(this.ackTimer);
    this.ackTimer = null;
    if (!this.live) return;
    const acks = [];
    for (const stream of this.streams.values()) {
      if (!this.isDirty(stream)) continue;
      const { conversation, delivered } = stream;
      const read = Math.min(stream.read, delivered);
      acks.push({ conversation, delivered, read });
      stream.owesAck = false;
      stream.ackedDelivered = delivered;
      stream.ackedRead = Math.max(stream.ackedRead, read);
      stream.ackedAt = this.clock.now();
    }
    if (acks.length === 0) return;
    this.flushedAt = this.clock.now();
    this.hooks.ack(acks);
  }
}
