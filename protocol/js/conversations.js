// What is known of each conversation: the newest ConversationState, with marks and messages that came after it.

import { CONVERSATIONS_MAX } from './limits.js';

const MARKS = ['visitor_delivered', 'visitor_read', 'agent_delivered', 'agent_read'];
const LAST_TEXT_CHARS_MAX = 120;

export class Conversations {
  constructor() {
    this.states = new Map();
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
    if (!state.mine) return;
    this.states.set(state.conversation, state);
    if (this.states.size <= CONVERSATIONS_MAX) return;
    for (const [conversation, { status }] of this.states) {
      if (status !== 'closed') continue;
      this.states.delete(conversation);
      return;
    }
  }

  /** Open ones that a Welcome did not name: this principal no longer takes part. Returns their last states. */
  dropMissing(named) {
    const gone = [];
    for (const state of this.states.values()) {
      if (state.status !== 'closed' && !named.has(state.conversation)) gone.push({ ...state, mine: false });
    }
    for (const { conversation } of gone) this.states.delete(conversation);
    return gone;
  }

  receipt({ conversation, side, delivered, read }) {
    const state = this.states.get(conversation);
    if (!state || side === 'unknown') return;
    state[`${side}_delivered`] = Math.max(state[`${side}_delivered`], delivered);
    state[`${side}_read`] = Math.max(state[`${side}_read`], read);
  }

  queue({ conversation, position, eta_ms }) {
    const state = this.states.get(conversation);
    if (state) Object.assign(state, { position, eta_ms });
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
