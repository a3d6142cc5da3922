// The SDK's centre: takes what the link receives to the part that it concerns, and what the application wants to the
// link. The parts: session.js (who this page is), link.js (connections), outbox.js (what was said), streams.js (what
// was received), commands.js, conversations.js.

import { Commands } from './commands.js';
import { Conversations } from './conversations.js';
import { Emitter, failure } from './emitter.js';
import { Link } from './link.js';
import { Outbox, copyItem } from './outbox.js';
import { SessionSlot, freshRecord } from './session.js';
import { Streams } from './streams.js';
import { CALM_SPREAD_MS, LOCALE_BYTES_MAX, PAGE_BYTES_MAX, SEND_ANSWER_MS_MAX, TYPING_MS, UNNAMED_MS_MAX, WAIT_SPREAD_MS_MAX,
  WAIT_SPREAD_PARTS } from './limits.js';
import { cutUtf8 } from './utf8.js';
import { SUPERSEDED } from './close.js';
import { hostOf } from './host.js';

/** A mistake in the application is thrown where it is made, not where it would be sent. */
function checkId(id) {
  if (!/^[0-9a-f]{32}$/.test(id)) throw new TypeError(`expected an id of 32 hex digits, found ${JSON.stringify(id)}`);
}

function checkSeq(seq) {
  if (!Number.isSafeInteger(seq) || seq < 0) throw new TypeError(`expected a seq, found ${seq}`);
}

/** A chat: start it, listen to it, send with it. Documented in tidegate.d.ts. */
export class Tidegate {
  constructor(options) {
    this.options = options;
    this.page = options.page || '';
    this.state = 'idle';
    this.welcome = null;
    this.wait = null;         // the newest Wait, while in the waiting room
    this.host = hostOf(options);
    this.clock = this.host.clock;
    this.emitter = new Emitter();
    this.known = new Conversations();
    this.slot = null;
    this.runs = 0;            // start() and stop() calls: what an older one awaited is void
    this.superseded = false;
    this.pumpTimer = null;
    this.unnamedTimer = null;
    this.typingSaid = new Map();
    this.box = this.newOutbox(freshRecord(''));
    this.link = new Link(this.host, options, {
      hello: () => this.hello(),
      received: (envelope) => this.received(envelope),
      lost: () => this.lost(),
      state: (change) => this.changeState(change),
      closed: (event) => this.closed(event),
      failed: (event) => this.emitter.emit('error', event),
      patience_ms: () => this.patience_ms(),
    });
    this.streams = new Streams(this.clock, {
      deliver: (message) => this.deliver(message),
      history: (event) => {
        const heard = this.emitter.has('history');
        this.emitter.emit('history', event);
        return heard;
      },
      resume: () => this.link.restart(),
      ack: (acks) => this.link.send(acks.map((value) => ({ kind: 'ack', value }))),
      isClosed: (conversation) => this.known.isClosed(conversation),
      side: () => (this.welcome && this.welcome.role !== 'visitor' ? 'agent' : 'visitor'),
    });
    this.commands = new Commands(this.clock, () => ++this.link.requests,
      (value) => this.link.send([{ kind: 'command', value }], true));
  }

  // --- life ------------------------------------------------------------------------------------------------------

  start() {
    if (this.state !== 'idle' && this.state !== 'closed') return this;
    const run = ++this.runs;
    this.changeState({ state: 'connecting', inMs: 0, code: 0 });
    this.takeSession(run);
    return this;
  }

  async takeSession(run) {
    if (!this.slot) {
      const slot = await SessionSlot.take(this.host, this.options.storageKey || 'tidegate');
      if (run !== this.runs) return slot.leave();
      this.slot = slot;
      const former = this.box;
      this.box = this.newOutbox(slot.record);
      this.box.adopt(former);
    }
    if (this.superseded) this.box.abandon();
    if (run !== this.runs) return undefined; // a listener stopped us
    this.superseded = false;
    return this.link.start();
  }

