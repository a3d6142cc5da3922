// The SDK's public face. What each part does stands in its own file; the types stand in tidegate.d.ts.

/** A chat: start it, listen to it, send with it. */
export class Tidegate {
  constructor(options) {
    this.options = options;
    this.state = 'idle';
    this.welcome = null;
    this.conversations = new Map();
    this.outbox = [];
  }
  start() { return this; }
  stop() {}
  on() { return () => {}; }
  send() { return null; }
  resend() { return null; }
  discard() { return false; }
  delivered() {}
  read() {}
  typing() {}
  command() { return Promise.reject(new Error('not connected')); }
}

export const connect = (options) => new Tidegate(options).start();
