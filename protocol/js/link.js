// One connection after the other: connect, say Hello, keep alive, notice death, come back.
//
//   connecting ─open→ greeting ─Welcome→ open
//                        └─Wait→ admission ─Welcome→ open
//   any of these ─lost→ pausing ─timer→ connecting
//
// Liveness is judged by what arrives. Silence for a heartbeat sends a Ping; silence after that for PONG_MS_MAX means a
// half-open connection, which is left behind (its socket may take minutes to close) and replaced.

import { CODECS } from './envelope.js';
import { backoffMs, closeClass, HALF_OPEN, retryMsOf } from './close.js';
import { failure } from './emitter.js';
import { ANSWER_PROBE_MS, CONNECT_MS_MAX, HEARTBEAT_EARLY_MAX, HEARTBEAT_MS_DEFAULT, HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, PONG_MS_MAX,
  RETRY_MS_MAX, STABLE_MS, WAKE_PONG_MS_MAX } from './limits.js';

/** No close frame came: what RFC 6455 calls it. */
const ABNORMAL = 1006;
const NORMAL = 1000;

const ignore = () => {};

export class Link {
  /** hooks: { hello() → Hello value, received(envelope), lost(), state(change), closed(event), failed(failure), patience_ms() } */
  constructor(host, options, hooks) {
    this.host = host;
    this.clock = host.clock;
    this.options = options;
    this.hooks = hooks;
    this.codec = CODECS[options.codec || 'fb'];
    this.phase = 'idle';
    this.number = 0;          // of the current connection; a callback of an older one is ignored
    this.socket = null;
    this.token = '';
    this.why = 'first';
    this.attempt = 0;
    this.welcomedBefore = false;
    this.pauseTimer = null;   // until the next attempt
    this.notBefore = 0;       // the server's wish, which a wake-up does not shorten
    this.patient = false;     // the pause is longer than it need be: see hurry()
    this.deadlineTimer = null; // connecting, greeting
    this.goawayTimer = null;
    this.aliveTimer = null;
    this.requests = 0;
    this.resetLiveness();
  }

  // --- starting and ending ---------------------------------------------------------------------------------------

  start() {
    if (this.phase !== 'idle' && this.phase !== 'closed') return;
    this.attempt = 0;
    this.notBefore = 0;
    this.stopWaking = this.host.wake(() => this.wake());
    this.connect();
  }

  /** For good: by the application, or because the server said so. */
  end(phase) {
    this.drop(NORMAL);
    this.clock.clearTimeout(this.pauseTimer);
    this.pauseTimer = null;
    if (this.stopWaking) this.stopWaking();
    this.stopWaking = null;
    this.phase = phase;
    this.welcomedBefore = false;
    this.token = ''; // it may be why; start() asks anew
    this.why = 'first';
  }

  /** Leaves the current socket, whatever it still does. */
  drop(code) {
    this.number++;
    for (const timer of [this.deadlineTimer, this.goawayTimer, this.aliveTimer]) this.clock.clearTimeout(timer);
    this.goawayTimer = null;
    this.aliveTimer = null;
    const socket = this.socket;
    this.socket = null;
    this.resetLiveness();
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = ignore; // in Node, an error that nobody listens to ends the process
    try {
      socket.close(code);
    } catch {
      // Browsers refuse codes, and closes in some states; the socket is no longer ours either way.
    }
  }

  // --- connecting ------------------------------------------------------------------------------------------------

  async connect() {
    this.clock.clearTimeout(this.pauseTimer);
    this.pauseTimer = null;
    this.phase = 'connecting';
    const number = ++this.number;
    this.hooks.state({ state: this.welcomedBefore ? 'reconnecting' : 'connecting', inMs: 0, code: 0 });
    if (number !== this.number) return; // a listener stopped us
    this.within(CONNECT_MS_MAX);
    if (!this.token) {
      const token = await this.fetchToken();
      if (number !== this.number) return;
      if (!token) return this.lost(ABNORMAL, '');
      this.token = token;
    }
    try {
      this.socket = new this.host.WebSocket(this.options.url, [this.codec.subprotocol]);
    } catch (cause) {
      this.hooks.failed(failure('transport', { detail: String(cause), cause }));
      if (number === this.number) this.lost(ABNORMAL, '');
      return;
    }
    this.listen(this.socket, number);
  }

