// Commands and their answers: each carries a request number that the answer echoes. They wait for a connection, are
// never repeated by themselves (a transfer may have happened), and are rejected when an answer can't come any more.

import { COMMANDS_MAX, COMMAND_MS_MAX } from './limits.js';
import { TidegateError } from './emitter.js';

export class Commands {
  /** nextRequest() → number; send(Command value) puts it on the wire. */
  constructor(clock, nextRequest, send) {
    this.clock = clock;
    this.nextRequest = nextRequest;
    this.send = send;
    this.pending = new Map(); // request → { value, sent, timer, resolve, reject }
    this.live = false;
  }

  /** A promise of the ConversationState or Presence that the command leads to. */
  ask(command) {
    if (this.pending.size >= COMMANDS_MAX) {
      return Promise.reject(new TidegateError({ reason: 'busy', detail: `${COMMANDS_MAX} commands wait already` }));
    }
    return new Promise((resolve, reject) => {
      const value = { ...command, request: this.nextRequest() };
      const timer = this.clock.setTimeout(() => this.refuse(value.request, { reason: 'timeout' }), COMMAND_MS_MAX);
      this.pending.set(value.request, { value, sent: false, timer, resolve, reject });
      this.flush();
    });
  }

  welcomed() {
    this.live = true;
    this.flush();
  }

  flush() {
    if (!this.live) return;
    for (const one of this.pending.values()) {
      if (one.sent) continue;
      one.sent = true;
      this.send(one.value);
    }
  }

  take(request) {
    const one = this.pending.get(request);
    if (!one) return null;
    this.pending.delete(request);
    this.clock.clearTimeout(one.timer);
    return one;
  }

  answer(value) {
    const one = this.take(value.request);
    if (one) one.resolve(value);
  }

  /** Whether somebody was waiting for it. */
  refuse(request, failure) {
    const one = this.take(request);
    if (one) one.reject(new TidegateError(failure));
    return one !== null;
  }

  /** The connection is gone: what was sent may or may not have been done. */
  lost() {
    this.live = false;
    for (const [request, one] of [...this.pending]) if (one.sent) this.refuse(request, { reason: 'connection_lost' });
  }

  stopped() {
    this.live = false;
    for (const request of [...this.pending.keys()]) this.refuse(request, { reason: 'stopped' });
  }
}
