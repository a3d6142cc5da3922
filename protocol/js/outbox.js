// What was said and not yet acknowledged, in order. An item leaves on the server's acknowledgement, never on the send.
//
// The rules that make a message arrive exactly once:
//
// 1. Numbers are bound late and written down first: an item gets its n when it is first put on the wire, and the
//    record is stored before the bytes go out. Items that were never sent can be taken back or reordered freely.
// 2. What was bound stays bound, text and conversation too, until an answer says that it was not accepted. After a
//    reconnect or a reload everything bound is sent again under the same n; the server answers a repeat with the
//    first answer.
// 3. After any answer but accepted or duplicate (busy, gap, refused, conflict) nothing more is sent until everything
//    on the wire is answered; then sending starts again at the oldest (go back n). So order holds.
// 4. Numbers are changed (a refused message leaves a hole) only when every bound item was first sent on this very
//    connection and is answered: then none of them can still arrive. In every other case the session is renewed: under
//    the old one the hole can never be filled, so whatever of it is still on its way is refused for ever.
// 5. The first new number on a connection goes alone; each acceptance doubles how many may be on the wire, a setback
//    makes it one again. So a session whose numbers are not what we think (a conflict) is noticed before a later message
//    could overtake, and a server that is busy is not shouted at. What was bound before is repeated at once.
//
// This file has no clock, no socket and no timers: time comes in, wire messages and item states go out.

import { OUTBOX_BYTES_MAX, OUTBOX_ITEMS_MAX, SENDS_IN_FLIGHT_MAX, MESSAGE_TEXT_BYTES_MAX } from './limits.js';
import { TidegateError } from './emitter.js';
import { backoffMs } from './close.js';
import { encodeUtf8 } from './utf8.js';

const textBytes = (text) => encodeUtf8(text).length;

// firstSentOn: the number of a connection (1, 2, …), or
const NEVER = 0;
const EARLIER = -1; // before a reload

/** A copy for others to keep. */
export const copyItem = ({ key, n, session, text, conversation, state, seq, at, reason, detail }) =>
  ({ key, n, session, text, conversation, state, seq, at, reason, detail });

export class Outbox {
  /** record: { session, last, principal, items }, written by store(); changed(item) hears of every new state. */
  constructor({ record, store, renew, changed, random }) {
    this.record = record;
    this.store = store;
    this.renew = renew;
    this.changed = changed;
    this.random = random;
    this.connection = 0;       // which connection this is; 0 = none
    this.welcomedN = 0;        // last_n of its Welcome
    this.window = 1;           // rule 5
    this.draining = false;     // rule 3
    this.wasSetBack = false;   // on this connection: all that is bound has been answered on it once
    this.conflict = false;
    this.expectedN = 0;        // from the newest gap; 0 = none
    this.retryAt = 0;
    this.setbacks = 0;         // drains without an acceptance between them
    this.progressAt = 0;       // of the newest answer, or of the first send after none was on the wire
    this.bytes = 0;
    this.items = record.items.map((item) => ({
      ...item, restored: true, inFlight: false, firstSentOn: item.n === 0 ? NEVER : EARLIER,
    }));
    for (const item of this.items) this.bytes += textBytes(item.text);
  }

  save() {
    this.record.items = this.items.map(copyItem);
    this.store();
  }

  // --- what the application does ---------------------------------------------------------------------------------

  add(text, conversation, now) {
    const bytes = textBytes(text);
    if (text.trim() === '') throw new TidegateError({ reason: 'empty_message' });
    if (bytes > MESSAGE_TEXT_BYTES_MAX) {
      throw new TidegateError({ reason: 'message_too_long', detail: `${bytes} of at most ${MESSAGE_TEXT_BYTES_MAX} bytes` });
    }
    if (this.items.length >= OUTBOX_ITEMS_MAX || this.bytes + bytes > OUTBOX_BYTES_MAX) {
      throw new TidegateError({ reason: 'outbox_full', detail: `${this.items.length} messages wait already` });
    }
    const key = `${now.toString(36)}-${Math.floor(this.random() * 2 ** 40).toString(36)}`;
    const item = {
      key, n: 0, session: '', text, conversation, state: 'waiting', seq: 0, at: now, reason: '', detail: '',
      restored: false, inFlight: false, firstSentOn: NEVER,
    };
    this.items.push(item);
    this.bytes += bytes;
    this.save();
    return item;
  }

