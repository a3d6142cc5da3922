// Connections: heartbeat, half-open peers, backoff, close codes, the waiting room, tokens, wake-ups.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer } from './support/server.js';
import { Page } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';
import { backoffMs } from '../close.js';

function world(options = {}) {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  const page = new Page(server, seeded(9), options).start();
  return { clock, server, page };
}

const open = (page) => () => page.chat.state === 'open';
const states = (page) => page.events.state.map(({ state }) => state);

test('Hello carries token, session, family, locale and page, and both subprotocols work', async () => {
  for (const codec of ['fb', 'json']) {
    const { clock, server, page } = world({ codec, locale: 'zh-CN', page: `/shop/${'你'.repeat(1000)}`, family: 'app' });
    await clock.until(open(page));
    const { hello } = server.sockets[0];
    assert.equal(hello.token, `visitor:${'1'.repeat(32)}`);
    assert.match(hello.session, /^[0-9a-f]{16}$/);
    assert.equal(hello.session, page.chat.session);
    assert.deepEqual([hello.family, hello.locale], ['app', 'zh-CN']);
    assert.ok(Buffer.byteLength(hello.page) <= 2048 && hello.page.endsWith('你'));
    assert.equal(server.sockets[0].codec.subprotocol, `tidegate.v1.${codec}`);
    assert.deepEqual(states(page), ['connecting', 'connecting', 'open']);
  }
});

test('a silent connection is pinged at the interval of Welcome, and any traffic counts', async () => {
  const { clock, server, page } = world();
  server.heartbeat_ms = 20_000;
  await clock.until(open(page));
  await clock.advance(17_900);
  assert.equal(server.count('ping'), 0);
  await clock.advance(2200);
  assert.equal(server.count('ping'), 1);
  for (let i = 0; i < 10; i++) {
    await clock.advance(10_000);
    server.live()[0].push('queue_update', { waiting: 1 });
  }
  assert.equal(server.count('ping'), 1);
  await clock.advance(200_000);
  assert.ok(server.count('ping') >= 9);
  assert.equal(server.sockets.length, 1);
});

test('a half-open connection is left for a new one within heartbeat and pong limit', async () => {
  const { clock, server, page } = world();
  server.heartbeat_ms = 20_000;
  await clock.until(open(page));
  server.sockets[0].mute = true;
  await clock.advance(27_000);
  assert.equal(server.sockets.length, 1);
  await clock.advance(4000);
  assert.equal(server.sockets.length, 2);
  assert.equal(page.chat.state, 'open');
  assert.equal(page.events.closed[0].code, 4003);
});

test('a message without an answer makes the silence suspicious long before the heartbeat', async () => {
  const { clock, server, page } = world();
  server.heartbeat_ms = 300_000;
  await clock.until(open(page));
  server.sockets[0].mute = true;
  page.chat.send('anybody?');
  await clock.until(() => page.chat.outbox.length === 0, 17_000);
  assert.deepEqual(server.texts(), ['anybody?']);
});

test('a send that is never answered on a live connection is asked again on a new one', async () => {
  const { clock, server, page } = world();
  server.agent = 'a'.repeat(32);
  await clock.until(open(page));
  server.intercept = (socket, { kind }) => kind === 'send' && socket === server.sockets[0];
  page.chat.send('lost inside');
  const chatter = setEvery(clock, 3000, () => server.live()[0]?.push('queue_update', { waiting: 2 }));
  await clock.until(() => page.chat.outbox.length === 0, 35_000);
  chatter.stop();
  assert.deepEqual(server.texts(), ['lost inside']);
  assert.equal(server.sockets.length, 2);
});

function setEvery(clock, ms, callback) {
  let stopped = false;
  const again = () => {
    if (stopped) return;
    callback();
    clock.setTimeout(again, ms);
  };
  clock.setTimeout(again, ms);
  return { stop: () => { stopped = true; } };
}

test('backoff is full jitter, doubles, and ends at its maximum', () => {
  for (let attempt = 0; attempt < 40; attempt++) {
    assert.equal(backoffMs(attempt, () => 0), 0);
    assert.equal(backoffMs(attempt, () => 0.5), Math.min(30_000, 500 * 2 ** attempt) / 2);
  }
});

test('a server that is down is tried ever more rarely, and found again', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  await clock.advance(60_000);
  const push = server.received;
  const { WebSocket } = server;
  let tries = 0;
  page.chat.host.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      tries++;
      setImmediate(() => this.cut());
    }
  };
  server.live()[0].cut();
  await clock.advance(60_000);
  const inFirstMinute = tries;
  await clock.advance(300_000);
  assert.ok(inFirstMinute >= 3 && inFirstMinute < 25, `${inFirstMinute} tries`);
  assert.ok(tries - inFirstMinute < 50, `${tries} tries`);
  assert.equal(page.chat.state, 'reconnecting');
  page.chat.host.WebSocket = WebSocket;
  server.received = push;
  await clock.until(open(page), 31_000);
});

