// The messages of one conversation as data: merged by seq from any source (socket, history, outbox), bounded, and
// turned into rows to draw. No DOM in here.
import { dayNumber, nowUs } from './time.js';

const GROUP_US_MAX = 60e6; // bubbles of one sender within a minute stand together

export class Timeline {
  #bySeq = new Map();
  #sorted = null;

  /** `messages_max`: beyond it the oldest are forgotten; they can be read from history again. */
  constructor(messages_max = 2000) {
    this.messages_max = messages_max;
    this.complete = false; // the first message of the conversation is here
  }

  /** Adds messages; those already here stay as they are. Answers how many were new. */
  add(messages) {
    let added = 0;
    for (const message of messages) {
      const known = this.#bySeq.get(message.seq);
      if (known) {
        if (!known.sender_name && message.sender_name) known.sender_name = message.sender_name;
        continue;
      }
      this.#bySeq.set(message.seq, message);
      if (message.seq === 1) this.complete = true;
      added += 1;
    }
    if (added) this.#sorted = null;
    return added;
  }

  /** Forgets the oldest beyond the bound. Called when the reader isn't looking at them. */
  trim() {
    if (this.#bySeq.size <= this.messages_max) return;
    const keep = this.messages.slice(-this.messages_max);
    this.#bySeq = new Map(keep.map((message) => [message.seq, message]));
    this.#sorted = keep;
    this.complete = keep[0]?.seq === 1;
  }

  get messages() {
    this.#sorted ??= [...this.#bySeq.values()].sort((a, b) => a.seq - b.seq);
    return this.#sorted;
  }

  get first() { return this.messages[0]; }
  get last() { return this.messages[this.messages.length - 1]; }
  get size() { return this.#bySeq.size; }
}

/** The tick of an own message: what the other side's marks say of its seq. */
export function tickOf(seq, marks) {
  if (marks.read >= seq) return 'read';
  return marks.delivered >= seq ? 'delivered' : 'sent';
}

/**
 * Rows to draw, oldest first. `mine(message)` says whose side a message is on; `marks` are the other side's;
 * `outbox` holds what isn't acknowledged yet; `keyOf(message)` keeps a row's key when it leaves the outbox.
 */
export function rowsOf(messages, { mine, marks, outbox = [], keyOf, now = nowUs() }) {
  const rows = [];
  let day = 0;
  let previous = null;

  const openDay = (at) => {
    const number = dayNumber(at);
    if (number === day) return;
    day = number;
    rows.push({ type: 'day', key: `day${number}`, at });
    previous = null;
  };

  const push = (row) => {
    const together = previous && previous.own === row.own && previous.who === row.who && row.at - previous.groupAt < GROUP_US_MAX;
    row.starts = !together;
    row.ends = true;
    row.groupAt = together ? previous.groupAt : row.at;
    if (together) previous.ends = false;
    rows.push(row);
    previous = row;
  };

  for (const message of messages) {
    openDay(message.at_us);
    if (message.content === 'system') {
      rows.push({ type: 'system', key: `s${message.conversation}${message.seq}`, message });
      previous = null;
      continue;
    }
    const own = mine(message);
    push({
      type: 'message', key: keyOf?.(message) ?? `s${message.conversation}${message.seq}`, own, text: message.text, at: message.at_us,
      who: message.sender_role === 'bot' ? 'bot' : own ? 'own' : message.sender || message.sender_role, name: message.sender_name, role: message.sender_role,
      state: own ? tickOf(message.seq, marks(message)) : '', seq: message.seq,
    });
  }
  for (const item of outbox) {
    const at = item.at || now;
    openDay(at);
    push({ type: 'message', key: item.key, own: true, text: item.text, at, who: 'own', name: '', role: '', state: item.state, reason: item.reason, seq: 0, item });
  }
  for (let i = rows.length - 1, below = ''; i >= 0; i -= 1) {
    const row = rows[i];
    if (row.type !== 'message' || !row.own) { below = row.type === 'message' ? below : ''; continue; }
    row.showTick = row.ends || row.state !== below || row.state === 'failed';
    below = row.state;
  }
  return rows;
}
