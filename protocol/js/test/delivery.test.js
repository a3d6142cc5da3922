// The delivery contract as stories: what is said arrives exactly once and in order, whatever happens between.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer } from './support/server.js';
import { Page, mapStorage } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';

const VISITOR = '1'.repeat(32);
const AGENT = 'a'.repeat(32);

function world() {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  server.agent = AGENT;
  server.busy = 0;
  const random = seeded(1);
  const visitor = (options) => new Page(server, random, options).start();
  const agent = (options) => new Page(server, random, { token: `agent:${AGENT}`, ...options }).start();
  return { clock, server, random, visitor, agent };
}

const WARM = ['w0', 'w1', 'w2', 'w3'];

/** Four messages accepted: the window is open wide. */
async function warm({ clock, page }) {
  for (const text of WARM) page.chat.send(text);
  await clock.until(settled(page));
}

const open = (page) => () => page.chat.state === 'open';
const settled = (page) => () => page.chat.state === 'open' && page.chat.outbox.length === 0;

test('a message leaves the outbox on the acknowledgement, not on the send', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('hello');
  assert.equal(page.chat.outbox.length, 1);
  await clock.advance(6);
  assert.deepEqual(server.texts(), ['hello']);
  assert.equal(page.chat.outbox.length, 1, 'accepted, but the answer is on its way');
  await clock.until(settled(page));
  assert.deepEqual(page.events.sent.map(({ state, seq }) => [state, seq]), [['sent', 1]]);
});

test('what is said before the first connection, and before start, is sent in order', async () => {
  const { clock, server, random } = world();
  const page = new Page(server, random);
  page.chat.send('one');
  page.start();
  page.chat.send('two');
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), ['one', 'two']);
});

test('both sides see one order, each message once, and the marks follow', async () => {
  const { clock, server, visitor, agent } = world();
  const page = visitor();
  const desk = agent();
  await clock.until(open(page));
  page.chat.send('question');
  await clock.until(() => desk.texts().length === 1);
  const [{ conversation }] = desk.events.message;
  desk.chat.send('answer', { conversation });
  desk.chat.read(conversation, 1);
  await clock.until(() => page.texts().length === 1 && page.events.receipt.some(({ read }) => read === 1));
  page.chat.read(conversation, 2);
  await clock.until(() => desk.events.receipt.some(({ read }) => read === 2));
  assert.deepEqual(server.texts(), ['question', 'answer']);
  assert.equal(desk.chat.conversations.get(conversation).visitor_read, 2);
  assert.equal(page.chat.conversations.get(conversation).agent_read, 1);
});

test('cut before or after every single frame, every message is there once and in order', async () => {
  const run = async (cutAt, late) => {
    const { clock, server, visitor, agent } = world();
    let frames = 0;
    server.onFrame = (direction, socket) => {
      if (++frames !== cutAt) return;
      socket.lateUpMs = late;
      socket.cut();
    };
    const page = visitor();
    const desk = agent();
    for (let i = 0; i < 5; i++) page.chat.send(`v${i}`);
    await clock.until(() => desk.texts().length > 0);
    const [{ conversation }] = desk.events.message;
    for (let i = 0; i < 5; i++) desk.chat.send(`a${i}`, { conversation });
    await clock.until(() => settled(page)() && settled(desk)() && page.texts().length + desk.texts().length >= 10);
    await clock.advance(20_000);
    const said = server.texts();
    assert.equal(said.length, 10, `cut at frame ${cutAt}: ${said}`);
    assert.deepEqual(said.filter((text) => text[0] === 'v'), ['v0', 'v1', 'v2', 'v3', 'v4']);
    assert.deepEqual(said.filter((text) => text[0] === 'a'), ['a0', 'a1', 'a2', 'a3', 'a4']);
    for (const one of [page, desk]) {
      assert.deepEqual(one.seqs(), [...new Set(one.seqs())].sort((a, b) => a - b), `cut at frame ${cutAt}`);
    }
    assert.deepEqual(page.texts().filter((text) => text[0] === 'a'), ['a0', 'a1', 'a2', 'a3', 'a4']);
    assert.deepEqual(desk.texts().filter((text) => text[0] === 'v'), ['v0', 'v1', 'v2', 'v3', 'v4']);
    return frames;
  };
  const frames = await run(0, 0);
  for (let cutAt = 1; cutAt <= frames; cutAt++) {
    await run(cutAt, 0);
    await run(cutAt, 400);
  }
});