  async fetchToken() {
    const { token } = this.options;
    if (typeof token === 'string') return token;
    try {
      return await token(this.why);
    } catch (cause) {
      this.hooks.failed(failure('token', { detail: String(cause), cause }));
      return '';
    }
  }

  listen(socket, number) {
    const current = (handle) => (event) => {
      if (number === this.number) handle(event);
    };
    socket.binaryType = 'arraybuffer';
    socket.onopen = current(() => this.opened());
    socket.onmessage = current((event) => this.received(event.data, number));
    socket.onclose = current((event) => this.lost(event.code || ABNORMAL, event.reason || ''));
    socket.onerror = ignore; // a close follows
  }

  opened() {
    this.phase = 'greeting';
    this.within(CONNECT_MS_MAX);
    this.send([{ kind: 'hello', value: { ...this.hooks.hello(), request: ++this.requests, token: this.token } }]);
  }

  within(ms) {
    this.clock.clearTimeout(this.deadlineTimer);
    this.deadlineTimer = this.clock.setTimeout(() => this.lost(HALF_OPEN, ''), ms);
  }

  // --- talking ---------------------------------------------------------------------------------------------------

  /** envelopes: [{ kind, value }]; wantsAnswer: silence from now on is suspicious. */
  send(envelopes, wantsAnswer = false) {
    try {
      this.socket.send(this.codec.encode(envelopes, Math.round(this.clock.now() * 1000)));
    } catch (cause) {
      // A socket that is closing says so by onclose, too; a value that can't be encoded is a mistake to be seen.
      if (cause instanceof RangeError) throw cause;
    }
    if (wantsAnswer && this.wantedSince === 0) {
      this.wantedSince = this.clock.now();
      this.watch();
    }
  }

  received(data, number) {
    this.lastReceivedAt = this.clock.now();
    this.pongDueAt = 0;
    this.wantedSince = 0;
    for (const envelope of this.codec.decode(data)) {
      if (envelope.kind === 'goaway') this.goaway(envelope.value.retry_ms);
      else this.hooks.received(envelope);
      if (number !== this.number) return; // what was received led to a new connection
    }
  }

  welcomed(heartbeat_ms) {
    this.clock.clearTimeout(this.deadlineTimer);
    this.phase = 'open';
    this.welcomedBefore = true;
    this.openedAt = this.clock.now();
    this.why = 'first';
    if (heartbeat_ms > 0) {
      const early = 1 - HEARTBEAT_EARLY_MAX * this.host.random();
      this.heartbeatMs = Math.round(early * Math.min(Math.max(heartbeat_ms, HEARTBEAT_MS_MIN), HEARTBEAT_MS_MAX));
    }
    this.watch();
    this.hooks.state({ state: 'open', inMs: 0, code: 0 });
  }

  /** In the waiting room. */
  waiting() {
    this.clock.clearTimeout(this.deadlineTimer);
    const first = this.phase !== 'admission';
    this.phase = 'admission';
    this.watch();
    if (first) this.hooks.state({ state: 'waiting', inMs: 0, code: 0 });
  }

  /** The server is about to go: stay while it lasts, then come back when it said. */
  goaway(retry_ms) {
    if (this.goawayTimer !== null) return;
    const wait = Math.min(retry_ms, RETRY_MS_MAX);
    this.notBefore = this.clock.now() + wait;
    this.goawayTimer = this.clock.setTimeout(() => this.restart(), wait);
  }

  /** A new connection in place of this one: at once, unless the last attempts did not last either. */
  restart() {
    if (this.phase === 'idle' || this.phase === 'closed') return;
    this.settle();
    this.drop(NORMAL);
    this.hooks.lost();
    this.pause(0, this.attempt === 0 ? 0 : backoffMs(this.attempt, this.host.random));
    this.attempt++;
  }

  /** A connection that lasted makes the next attempt a first one. */
  settle() {
    if (this.openedAt !== 0 && this.clock.now() - this.openedAt >= STABLE_MS) this.attempt = 0;
  }

  // --- liveness --------------------------------------------------------------------------------------------------

