// A small server by the rules of protocol/README.md, in virtual time, that a test can make lie in wait: refuse, stay
// silent, cut, let old bytes arrive late. It keeps the evidence: every accepted message, in order.

import { CODECS } from '../../envelope.js';
import { TABLES, absentValue, tableOf } from '../../schema.js';

const LATENCY_MS = 5;

/** A value with defaults for what is not said. */
export function full(kind, given) {
  const value = {};
  for (const field of TABLES[tableOf(kind)]) value[field.name] = given[field.name] ?? absentValue(field);
  return value;
}

export const hex = (number, digits = 32) => number.toString(16).padStart(digits, '0');

export class FakeServer {
  constructor(clock) {
    this.clock = clock;
    this.sockets = [];
    this.sessions = new Map();       // principal/session → { last, accepted: Map(n → { text, conversation, seq, at_us }) }
    this.conversations = new Map();  // id → { id, incarnation, status, messages, visitor, agent, marks }
    this.agent = '';
    this.windowMessages = Infinity;  // how far back a resume reaches
    this.windowFrom = 0;             // a resume from below it is not recovered
    this.heartbeat_ms = 30_000;
    this.admit = true;
    this.dropSuperseded = true;
    this.log = [];                   // [direction, kind, value] of every envelope
    this.intercept = null;           // (socket, envelope) → true: swallowed
    this.onFrame = null;             // (direction, socket, kinds): may cut
    this.tokenError = 0;             // close code for every Hello
    this.instance = 1;
  }

  /** The class to inject as WebSocket. */
  get WebSocket() {
    const server = this;
    return class extends FakeSocket {
      constructor(url, protocols) {
        super(server, url, protocols);
      }
    };
  }

  live() {
    return this.sockets.filter((socket) => socket.state === 'open');
  }

  count(kind, direction = 'up') {
    return this.log.filter((entry) => entry[0] === direction && entry[1] === kind).length;
  }

  // --- what a client says ----------------------------------------------------------------------------------------

  received(socket, envelope) {
    this.log.push(['up', envelope.kind, envelope.value]);
    if (this.intercept && this.intercept(socket, envelope)) return;
    if (socket.superseded && this.dropSuperseded) return;
    const { kind, value } = envelope;
    switch (kind) {
      case 'hello': return this.hello(socket, value);
      case 'ping': return socket.push('pong', { request: value.request });
      case 'send': return this.send(socket, value);
      case 'ack': return this.ack(socket, value);
      case 'typing': return this.typing(socket, value);
      case 'command': return this.command(socket, value);
      default: throw new Error(`the client sent ${kind}: ${JSON.stringify(envelope)}`);
    }
  }

  hello(socket, hello) {
    if (this.tokenError) return socket.closeByServer(this.tokenError, 'token');
    const [role, principal] = hello.token.split(':');
    Object.assign(socket, { role, principal, session: hello.session, hello });
    if (!this.admit) return socket.push('wait', { place: 100, rate_per_s: 10, next_ms: 2000, ticket: 'ticket-1', eta_ms: 10_000 });
    return this.welcome(socket);
  }

  welcome(socket) {
    for (const other of this.sockets) {
      const same = other !== socket && other.session === socket.session && other.principal === socket.principal;
      if (!same || other.superseded) continue;
      other.superseded = true;
      if (other.state === 'open') other.closeByServer(4501, 'superseded');
    }
    socket.welcomed = true;
    const mine = [...this.conversations.values()].filter((one) => this.side(one, socket.principal));
    const resumed = mine.map((conversation) => {
      const cursor = socket.hello.cursors.find((one) => one.conversation === conversation.id);
      const from = cursor ? cursor.seq : 0;
      const reach = Math.max(conversation.messages.length - this.windowMessages, this.windowFrom);
      const recovered = from >= reach && (!cursor || cursor.incarnation === conversation.incarnation);
      return { conversation, from, recovered };
    });
    socket.push('welcome', {
      request: socket.hello.request, principal: socket.principal, role: socket.role, heartbeat_ms: this.heartbeat_ms,
      last_n: this.sessionOf(socket).last,
      conversations: resumed.map(({ conversation, recovered }) => ({ state: this.state(conversation), recovered })),
    });
    for (const { conversation, from, recovered } of resumed) {
      if (recovered) for (const message of conversation.messages.slice(from)) socket.push('message', message);
    }
  }

  sessionOf({ principal, session }) {
    const key = `${principal}/${session}`;
    if (!this.sessions.has(key)) this.sessions.set(key, { last: 0, accepted: new Map() });
    return this.sessions.get(key);
  }

  send(socket, { n, conversation, text }) {
    const session = this.sessionOf(socket);
    const before = session.accepted.get(n);
    const answer = (outcome, more) => socket.push('send_result', { n, outcome, ...more });
    if (before && before.text !== text) return answer('id_conflict', { expected_n: session.last + 1 });
    if (before) return answer('duplicate', before);
    if (n !== session.last + 1) return answer('gap', { expected_n: session.last + 1 });
    if (text.startsWith('refuse')) return answer('refused', { reason: 'forbidden', detail: 'refused by the test' });
    if (this.busy > 0) {
      this.busy--;
      return answer('busy', { retry_ms: 100 });
    }
    const target = conversation ? this.conversations.get(conversation) : this.openOf(socket.principal);
    const message = this.append(target, {
      sender_role: socket.role, sender: socket.principal, session: socket.session, n, text,
    }, socket);
    session.last = n;
    session.accepted.set(n, { text, conversation: target.id, seq: message.seq, at_us: message.at_us });
    return answer('accepted', session.accepted.get(n));
  }