test('a repeat is answered with the first answer', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  server.onFrame = (direction, socket, kinds) => {
    if (direction === 'down' && kinds[0] === 'send_result') {
      server.onFrame = null;
      socket.cut();
    }
  };
  page.chat.send('once');
  await clock.until(settled(page));
  await clock.advance(100);
  assert.deepEqual(server.texts(), ['once']);
  assert.equal(server.count('send'), 2);
  assert.ok(server.log.some(([, kind, value]) => kind === 'send_result' && value.outcome === 'duplicate'));
  assert.equal(page.events.sent.length, 1);
});

test('busy keeps the order and comes back later', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  server.busy = 3;
  for (let i = 0; i < 6; i++) page.chat.send(`m${i}`);
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), ['m0', 'm1', 'm2', 'm3', 'm4', 'm5']);
  assert.ok(page.events.sent.every(({ state }) => state === 'sent'));
});

test('a gap makes the client go back to the oldest unanswered message', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  await warm({ clock, page });
  server.intercept = (socket, { kind }) => {
    if (kind !== 'send') return false;
    server.intercept = null;
    socket.push('send_result', { n: 5, outcome: 'busy', retry_ms: 50 });
    return true;
  };
  for (let i = 0; i < 4; i++) page.chat.send(`m${i}`);
  await clock.until(settled(page));
  assert.ok(server.log.some(([, kind, value]) => kind === 'send_result' && value.outcome === 'gap'));
  assert.deepEqual(server.texts(), [...WARM, 'm0', 'm1', 'm2', 'm3']);
});

test('the first number on a connection goes alone, each acceptance doubles the window, a setback makes it one', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  let most = 0;
  server.onFrame = () => { most = Math.max(most, page.chat.box.inFlight()); };
  for (let i = 0; i < 60; i++) page.chat.send(`m${i}`);
  await clock.advance(6);
  assert.equal(server.count('send'), 1);
  await clock.advance(10);
  assert.equal(server.count('send'), 3);
  server.busy = 5;
  await clock.until(settled(page));
  assert.equal(most, 16);
  assert.ok(server.count('send') < 60 + 5 + 16, `${server.count('send')} for 60 messages and 5 times busy`);
  assert.deepEqual(server.texts(), Array.from({ length: 60 }, (_, i) => `m${i}`));
});

test('a refused message fails, the ones behind it move up without doubling', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  await warm({ clock, page });
  for (const text of ['a', 'refuse me', 'b', 'c']) page.chat.send(text);
  await clock.until(() => page.chat.outbox.length === 1, 1000);
  assert.deepEqual(server.texts(), [...WARM, 'a', 'b', 'c']);
  const [failed] = page.chat.outbox;
  assert.deepEqual([failed.state, failed.reason, failed.n], ['failed', 'forbidden', 0]);
  assert.equal(page.chat.discard(failed.key), true);
  page.chat.send('d');
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), [...WARM, 'a', 'b', 'c', 'd']);
});

test('a second welcome on a connection, as agents get it after a restart of the backend, sends nothing twice', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  await warm({ clock, page });
  const before = server.count('send');
  for (const text of ['refuse me', 'b', 'c']) page.chat.send(text);
  server.welcome(server.sockets.find((socket) => socket.welcomed));
  await clock.until(() => page.chat.outbox.length === 1, 1000);
  assert.deepEqual(server.texts(), [...WARM, 'b', 'c']);
  assert.equal(server.count('send') - before, 3 + 2, 'three, and two again with the numbers that moved up');
});