test('retry_ms of a close reason is waited for, with jitter on top', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  const at = clock.now();
  server.live()[0].closeByServer(4005, 'retry_ms=7000 drain');
  await clock.until(() => server.sockets.length === 2);
  const waited = clock.now() - at;
  assert.ok(waited >= 7000 && waited <= 7600, `${waited}`);
});

test('Goaway: stays as long as the server does, comes back when it said', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  server.live()[0].push('goaway', { retry_ms: 3000 });
  await clock.advance(100);
  page.chat.send('still served');
  await clock.advance(2000);
  assert.deepEqual(server.texts(), ['still served']);
  assert.equal(server.sockets.length, 1);
  await clock.advance(1100);
  assert.equal(server.sockets.length, 2);
  server.live()[0].push('goaway', { retry_ms: 3000 });
  await clock.advance(10);
  server.live()[0].closeByServer(4005, '');
  const at = clock.now();
  await clock.until(() => server.sockets.length === 3);
  assert.ok(clock.now() - at >= 2900, 'closed early: the time still holds');
});

test('codes from 4500 on end it, and start() tries again', async () => {
  const { clock, server, page } = world();
  server.tokenError = 4500;
  await clock.until(() => page.chat.state === 'closed');
  await clock.advance(3_600_000);
  assert.equal(server.sockets.length, 1);
  assert.deepEqual(page.events.closed, [{ code: 4500, reason: 'token', retriable: false }]);
  assert.equal(page.events.state.at(-1).code, 4500);
  server.tokenError = 0;
  page.chat.start();
  await clock.until(open(page));
});

test('an expired token is renewed at once; a refused renewal backs off', async () => {
  const asked = [];
  const { clock, server, page } = world({
    token: async (why) => {
      asked.push(why);
      return `visitor:${'1'.repeat(32)}`;
    },
  });
  await clock.until(open(page));
  assert.deepEqual(asked, ['first']);
  server.tokenError = 4504;
  server.live()[0].closeByServer(4504, '');
  await clock.advance(20_000);
  assert.ok(asked.length > 2 && asked.length < 20, `${asked.length}`);
  assert.ok(asked.slice(1).every((why) => why === 'expired'));
  server.tokenError = 0;
  await clock.until(open(page));
});

test('an expired token that is a string ends it', async () => {
  const { clock, server, page } = world();
  server.tokenError = 4504;
  await clock.until(() => page.chat.state === 'closed');
  assert.equal(page.events.closed[0].retriable, false);
});

test('a token function that throws, or never answers, is tried again', async () => {
  let tries = 0;
  const { clock, page } = world({
    token: () => {
      tries++;
      if (tries === 1) throw new Error('offline');
      if (tries === 2) return new Promise(() => {});
      return `visitor:${'1'.repeat(32)}`;
    },
  });
  await clock.until(open(page), 40_000);
  assert.deepEqual(page.events.error.map(({ reason }) => reason), ['token']);
});

test('the waiting room: told, kept over a cut with the ticket, then welcomed', async () => {
  const { clock, server, page } = world();
  server.admit = false;
  await clock.until(() => page.chat.state === 'waiting');
  assert.deepEqual(page.events.wait.map(({ place, rate_per_s }) => [place, rate_per_s]), [[100, 10]]);
  page.chat.send('written while waiting');
  server.live()[0].cut();
  await clock.until(() => server.sockets.length === 2 && page.events.wait.length === 2);
  assert.equal(server.sockets[1].hello.ticket, 'ticket-1');
  await clock.advance(300_000);
  assert.equal(server.sockets.length, 2, 'waiting for long is no failure: pings are answered');
  server.admit = true;
  server.welcome(server.live()[0]);
  await clock.until(open(page));
  await clock.until(() => page.chat.outbox.length === 0);
  server.live()[0].push('admitted', { ticket: 'pass-1' });
  await clock.until(() => page.chat.slot.record.ticket === 'pass-1');
  server.live()[0].cut();
  await clock.until(() => server.sockets.length === 3 && open(page)());
  assert.equal(server.sockets[2].hello.ticket, 'pass-1', 'who was inside comes back in');
});

test('no Welcome, or no open at all, is a failed attempt', async () => {
  const { clock, server, page } = world();
  server.intercept = (socket) => socket === server.sockets[0];
  await clock.until(open(page), 17_000);
  server.onFrame = null;
  const { WebSocket } = server;
  let deaf = 1;
  page.chat.host.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.mute = deaf-- > 0;
    }
  };
  server.live()[0].cut();
  await clock.until(() => open(page)() && server.sockets.length === 4, 18_000);
});

test('a wake-up ends a pause, but not before the server\'s time', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  page.chat.link.attempt = 12;
  server.live()[0].cut();
  await clock.advance(10);
  page.wake();
  await clock.until(open(page), 400);
  server.live()[0].closeByServer(4005, 'retry_ms=5000');
  await clock.advance(10);
  const at = clock.now();
  page.wake();
  await clock.until(open(page));
  assert.ok(clock.now() - at >= 4900);
});

test('a wake-up asks a connection whether it lives, and gives it little time', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  page.wake();
  await clock.advance(20);
  assert.equal(server.count('ping'), 1);
  server.sockets[0].mute = true;
  page.wake();
  await clock.until(() => server.sockets.length === 2 && open(page)(), 5000);
});