  ack(socket, { conversation, delivered, read }) {
    const found = this.conversations.get(conversation);
    const side = found && this.side(found, socket.principal);
    if (!side) return;
    const marks = found.marks;
    marks[`${side}_delivered`] = Math.max(marks[`${side}_delivered`], delivered);
    marks[`${side}_read`] = Math.max(marks[`${side}_read`], read);
    const receipt = { conversation, side, delivered: marks[`${side}_delivered`], read: marks[`${side}_read`] };
    this.toOthers(found, socket, 'receipt', receipt);
  }

  typing(socket, { conversation, active }) {
    const found = this.conversations.get(conversation);
    if (!found) return;
    const side = this.side(found, socket.principal);
    this.toOthers(found, socket, 'typing_notice', { conversation, side, name: 'somebody', active });
  }

  command(socket, command) {
    const found = this.conversations.get(command.conversation);
    if (!found) return socket.push('error', { request: command.request, reason: 'no_such_conversation' });
    if (command.op === 'close') found.status = 'closed';
    return socket.push('conversation_state', { ...this.state(found), request: command.request });
  }

  // --- conversations ---------------------------------------------------------------------------------------------

  openOf(visitor) {
    for (const one of this.conversations.values()) {
      if (one.visitor === visitor && one.status !== 'closed') return one;
    }
    return this.begin(visitor);
  }

  begin(visitor) {
    const id = hex(0xc0 + this.conversations.size);
    const marks = { visitor_delivered: 0, visitor_read: 0, agent_delivered: 0, agent_read: 0 };
    const conversation = {
      id, incarnation: 7, status: 'chatting', messages: [], visitor, agent: this.agent, marks,
    };
    this.conversations.set(id, conversation);
    this.toOthers(conversation, null, 'conversation_state', this.state(conversation));
    return conversation;
  }

  append(conversation, given, origin = null) {
    const message = full('message', {
      conversation: conversation.id, seq: conversation.messages.length + 1, at_us: this.clock.now() * 1000, ...given,
    });
    conversation.messages.push(message);
    this.toOthers(conversation, origin, 'message', message);
    return message;
  }

  toOthers(conversation, origin, kind, value) {
    for (const socket of this.live()) {
      if (socket !== origin && socket.welcomed && this.side(conversation, socket.principal)) socket.push(kind, value);
    }
  }

  side(conversation, principal) {
    if (conversation.visitor === principal) return 'visitor';
    return conversation.agent === principal ? 'agent' : '';
  }

  state({ id, incarnation, status, messages, visitor, agent, marks }) {
    return full('conversation_state',
      { conversation: id, incarnation, status, seq: messages.length, visitor, agent, ...marks, mine: true });
  }

  /** Everything accepted, in the order of acceptance, over all conversations. */
  texts() {
    return [...this.conversations.values()].flatMap((one) => one.messages.map(({ text }) => text));
  }
}

/** Both ends of one connection: the client's WebSocket, and what the server does to it. */
class FakeSocket {
  constructor(server, url, protocols) {
    this.server = server;
    this.url = url;
    this.codec = Object.values(CODECS).find((codec) => codec.subprotocol === protocols[0]);
    this.onopen = this.onmessage = this.onclose = this.onerror = null;
    this.state = 'connecting';
    this.mute = false;      // half-open: nothing passes, nothing is told
    this.lateUpMs = 0;      // bytes on their way up when the connection is cut arrive this much later
    server.sockets.push(this);
    this.later(() => {
      if (this.state !== 'connecting' || this.mute) return;
      this.state = 'open';
      this.tell('onopen', {});
    });
  }

  later(callback, ms = LATENCY_MS) {
    this.server.clock.setTimeout(callback, ms);
  }

  tell(handler, event) {
    if (this[handler]) this[handler](event);
  }

  // --- the client's side -----------------------------------------------------------------------------------------

  send(data) {
    if (this.state !== 'open') throw new Error('not open');
    const envelopes = this.codec.decode(data);
    this.note('up', envelopes.map(({ kind }) => kind));
    this.later(() => {
      if (this.mute) return;
      if (this.state === 'open') for (const envelope of envelopes) this.server.received(this, envelope);
      else if (this.lateUpMs > 0) this.later(() => this.arriveLate(envelopes), this.lateUpMs);
    });
  }

  arriveLate(envelopes) {
    for (const envelope of envelopes) if (this.welcomed) this.server.received(this, envelope);
  }

  close(code, reason = '') {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.later(() => this.tell('onclose', { code, reason }));
  }

  // --- the server's side -----------------------------------------------------------------------------------------

  push(kind, value) {
    if (this.state !== 'open' || this.mute) return;
    const given = full(kind, value);
    this.server.log.push(['down', kind, given]);
    const data = this.codec.encode([{ kind, value: given }], this.server.clock.now() * 1000);
    this.later(() => {
      if (this.state !== 'open' || this.mute) return;
      this.note('down', [kind]);
      if (this.state !== 'open') return;
      this.tell('onmessage', { data: typeof data === 'string' ? data : data.buffer });
    });
  }

  note(direction, kinds) {
    if (this.server.onFrame) this.server.onFrame(direction, this, kinds);
  }

  closeByServer(code, reason) {
    this.later(() => {
      if (this.state !== 'open') return;
      this.state = 'closed';
      this.tell('onclose', { code, reason });
    });
  }

  /** The network drops it: the client hears 1006 soon, what was on its way is gone (or late, see lateUpMs). */
  cut() {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.later(() => this.tell('onclose', { code: 1006, reason: '' }));
  }
}
