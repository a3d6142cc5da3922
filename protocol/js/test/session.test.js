// One session, one page: duplicated tabs, shared storage, pages that die with and without Web Locks.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer } from './support/server.js';
import { Page, mapStorage } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';

/** navigator.locks of one origin; page() gives each page its own view, which dies with it. */
class FakeLocks {
  constructor() {
    this.held = new Map();  // name → page
    this.queue = [];
  }

  page() {
    const page = {};
    return {
      request: (name, { signal }, callback) => new Promise((resolve, reject) => {
        const entry = { name, page, callback, resolve };
        signal.addEventListener('abort', () => {
          if (!this.queue.includes(entry)) return;
          this.queue.splice(this.queue.indexOf(entry), 1);
          reject(Object.assign(new Error('aborted'), { name: 'AbortError' }));
        });
        this.queue.push(entry);
        this.grant();
      }),
      die: () => {
        this.queue = this.queue.filter((entry) => entry.page !== page);
        for (const [name, holder] of this.held) if (holder === page) this.held.delete(name);
        this.grant();
      },
    };
  }

  grant() {
    for (const entry of [...this.queue]) {
      if (this.held.has(entry.name)) continue;
      this.held.set(entry.name, entry.page);
      this.queue.splice(this.queue.indexOf(entry), 1);
      Promise.resolve(entry.callback()).then(() => {
        if (this.held.get(entry.name) === entry.page) this.held.delete(entry.name);
        entry.resolve();
        this.grant();
      });
    }
  }
}

function world() {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  server.busy = 0;
  const random = seeded(4);
  const origin = new FakeLocks();
  const page = (storage) => {
    const locks = origin.page();
    const opened = new Page(server, random, { storage, locks }).start();
    const kill = opened.kill.bind(opened);
    opened.kill = () => {
      kill();
      locks.die();
    };
    return opened;
  };
  return { clock, server, origin, page };
}

const open = (page) => () => page.chat.state === 'open';
const settled = (page) => () => open(page)() && page.chat.outbox.length === 0;

test('each connection of a session has a larger number than the one before, reloads included', async () => {
  const { clock, server, page } = world();
  const storage = mapStorage();
  const first = page(storage);
  await clock.until(open(first));
  const numbers = [server.live()[0].hello.connection];
  for (let round = 2; round < 6; round++) {
    server.live()[0].cut();
    await clock.until(() => first.events.welcome.length === round);
    numbers.push(server.live()[0].hello.connection);
  }
  first.kill();
  const second = page(storage);
  await clock.until(open(second));
  assert.equal(second.chat.session, first.chat.session);
  numbers.push(server.live().at(-1).hello.connection);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
  assert.ok(numbers[0] > 0);
});

test('a duplicated tab begins a session of its own, and both keep it over a reload', async () => {
  const { clock, server, page } = world();
  const storage = mapStorage();
  const first = page(storage);
  await clock.until(open(first));
  first.socket().mute = true;
  first.chat.send('of the first tab');
  const copied = mapStorage(new Map(storage.map));
  const second = page(copied);
  await clock.until(open(second));
  assert.notEqual(second.chat.session, first.chat.session);
  assert.deepEqual(second.chat.outbox, [], 'the outbox stays with its session');
  const session = second.chat.session;
  second.kill();
  const reloaded = page(copied);
  await clock.until(open(reloaded));
  assert.equal(reloaded.chat.session, session);
  await clock.until(settled(first));
  assert.deepEqual(server.texts(), ['of the first tab']);
});

test('a reload whose predecessor lets go late keeps its session and outbox', async () => {
  const { clock, server, page } = world();
  const storage = mapStorage();
  const first = page(storage);
  await clock.until(open(first));
  first.socket().mute = true;
  first.chat.send('kept');
  const session = first.chat.session;
  const second = page(storage);
  await clock.advance(300);
  first.kill();
  await clock.until(settled(second));
  assert.equal(second.chat.session, session);
  assert.deepEqual(server.texts(), ['kept']);
});

test('tabs that share a storage share no session, and inherit what a closed one left', async () => {
  const { clock, server, page } = world();
  const storage = mapStorage();
  const tabs = [page(storage), page(storage), page(storage)];
  for (const tab of tabs) await clock.until(open(tab));
  assert.equal(new Set(tabs.map((tab) => tab.chat.session)).size, 3);
  tabs[1].socket().mute = true;
  tabs[1].chat.send('left behind');
  tabs[1].kill();
  const later = page(storage);
  await clock.until(settled(later));
  assert.equal(later.chat.session, tabs[1].chat.session);
  assert.deepEqual(server.texts(), ['left behind']);
});

test('more tabs than slots: the last ones live in memory', async () => {
  const { clock, page } = world();
  const storage = mapStorage();
  const tabs = Array.from({ length: 10 }, () => page(storage));
  for (const tab of tabs) await clock.until(open(tab));
  assert.equal(new Set(tabs.map((tab) => tab.chat.session)).size, 10);
  assert.equal(storage.map.size, 8);
});

test('stop() lets go of the session, start() takes it again', async () => {
  const { clock, origin, page } = world();
  const storage = mapStorage();
  const tab = page(storage);
  await clock.until(open(tab));
  const { session } = tab.chat;
  tab.chat.stop();
  await clock.advance(1);
  assert.equal(origin.held.size, 0);
  tab.chat.start();
  await clock.until(open(tab));
  assert.equal(tab.chat.session, session);
});

test('a renewed session is held like the first', async () => {
  const { clock, origin, server, page } = world();
  const tab = page(mapStorage());
  await clock.until(open(tab));
  const old = tab.chat.session;
  const known = server.sessionOf({ principal: '1'.repeat(32), session: old });
  known.last = 1;
  known.accepted.set(1, { text: 'taken', seq: 1 });
  tab.chat.send('mine');
  await clock.until(settled(tab));
  assert.deepEqual([...origin.held.keys()], [`tidegate:session:${tab.chat.session}`]);
});

test('locks that may not be used are done without', async () => {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  const locks = { request: () => Promise.reject(Object.assign(new Error('opaque origin'), { name: 'SecurityError' })) };
  const tab = new Page(server, seeded(1), { locks }).start();
  await clock.until(open(tab));
});

test('a record that can not be read is replaced', async () => {
  for (const junk of ['', '{', 'null', '{"version":9}', '{"version":1,"session":"x","last":0,"items":[]}']) {
    const { clock, page } = world();
    const tab = page(mapStorage(new Map([['tidegate.0', junk]])));
    await clock.until(open(tab));
    assert.match(tab.chat.session, /^[0-9a-f]{16}$/);
  }
});

test('storage that may not be touched at all is done without', async () => {
  const { clock, server, page } = world();
  const refuse = () => {
    throw new Error('denied');
  };
  const tab = page({ get: refuse, set: refuse, remove: refuse });
  tab.chat.send('hi');
  await clock.until(settled(tab));
  assert.deepEqual(server.texts(), ['hi']);
});