test('commands: answered, refused, lost with their connection, or too late', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(() => page.chat.outbox.length === 0);
  const [{ id }] = server.conversations.values();
  const run = async (request, ms = 100) => {
    const result = page.chat.command(request).then((value) => value.status, (error) => error.reason);
    await clock.advance(ms);
    return result;
  };
  assert.equal(await run({ op: 'close', conversation: id }), 'closed');
  assert.equal(await run({ op: 'close', conversation: 'f'.repeat(32) }), 'no_such_conversation');
  assert.equal(page.events.error.length, 0, 'a refusal goes to who asked');
  server.intercept = (socket, { kind }) => kind === 'command';
  assert.equal(await run({ op: 'close', conversation: id }, 16_000), 'timeout');
  const lost = page.chat.command({ op: 'close', conversation: id }).catch((error) => error.reason);
  server.live()[0].cut();
  await clock.advance(10);
  assert.equal(await lost, 'connection_lost');
  server.intercept = null;
  const early = page.chat.command({ op: 'close', conversation: id });
  await clock.until(open(page));
  await clock.advance(50);
  assert.equal((await early).status, 'closed');
});

test('typing is said at most every three seconds, and its end once', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(() => page.chat.outbox.length === 0);
  const [{ id }] = server.conversations.values();
  for (let i = 0; i < 50; i++) {
    page.chat.typing(id, true);
    await clock.advance(100);
  }
  page.chat.typing(id, false);
  page.chat.typing(id, false);
  await clock.advance(10);
  assert.deepEqual(server.log.filter(([, kind]) => kind === 'typing').map(([, , { active }]) => active), [true, true, false]);
});

test('a listener that throws harms nobody, and is told', async () => {
  const { clock, page } = world();
  page.chat.on('welcome', () => {
    throw new Error('mine');
  });
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(() => page.chat.outbox.length === 0);
  assert.deepEqual(page.events.error.map(({ reason, cause }) => [reason, cause.message]), [['listener', 'mine']]);
});

test('stop() in any state, from any listener, leaves no timer and no socket behind', async () => {
  for (const type of ['state', 'welcome', 'wait', 'closed', 'sent', 'message']) {
    const { clock, server, page } = world();
    server.agent = 'a'.repeat(32);
    if (type === 'wait') server.admit = false;
    page.chat.on(type, () => page.chat.stop());
    page.chat.send('hi');
    await clock.advance(100);
    const [conversation] = server.conversations.values();
    if (conversation) server.append(conversation, { text: 'x', sender: 'a'.repeat(32) });
    if (type === 'closed') server.live()[0].cut();
    await clock.advance(1000);
    assert.equal(page.chat.state, 'idle', type);
    assert.equal(server.live().length, 0, type);
    await clock.advance(100_000);
    assert.equal(clock.timers.length, 0, `${type} leaves timers`);
  }
});

test('stop() and start() go on where they were', async () => {
  const { clock, server, page } = world();
  await clock.until(open(page));
  page.chat.send('one');
  page.chat.stop();
  page.chat.send('two');
  await clock.advance(1000);
  page.chat.start();
  await clock.until(() => open(page)() && page.chat.outbox.length === 0);
  assert.deepEqual(server.texts(), ['one', 'two']);
  assert.equal(server.sessions.size, 1);
});

test('without a WebSocket it says so and goes on trying', async () => {
  const { clock, page } = world({ WebSocket: class {
    constructor() {
      throw new Error('no such thing');
    }
  } });
  await clock.advance(5000);
  assert.ok(page.events.error.length > 1);
  assert.equal(page.events.error[0].reason, 'transport');
});

test('cut off with everybody else: who chats is back at once, the others spread, and whoever has something to say hurries', async () => {
  const pause = async (prepare) => {
    const { clock, server, page } = world();
    await clock.until(open(page));
    await prepare(page, server, clock);
    server.live()[0].cut();
    await clock.until(() => page.chat.state === 'reconnecting');
    return { clock, server, page, inMs: page.events.state.at(-1).inMs };
  };
  const chatting = await pause(async (page, server, clock) => {
    server.live()[0].push('conversation_state', { conversation: 'c'.repeat(32), visitor: page.chat.welcome.principal, status: 'chatting' });
    await clock.until(() => page.chat.conversations.size === 1);
  });
  assert.ok(chatting.inMs <= 500, `${chatting.inMs}`);
  const { clock, server, page, inMs } = await pause(async (_page, _server, clock) => clock.advance(11_000));
  assert.ok(inMs > 500 && inMs <= 4_500, `${inMs}: this seed draws a long one`);
  page.chat.send('now');
  await clock.until(() => server.sockets.length === 2, 260);
});

test('who waits at the door comes back within a share of the expected time', async () => {
  const { clock, server, page } = world();
  server.admit = false;
  await clock.until(() => page.chat.state === 'waiting');
  server.live()[0].cut();
  await clock.until(() => page.chat.state === 'connecting' && page.events.state.at(-1).inMs > 0);
  assert.ok(page.events.state.at(-1).inMs <= 500 + 10_000 / 4);
});