test('a refused message whose followers were cut off never makes them double, even when old bytes arrive late', async () => {
  for (const dropSuperseded of [true, false]) {
    const { clock, server, visitor } = world();
    server.dropSuperseded = dropSuperseded;
    const page = visitor();
    await clock.until(open(page));
    await warm({ clock, page });
    page.chat.send('refuse me');
    await clock.advance(2);
    for (const text of ['b', 'c']) page.chat.send(text);
    const { session } = page.chat;
    const [socket] = server.live();
    page.chat.on('sent', ({ state }) => {
      if (state !== 'failed') return;
      socket.lateUpMs = 300; // b and c were refused as a gap, or still hang in some buffer: the client can't know
      socket.cut();
    });
    await clock.until(() => page.chat.outbox.length === 1 && page.chat.state === 'open');
    await clock.advance(5000);
    assert.deepEqual(server.texts(), [...WARM, 'b', 'c']);
    assert.notEqual(page.chat.session, session);
  }
});

test('a refusal heard only after a reconnect does not double what followed it, whenever old bytes arrive', async () => {
  for (let late = 0; late < 1500; late += 20) {
    const { clock, server, visitor } = world();
    server.dropSuperseded = false;
    const page = visitor();
    await clock.until(open(page));
    await warm({ clock, page });
    for (const text of ['refuse me', 'b', 'c', 'd']) page.chat.send(text);
    await clock.advance(2);
    const [socket] = server.live();
    socket.lateUpMs = late;
    socket.cut();
    await clock.until(() => page.chat.outbox.length === 1 && page.chat.state === 'open');
    await clock.advance(5000);
    assert.deepEqual(server.texts(), [...WARM, 'b', 'c', 'd'], `${late} ms late`);
  }
});

test('a failed message goes again on request, at the end', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  const item = page.chat.send('refuse once');
  await clock.until(() => page.chat.outbox[0]?.state === 'failed');
  server.send = function patched(socket, send) {
    return FakeServer.prototype.send.call(this, socket, { ...send, text: send.text.replace('refuse ', '') });
  };
  page.chat.resend(item.key);
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), ['once']);
});

test('a number taken by another body leads to a new session, not to a lost message', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  const session = page.chat.session;
  server.sessionOf({ principal: VISITOR, session }).last = 1;
  server.sessionOf({ principal: VISITOR, session }).accepted.set(1, { text: 'of another tab', seq: 9 });
  // A new item keeps clear of the Welcome's last_n only if it knows it: this Welcome came before.
  page.chat.send('mine');
  page.chat.send('mine too');
  await clock.until(settled(page));
  assert.notEqual(page.chat.session, session);
  assert.deepEqual(server.texts(), ['mine', 'mine too']);
});

test('a reload at any moment sends everything once and in order', async () => {
  for (let reloadAt = 0; reloadAt < 60; reloadAt += 1) {
    const { clock, server, visitor } = world();
    const storage = mapStorage();
    const first = visitor({ storage });
    await clock.advance(reloadAt / 2);
    for (let i = 0; i < 3; i++) first.chat.send(`m${i}`);
    await clock.advance(reloadAt);
    first.kill();
    const second = visitor({ storage });
    second.chat.send('m3');
    await clock.until(settled(second));
    assert.deepEqual(server.texts(), ['m0', 'm1', 'm2', 'm3'], `reload after ${reloadAt} ms`);
  }
});

test('a reload whose last write was lost neither doubles nor drops', async () => {
  const { clock, server, visitor } = world();
  const storage = mapStorage();
  const first = visitor({ storage });
  await clock.until(open(first));
  first.chat.link.phase = 'held back'; // keeps the pump still: stored, unsent
  first.chat.send('hello');
  const stale = new Map(storage.map);
  first.chat.link.phase = 'open';
  first.chat.pump();
  await clock.advance(6);
  assert.deepEqual(server.texts(), ['hello']);
  first.kill();
  const second = visitor({ storage: mapStorage(stale) });
  await clock.until(settled(second));
  assert.deepEqual(server.texts(), ['hello']);
});

test('storage that fails is told, and the chat goes on in memory', async () => {
  const { clock, server, visitor } = world();
  let full = false;
  const storage = mapStorage();
  const set = storage.set;
  storage.set = (key, value) => {
    if (full) throw new Error('quota');
    set(key, value);
  };
  const page = visitor({ storage });
  await clock.until(open(page));
  full = true;
  page.chat.send('still goes');
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), ['still goes']);
  assert.deepEqual(page.events.error.map(({ reason }) => reason), ['storage']);
  assert.equal(storage.map.size, 0, 'no stale numbers stay behind');
});

