// What is known of each conversation: the newest ConversationState, with marks and messages that came after it.

import { CONVERSATIONS_MAX } from './limits.js';
import { placeOf } from './queue.js';

const MARKS = ['visitor_delivered', 'visitor_read', 'agent_delivered', 'agent_read'];
const LAST_TEXT_CHARS_MAX = 120;

export class Conversations {
  constructor() {
    this.states = new Map();
    this.unnamed = new Set();
  }

  isClosed(conversation) {
    const state = this.states.get(conversation);
    return !state || state.status === 'closed';
  }

  /** The newest state wins, but marks never go back within one incarnation. */
  put(state) {
    const known = this.states.get(state.conversation);
    if (known && known.incarnation === state.incarnation) {
      for (const mark of MARKS) state[mark] = Math.max(state[mark], known[mark]);
    }
    this.states.delete(state.conversation);
    this.unnamed.delete(state.conversation);
    if (!state.mine) return;
    this.states.set(state.conversation, state);
    if (this.states.size <= CONVERSATIONS_MAX) return;
    for (const [conversation, { status }] of this.states) {
      if (status !== 'closed') continue;
      this.states.delete(conversation);
      this.unnamed.delete(conversation);
      return;
    }
  }

  /** A Welcome came: of the open ones those that it, and what follows it, does not name are not ours any more. */
  expect(named) {
    this.unnamed = new Set();
    for (const { conversation, status } of this.states.values()) {
      if (status !== 'closed' && !named.has(conversation)) this.unnamed.add(conversation);
    }
    return this.unnamed.size > 0;
  }

  /** Takes out what was not named. Returns their last states, with `mine` false. */
  dropUnnamed() {
    const gone = [...this.unnamed].map((conversation) => ({ ...this.states.get(conversation), mine: false }));
    for (const { conversation } of gone) this.states.delete(conversation);
    this.unnamed.clear();
    return gone;
  }

  receipt({ conversation, side, delivered, read }) {
    const state = this.states.get(conversation);
    if (!state || side === 'unknown') return;
    state[`${side}_delivered`] = Math.max(state[`${side}_delivered`], delivered);
    state[`${side}_read`] = Math.max(state[`${side}_read`], read);
  }

  /** What the queue's numbers say of each conversation of ours that waits in it; an agent's are handed on as they are. */
  queue(update) {
    if (update.marks.length === 0) return [update];
    const mine = [];
    for (const state of this.states.values()) {
      const position = state.status === 'waiting' && state.queue_ticket ? placeOf(state.queue_ticket, update.marks) : 0;
      if (position === 0) continue;
      state.position = position;
      state.eta_ms = position * update.each_ms;
      mine.push({ ...update, conversation: state.conversation, position, eta_ms: state.eta_ms });
    }
    return mine;
  }

  /** The newest thing said. */
  said({ conversation, seq, at_us, text }) {
    const state = this.states.get(conversation);
    if (!state || seq <= state.seq) return;
    state.seq = seq;
    if (!text) return;
    state.last_text = text.slice(0, LAST_TEXT_CHARS_MAX);
    state.last_at_us = at_us;
  }
}