  stop() {
    if (this.state === 'idle') return;
    this.runs++;
    this.streams.flushAcks();
    this.link.end('idle');
    this.lost();
    this.commands.stopped();
    if (this.slot) this.slot.leave();
    this.slot = null;
    this.changeState({ state: 'idle', inMs: 0, code: 0 });
  }

  newOutbox(record) {
    return new Outbox({
      record,
      random: this.host.random,
      store: () => {
        if (this.slot && !this.slot.save()) this.emitter.emit('error', failure('storage'));
      },
      renew: () => this.slot && this.slot.renew(),
      changed: (item) => this.emitter.emit('sent', copyItem(item)),
    });
  }

  changeState(change) {
    this.state = change.state;
    this.emitter.emit('state', change);
  }

  closed(event) {
    if (event.code === SUPERSEDED) this.superseded = true;
    this.emitter.emit('closed', event);
  }

  hello() {
    const { record } = this.slot;
    // Counts up, and by the clock: also beside a page that holds the same session without knowing of this one.
    record.connection = Math.max(record.connection + 1, Math.floor(this.clock.now() / 1000));
    this.box.save();
    return {
      session: record.session,
      connection: record.connection,
      family: this.options.family || 'h5',
      locale: cutUtf8(this.options.locale || '', LOCALE_BYTES_MAX),
      cursors: this.streams.cursors(),
      ticket: record.ticket || this.options.ticket || '',
      page: cutUtf8(this.page, PAGE_BYTES_MAX),
    };
  }

  /** For how long nobody misses this connection: a crowd that lost its gateway comes back spread over it. */
  patience_ms() {
    if (this.wait) return Math.min(this.wait.eta_ms / WAIT_SPREAD_PARTS, WAIT_SPREAD_MS_MAX);
    const agent = this.welcome !== null && this.welcome.role !== 'visitor';
    const chats = [...this.known.states.values()].some(({ status }) => status === 'chatting');
    return agent || chats || this.box.items.length > 0 ? 0 : CALM_SPREAD_MS;
  }

  lost() {
    this.clock.clearTimeout(this.pumpTimer);
    this.pumpTimer = null;
    this.clock.clearTimeout(this.unnamedTimer);
    this.typingSaid.clear();
    this.box.lost();
    this.streams.lost();
    this.commands.lost();
  }

  // --- what the server says --------------------------------------------------------------------------------------

  received({ kind, value, detail }) {
    const { emitter } = this;
    switch (kind) {
      case 'welcome': return this.welcomed(value);
      case 'wait': return this.waits(value);
      case 'admitted': return this.keepTicket(value.ticket);
      case 'send_result': return this.answered(value);
      case 'message': return this.streams.message(value);
      case 'conversation_state': return this.conversationState(value);
      case 'receipt':
        this.known.receipt(value);
        return emitter.emit('receipt', value);
      case 'typing_notice': return emitter.emit('typing', value);
      case 'queue_update':
        return this.known.queue(value).forEach((update) => emitter.emit('queue', update));
      case 'presence':
        this.commands.answer(value);
        return emitter.emit('presence', value);
      case 'error':
        return this.commands.refuse(value.request, value) || emitter.emit('error', value);
      case 'malformed': return emitter.emit('error', failure('malformed_envelope', { detail }));
      default: return undefined; // pong: its arrival was its message
    }
  }

  welcomed(welcome) {
    this.welcome = welcome;
    this.wait = null;
    const states = welcome.conversations.filter(({ state }) => state !== null);
    for (const { state } of states) this.known.put(state);
    if (this.known.expect(new Set(states.map(({ state }) => state.conversation)))) {
      this.unnamedTimer = this.clock.setTimeout(() => this.dropUnnamed(), UNNAMED_MS_MAX);
    }
    if (this.box.welcomed(this.link.number, welcome) === 'renew') return this.link.restart();
    const { number } = this.link;
    const again = this.link.phase === 'open';
    this.link.welcomed(welcome.heartbeat_ms);
    this.emitter.emit('welcome', welcome);
    for (const { state } of states) this.emitter.emit('conversation', state);
    if (number !== this.link.number) return undefined; // a listener stopped us
    if (this.streams.welcomed(states, again) === 'resume') return this.link.restart();
    this.commands.welcomed();
    return this.pump();
  }