  resetLiveness() {
    this.heartbeatMs = HEARTBEAT_MS_DEFAULT;
    this.lastReceivedAt = this.clock.now();
    this.wantedSince = 0;
    this.pongDueAt = 0;
    this.openedAt = 0;
  }

  pingAt() {
    const silent = this.lastReceivedAt + this.heartbeatMs;
    return this.wantedSince === 0 ? silent : Math.min(silent, this.wantedSince + ANSWER_PROBE_MS);
  }

  /** Arms the one timer of a live connection for whatever is due first. */
  watch() {
    this.clock.clearTimeout(this.aliveTimer);
    const due = this.pongDueAt || this.pingAt();
    this.aliveTimer = this.clock.setTimeout(() => this.look(), Math.max(0, due - this.clock.now()));
  }

  look() {
    const now = this.clock.now();
    if (this.pongDueAt !== 0 && now >= this.pongDueAt) return this.lost(HALF_OPEN, '');
    if (this.pongDueAt === 0 && now >= this.pingAt()) this.ping(PONG_MS_MAX);
    this.watch();
  }

  ping(pong_ms) {
    this.pongDueAt = this.clock.now() + pong_ms;
    this.send([{ kind: 'ping', value: { request: ++this.requests } }]);
  }

  /** The network or the page is back: a pause ends, a connection proves itself. */
  wake() {
    const now = this.clock.now();
    if (this.phase === 'pausing') {
      this.patient = false;
      this.clock.clearTimeout(this.pauseTimer);
      const ms = Math.max(0, this.notBefore - now) + Math.floor(this.host.random() * 250);
      this.pauseTimer = this.clock.setTimeout(() => this.connect(), ms);
    } else if (this.phase === 'open' || this.phase === 'admission') {
      if (this.pongDueAt === 0) this.ping(WAKE_PONG_MS_MAX);
      this.watch();
    }
  }

  // --- coming back -----------------------------------------------------------------------------------------------

  lost(code, reason) {
    this.settle();
    const goaway = this.goawayTimer === null ? 0 : this.notBefore - this.clock.now();
    const asked = Math.max(retryMsOf(reason), goaway);
    this.drop(code === HALF_OPEN ? HALF_OPEN : NORMAL);
    this.hooks.lost();
    const kind = this.classOf(code);
    if (kind === 'token') {
      this.token = '';
      this.why = 'expired';
    }
    const phase = this.phase;
    this.phase = 'pausing';
    this.hooks.closed({ code, reason, retriable: kind !== 'stop' });
    if (this.phase !== 'pausing') return; // a listener stopped or restarted us
    if (kind === 'stop') {
      this.end('closed');
      this.hooks.state({ state: 'closed', inMs: 0, code });
    } else {
      // A token that just expired is renewed at once, unless the new one is refused as well.
      const soon = kind === 'token' && phase === 'greeting' && this.attempt === 0;
      // Cut off without a word: perhaps with everybody else. A close frame brings its own spread.
      const crowd = code === ABNORMAL && this.attempt === 0 && (phase === 'open' || phase === 'admission');
      const patience_ms = crowd ? this.hooks.patience_ms() : 0;
      const jitter = soon ? 0 : backoffMs(this.attempt, this.host.random);
      this.pause(asked, jitter + Math.floor(this.host.random() * patience_ms), code);
      this.patient = patience_ms > 0;
      this.attempt++;
    }
  }

  /** Somebody wants something now: a pause that only spreads the many ends. */
  hurry() {
    if (this.phase === 'pausing' && this.patient) this.wake();
  }

  classOf(code) {
    const kind = closeClass(code);
    return kind === 'token' && typeof this.options.token === 'string' ? 'stop' : kind;
  }

  pause(asked, jitter, code = 0) {
    const inMs = Math.ceil(asked + jitter);
    this.phase = 'pausing';
    this.patient = false;
    this.notBefore = this.clock.now() + asked;
    this.clock.clearTimeout(this.pauseTimer);
    this.pauseTimer = this.clock.setTimeout(() => this.connect(), inMs);
    this.hooks.state({ state: this.welcomedBefore ? 'reconnecting' : 'connecting', inMs, code });
  }
}
