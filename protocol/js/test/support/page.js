// A page that runs the SDK in virtual time, keeps what it saw, and can be closed or reloaded at any moment.

import { Tidegate } from '../../tidegate.js';

/** Storage that outlives a page. */
export function mapStorage(map = new Map()) {
  return {
    map,
    get: (key) => map.get(key) ?? null,
    set: (key, value) => void map.set(key, value),
    remove: (key) => void map.delete(key),
  };
}

const EVENTS = ['state', 'welcome', 'message', 'sent', 'receipt', 'typing', 'conversation', 'queue', 'presence',
  'error', 'wait', 'closed'];

export class Page {
  constructor(server, random, options = {}) {
    this.server = server;
    this.clock = server.clock.forPage();
    this.events = Object.fromEntries([...EVENTS, 'history'].map((type) => [type, []]));
    this.wakers = new Set();
    this.chat = new Tidegate({
      url: 'ws://test/ws', token: 'visitor:' + '1'.repeat(32), WebSocket: server.WebSocket, clock: this.clock, random,
      storage: mapStorage(), locks: null,
      wake: (callback) => {
        this.wakers.add(callback);
        return () => this.wakers.delete(callback);
      },
      ...options,
    });
    for (const type of EVENTS) this.chat.on(type, (event) => this.events[type].push(event));
    if (options.readsHistory !== false) this.chat.on('history', (event) => this.readHistory(event));
  }

  start() {
    this.chat.start();
    return this;
  }

  /** What an application does: reads over HTTP, then says that it has it. */
  readHistory(event) {
    this.events.history.push(event);
    const { messages } = this.server.conversations.get(event.conversation);
    const read = messages.slice(event.after, event.to);
    if (event.reset) this.events.message = this.events.message.filter((one) => one.conversation !== event.conversation);
    this.events.message.push(...read);
    this.chat.delivered(event.conversation, event.to, event.incarnation);
  }

  wake() {
    for (const callback of this.wakers) callback();
  }

  socket() {
    return this.chat.link.socket;
  }

  /** The page goes without a word; its storage stays. */
  kill() {
    const socket = this.socket();
    this.clock.stop();
    this.chat.runs++; // what it awaited never comes back
    this.chat.link.number++;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.state = 'closed';
  }

  texts() {
    return this.events.message.map(({ text }) => text);
  }

  seqs() {
    return this.events.message.map(({ seq }) => seq);
  }
}