  dropUnnamed() {
    for (const state of this.known.dropUnnamed()) this.emitter.emit('conversation', state);
  }

  /** Stored: it keeps the place, or the way back in, over a reload. */
  keepTicket(ticket) {
    this.slot.record.ticket = ticket;
    this.box.save();
    this.emitter.emit('ticket', { ticket });
  }

  waits(wait) {
    this.wait = wait;
    this.keepTicket(wait.ticket);
    this.link.waiting();
    this.emitter.emit('wait', wait);
  }

  conversationState(state) {
    this.commands.answer(state);
    this.known.put(state);
    const me = this.welcome ? this.welcome.principal : '';
    this.streams.state(state, state.mine && (state.visitor === me || state.agent === me));
    this.emitter.emit('conversation', state);
  }

  deliver(message) {
    const item = this.box.replayed(message);
    if (item) this.pump();
    this.known.said(message);
    const own = Boolean(message.sender) && this.welcome !== null && message.sender === this.welcome.principal;
    this.emitter.emit('message', { ...message, own, key: item ? item.key : '' });
  }

  answered(result) {
    const item = this.box.answered(result, this.clock.now());
    if (item && item.seq > 0) {
      const { conversation, seq, text } = item;
      this.known.said({ conversation, seq, text, at_us: result.at_us });
      this.streams.ownMessage(conversation, seq);
    }
    this.pump();
  }

  // --- what the application says ---------------------------------------------------------------------------------

  on(type, listener) {
    return this.emitter.on(type, listener);
  }

  send(text, { conversation = '' } = {}) {
    if (conversation) checkId(conversation);
    const item = this.box.add(text, conversation, this.clock.now());
    this.typingSaid.delete(conversation);
    this.link.hurry();
    this.pump();
    return copyItem(item);
  }

  resend(key) {
    const item = this.box.resend(key);
    this.pump();
    return item && copyItem(item);
  }

  discard(key) {
    return this.box.discard(key);
  }

  /** Puts what may go on the wire, and comes back when more may. */
  pump() {
    if (this.link.phase !== 'open') return;
    const now = this.clock.now();
    const { sends, renew } = this.box.take(now);
    if (renew) return this.link.restart();
    for (const value of sends) this.link.send([{ kind: 'send', value }], true);
    this.clock.clearTimeout(this.pumpTimer);
    this.pumpTimer = null;
    if (this.box.inFlight() > 0) {
      const dueAt = this.box.progressAt + SEND_ANSWER_MS_MAX;
      this.pumpTimer = this.clock.setTimeout(() => this.link.restart(), dueAt - now);
    } else if (this.box.retryAt > now) {
      this.pumpTimer = this.clock.setTimeout(() => this.pump(), this.box.retryAt - now);
    }
  }

  delivered(conversation, seq, incarnation = 0) {
    checkId(conversation);
    checkSeq(seq);
    this.streams.held(conversation, seq, incarnation);
  }

  read(conversation, seq) {
    checkId(conversation);
    checkSeq(seq);
    this.streams.readUpTo(conversation, seq);
  }

  typing(conversation, active) {
    checkId(conversation);
    if (this.link.phase !== 'open') return;
    const now = this.clock.now();
    const saidAt = this.typingSaid.get(conversation);
    if (active ? now - saidAt < TYPING_MS : saidAt === undefined) return;
    if (active) this.typingSaid.set(conversation, now);
    else this.typingSaid.delete(conversation);
    this.link.send([{ kind: 'typing', value: { conversation, active: Boolean(active) } }]);
  }

  command(request) {
    for (const id of [request.conversation, request.agent]) if (id) checkId(id);
    this.link.hurry();
    return this.commands.ask(request);
  }

  get outbox() {
    return this.box.items.map(copyItem);
  }

  get conversations() {
    return this.known.states;
  }

  get session() {
    return this.box.record.session;
  }
}

/** new Tidegate(options).start() */
export const connect = (options) => new Tidegate(options).start();