  /** What was said before this record was at hand, or while it could not be stored. */
  adopt(former) {
    for (const item of former.items) {
      if (this.find(item.key)) continue;
      this.items.push(item);
      this.bytes += textBytes(item.text);
      if (item.state === 'waiting' && item.n !== 0) this.fail(item, 'unresolved', '');
    }
    this.save();
  }

  find(key) {
    return this.items.find((item) => item.key === key);
  }

  resend(key) {
    const item = this.find(key);
    if (!item || item.state !== 'failed') return null;
    this.items = this.items.filter((one) => one !== item);
    this.items.push(item);
    Object.assign(item, { state: 'waiting', reason: '', detail: '', restored: false });
    this.unbind(item);
    this.save();
    this.changed(item);
    return item;
  }

  discard(key) {
    const item = this.find(key);
    if (!item || (item.state === 'waiting' && item.n !== 0)) return false;
    this.drop(item);
    this.save();
    return true;
  }

  drop(item) {
    this.items = this.items.filter((one) => one !== item);
    this.bytes -= textBytes(item.text);
  }

  unbind(item) {
    Object.assign(item, { n: 0, session: '', inFlight: false, firstSentOn: NEVER });
  }

  // --- the connection's life -------------------------------------------------------------------------------------

  /** A Welcome came. 'renew': connect again, under the session that the record now names. */
  welcomed(connection, welcome) {
    if (this.connection === connection) {
      // Welcomed again while connected: what is on the wire will be answered. Sent twice it might be refused twice,
      // and the second refusal would be taken for the next text's.
      this.welcomedN = Math.max(this.welcomedN, welcome.last_n);
      return '';
    }
    this.lost();
    this.connection = connection;
    this.welcomedN = welcome.last_n;
    if (this.record.principal && this.record.principal !== welcome.principal) {
      // Somebody else logged in on this page: what the former said is not theirs to send.
      this.items = [];
      this.bytes = 0;
      this.record.last = welcome.last_n;
    }
    this.record.principal = welcome.principal;
    const bound = this.bound();
    if (bound.length === 0 && this.record.last > welcome.last_n) this.record.last = welcome.last_n;
    if (bound.length > 0 && bound[0].n > welcome.last_n + 1) return this.begin();
    this.save();
    return '';
  }

  /** The connection is gone, and with it the answers to what was on the wire. */
  lost() {
    this.connection = 0;
    this.window = 1;
    this.draining = false;
    this.wasSetBack = false;
    this.conflict = false;
    this.expectedN = 0;
    this.retryAt = 0;
    for (const item of this.items) item.inFlight = false;
  }

  /** Another page took this session over: what it was told of our bound items can't be asked any more. */
  abandon() {
    for (const item of this.bound()) this.fail(item, 'unresolved', '');
    this.begin();
  }

  /** Rule 4, second half. */
  begin() {
    for (const item of this.bound()) this.unbind(item);
    this.lost();
    this.renew();
    this.save();
    return 'renew';
  }

  // --- sending ---------------------------------------------------------------------------------------------------

  bound() {
    return this.items.filter((item) => item.state === 'waiting' && item.n !== 0);
  }

  inFlight() {
    return this.items.filter((item) => item.inFlight).length;
  }

