// Seeded random faults: cuts, bytes that arrive late, busy, reloads, half-open connections, waits, lost write-backs,
// small resume windows. After each run: everything said is there exactly once and in order, and both sides saw it so.
//
//   SEED=17 node --test test/faults.test.js       one seed
//   SEEDS=5000 node --test test/faults.test.js    more of them

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer } from './support/server.js';
import { Page, mapStorage } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';

const VISITORS = ['1'.repeat(32), '2'.repeat(32)];
const AGENT = 'a'.repeat(32);
const STEPS = 60;

/** A person: a page after the other on the same storage. */
class Person {
  constructor(server, random, options) {
    Object.assign(this, { server, random, options, storage: mapStorage(), said: [], seen: new Map(), count: 0 });
    this.open();
  }

  open() {
    this.page = new Page(this.server, this.random, { ...this.options, storage: this.storage });
    this.shown = new Map(); // conversation → seqs in the order in which this page showed them
    this.page.chat.on('message', ({ conversation, seq }) => this.show(conversation, seq));
    this.page.start();
  }

  show(conversation, seq) {
    if (!this.shown.has(conversation)) this.shown.set(conversation, []);
    this.shown.get(conversation).push(seq);
  }

  say(name, conversation) {
    const text = `${name}${String(this.count++).padStart(4, '0')}`;
    this.said.push(text);
    this.page.chat.send(text, { conversation });
  }

  reload() {
    this.page.kill();
    this.open();
  }

  isSettled() {
    const { chat } = this.page;
    return chat.state === 'open' && chat.outbox.every(({ state }) => state === 'failed');
  }
}

function fault(server, random, people) {
  const person = people[Math.floor(random() * people.length)];
  const socket = person.page.socket();
  const late = random() < 0.5 ? Math.floor(random() * 2000) : 0;
  const dice = random();
  if (dice < 0.3 && socket) {
    socket.lateUpMs = late;
    socket.cut();
  } else if (dice < 0.4 && socket) {
    socket.mute = true;
  } else if (dice < 0.55) {
    if (socket) socket.lateUpMs = late;
    person.reload();
  } else if (dice < 0.7) {
    server.busy = Math.floor(random() * 5);
  } else if (dice < 0.78) {
    for (const one of server.live()) one.cut();
  } else if (dice < 0.84 && socket) {
    socket.push('goaway', { retry_ms: Math.floor(random() * 3000) });
  } else if (dice < 0.9) {
    server.windowMessages = random() < 0.5 ? 3 : Infinity;
  } else if (dice < 0.95) {
    person.page.wake();
  } else {
    server.admit = !server.admit;
  }
}

async function run(seed) {
  const random = seeded(seed);
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  server.busy = 0;
  server.agent = AGENT;
  server.dropSuperseded = random() < 0.5;
  server.heartbeat_ms = 5000;
  const codec = random() < 0.5 ? 'fb' : 'json';
  const visitors = VISITORS.map((id) => new Person(server, random, { token: `visitor:${id}`, codec }));
  const agent = new Person(server, random, { token: `agent:${AGENT}`, codec });
  const people = [...visitors, agent];
  for (let step = 0; step < STEPS; step++) {
    const dice = random();
    if (dice < 0.35) {
      const i = Math.floor(random() * visitors.length);
      for (let burst = random() * 6; burst > 0; burst--) visitors[i].say(`v${i}-`);
      if (random() < 0.2) visitors[i].page.chat.send('refuse this');
      if (random() < 0.2) visitors[i].say(`v${i}-`);
    } else if (dice < 0.6 && server.conversations.size > 0) {
      const known = [...server.conversations.keys()];
      agent.say('a-', known[Math.floor(random() * known.length)]);
    } else if (dice < 0.75) {
      fault(server, random, people);
    }
    await clock.advance(Math.floor(random() ** 3 * (random() < 0.2 ? 5000 : 60)));
  }
  server.admit = true;
  server.busy = 0;
  for (const socket of server.live()) if (!socket.welcomed) socket.cut();
  await clock.until(() => people.every((person) => person.isSettled()), 600_000, 'everything is acknowledged');
  await clock.advance(30_000);
  check(server, people, visitors);
  return server.log.length;
}

function check(server, people, visitors) {
  const conversations = [...server.conversations.values()];
  const stored = conversations.flatMap(({ messages }) => messages.map(({ text }) => text));
  assert.equal(new Set(stored).size, stored.length, 'nothing is stored twice');
  for (const person of people) {
    const own = new Set(person.said);
    assert.deepEqual(stored.filter((text) => own.has(text)).sort(), [...person.said].sort(), 'all of it is stored');
    for (const { messages } of conversations) {
      const order = messages.map(({ text }) => text).filter((text) => own.has(text));
      assert.deepEqual(order, [...order].sort(), 'in the order in which it was said');
    }
    for (const conversation of conversations) complete(person, conversation);
  }
  for (const person of visitors) {
    const { principal } = person.page.chat.welcome;
    const { marks, messages } = conversations.find(({ visitor }) => visitor === principal) || { messages: [] };
    if (messages.length > 0) assert.equal(marks.visitor_delivered, messages.length, 'all of it is acknowledged');
  }
}

/** What this page showed came once and in order, and with what it said itself there is no hole. */
function complete(person, conversation) {
  const { principal } = person.page.chat.welcome;
  if (!takesPart(conversation, principal)) return;
  const shown = person.shown.get(conversation.id) || [];
  assert.deepEqual(shown, [...new Set(shown)], 'nothing was shown twice');
  const fromHistory = person.page.events.history.filter((event) => event.conversation === conversation.id);
  const had = (seq) => shown.includes(seq) || fromHistory.some(({ after, to }) => seq > after && seq <= to);
  for (const { seq, sender, text } of conversation.messages) {
    if (sender !== principal) assert.ok(had(seq), `${person.options.token} never saw ${seq} ${text}`);
  }
  if (fromHistory.length === 0) assert.deepEqual(shown, [...shown].sort((a, b) => a - b), 'in order');
}

const takesPart = (conversation, principal) => conversation.visitor === principal || conversation.agent === principal;

const first = process.env.SEED ? Number(process.env.SEED) : 1;
const count = process.env.SEED ? 1 : Number(process.env.SEEDS || 300);

test(`${count} seeds of random faults: everything once and in order`, async () => {
  for (let seed = first; seed < first + count; seed++) {
    try {
      await run(seed);
    } catch (error) {
      error.message = `SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
});

test('a seed replays itself', async () => {
  assert.equal(await run(5), await run(5));
});