test('what was said by one person is never sent as another', async () => {
  const { clock, server, visitor } = world();
  const storage = mapStorage();
  const first = visitor({ storage });
  await clock.until(open(first));
  first.socket().mute = true;
  first.chat.send('a secret of the first');
  first.kill();
  const second = visitor({ storage, token: `visitor:${'2'.repeat(32)}` });
  await clock.until(open(second));
  second.chat.send('mine');
  await clock.until(settled(second));
  assert.deepEqual(server.texts(), ['mine']);
});

test('superseded: the older stays away, says what it can not know, and starts anew under another session', async () => {
  const { clock, server, visitor } = world();
  const storage = mapStorage();
  const first = visitor({ storage });
  await clock.until(open(first));
  first.socket().mute = true;
  first.chat.send('on its way');
  const copy = mapStorage(new Map(storage.map));
  const second = visitor({ storage: copy });
  await clock.until(() => first.chat.state === 'closed');
  assert.equal(first.events.closed.at(-1).code, 4501);
  await clock.advance(60_000);
  assert.equal(first.chat.state, 'closed');
  await clock.until(settled(second));
  first.chat.start();
  await clock.until(open(first));
  assert.notEqual(first.chat.session, second.chat.session);
  assert.equal(second.chat.state, 'open');
  // The replay told the older page that its message had been accepted after all.
  await clock.until(() => first.chat.outbox.length === 0);
  assert.deepEqual(server.texts(), ['on its way']);
});

test('a server that lost the last numbers of a session gets the rest, once', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  for (let i = 1; i <= 3; i++) page.chat.send(`m${i}`);
  await clock.until(settled(page));
  const session = server.sessionOf({ principal: VISITOR, session: page.chat.session });
  session.last = 1;
  session.accepted.delete(2);
  session.accepted.delete(3);
  server.live()[0].cut();
  await clock.advance(6);
  page.chat.send('m4');
  await clock.until(settled(page));
  assert.deepEqual(server.texts(), ['m1', 'm2', 'm3', 'm4']);
});

test('the outbox has bounds, and says so without storing', async () => {
  const { server, random } = world();
  const page = new Page(server, random);
  const thrown = (text) => {
    try {
      page.chat.send(text);
      return '';
    } catch (error) {
      return error.reason;
    }
  };
  assert.equal(thrown('  '), 'empty_message');
  assert.equal(thrown('字'.repeat(6000)), 'message_too_long');
  for (let i = 0; i < 16; i++) assert.equal(thrown('x'.repeat(16 * 1024)), '');
  assert.equal(thrown('y'), 'outbox_full');
  assert.equal(page.chat.outbox.length, 16);
});

test('an id or a seq that is none is thrown back where it was given', async () => {
  const { clock, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  const { chat } = page;
  assert.throws(() => chat.send('hi', { conversation: 'x' }), TypeError);
  assert.throws(() => chat.read('', 1), TypeError);
  assert.throws(() => chat.delivered('1', 1), TypeError);
  assert.throws(() => chat.delivered('1'.repeat(32), NaN), TypeError);
  assert.throws(() => chat.read('1'.repeat(32), -1), TypeError);
  assert.throws(() => chat.typing(undefined, true), TypeError);
  assert.throws(() => chat.command({ op: 'transfer', agent: 'me' }), TypeError);
  assert.deepEqual(chat.outbox, []);
});

test('a listener that stops the chat when it is told of unresolved messages does no harm', async () => {
  const { clock, visitor } = world();
  const storage = mapStorage();
  const first = visitor({ storage });
  await clock.until(open(first));
  first.socket().mute = true;
  first.chat.send('fate unknown');
  visitor({ storage: mapStorage(new Map(storage.map)) });
  await clock.until(() => first.chat.state === 'closed');
  const off = first.chat.on('sent', ({ state }) => state === 'failed' && first.chat.stop());
  first.chat.start();
  await clock.advance(5000);
  assert.equal(first.chat.state, 'idle');
  off();
  first.chat.start();
  await clock.until(open(first));
  await clock.until(() => first.chat.outbox.length === 0); // the other page had it, and said it
});