  /** What to put on the wire now: { sends: [Send values] } or { renew: true }. */
  take(now) {
    if (!this.connection) return { sends: [] };
    let inFlight = this.inFlight();
    if (this.draining) {
      if (inFlight > 0) return { sends: [] };
      this.draining = false;
      if (this.realign() === 'renew') return { sends: [], renew: true };
    }
    if (now < this.retryAt) return { sends: [] };
    const chosen = [];
    for (const item of this.items) {
      if (item.state !== 'waiting' || item.inFlight) continue;
      const isRepeat = item.n !== 0 && !this.wasSetBack;
      if (inFlight >= (isRepeat ? SENDS_IN_FLIGHT_MAX : this.window)) break;
      if (item.n === 0) this.bind(item);
      if (item.firstSentOn === NEVER) item.firstSentOn = this.connection;
      item.inFlight = true;
      chosen.push(item);
      inFlight++;
    }
    if (chosen.length > 0) {
      if (inFlight === chosen.length) this.progressAt = now;
      this.save();
    }
    return { sends: chosen.map(({ n, conversation, text }) => ({ n, conversation, text })) };
  }

  bind(item) {
    // Of a restored item the note that it was sent may be missing (a write that was lost with the page): it takes the
    // number that it would have had, and the server tells a repeat from a conflict. A new item takes a free number.
    let last = item.restored ? this.record.last : Math.max(this.record.last, this.welcomedN);
    for (const one of this.bound()) last = Math.max(last, one.n);
    item.n = last + 1;
    item.session = this.record.session;
  }

  /** Everything is answered. Do the numbers of what is left still follow the last accepted one? */
  realign() {
    const bound = this.bound();
    const expected = this.expectedN;
    this.expectedN = 0;
    if (this.conflict) return this.begin();
    if (expected === 0 || bound.length === 0 || bound[0].n <= expected) return '';
    if (bound.some((item) => item.firstSentOn !== this.connection)) return this.begin();
    bound.forEach((item, i) => { item.n = expected + i; });
    this.record.last = expected - 1;
    this.save();
    return '';
  }

  // --- answers ---------------------------------------------------------------------------------------------------

  /** A SendResult. Returns the item that it settled for good, or null. */
  answered(result, now) {
    const item = this.bound().find((one) => one.n === result.n);
    if (!item) return null;
    item.inFlight = false;
    this.progressAt = now;
    switch (result.outcome) {
      case 'accepted':
      case 'duplicate':
        return this.accepted(item, result.conversation, result.seq, result.at_us);
      case 'gap':
        this.expectedN = result.expected_n;
        this.setBack(0, now);
        return null;
      case 'id_conflict':
        this.conflict = true;
        this.setBack(0, now);
        return null;
      default:
        if (result.outcome === 'busy' || result.reason === 'busy' || result.reason === 'rate_limited') {
          this.setBack(result.retry_ms, now);
          return null;
        }
        this.unbind(item);
        if (this.inFlight() > 0) this.draining = true;
        this.fail(item, result.reason === 'none' ? 'unknown' : result.reason, result.detail);
        this.save();
        return item;
    }
  }

  /** A Message with our (session, n): an acknowledgement too. Returns the item, or null. */
  replayed(message) {
    const item = this.items.find((one) => one.n !== 0 && one.n === message.n && one.session === message.session);
    return item ? this.accepted(item, message.conversation, message.seq, message.at_us) : null;
  }

  accepted(item, conversation, seq, at_us) {
    this.setbacks = 0;
    this.window = Math.min(2 * this.window, SENDS_IN_FLIGHT_MAX);
    if (item.session === this.record.session) this.record.last = Math.max(this.record.last, item.n);
    item.inFlight = false;
    this.drop(item);
    Object.assign(item, { state: 'sent', conversation, seq, at: Math.round(at_us / 1000), reason: '', detail: '' });
    this.save();
    this.changed(item);
    return item;
  }

  fail(item, reason, detail) {
    Object.assign(item, { state: 'failed', reason, detail, inFlight: false });
    this.changed(item);
  }

  /** Rule 3. Without progress between them, setbacks come ever more slowly. */
  setBack(retry_ms, now) {
    if (!this.draining) this.setbacks++;
    this.draining = true;
    this.wasSetBack = true;
    this.window = 1;
    const patience = this.setbacks > 1 || retry_ms > 0 ? backoffMs(this.setbacks, this.random) : 0;
    this.retryAt = Math.max(this.retryAt, now + retry_ms + patience);
  }
}
