// The WeChat adapter over a wx that behaves as the mini-program's does: tasks instead of sockets, an error without a
// close, ArrayBuffers only, no TextDecoder needed.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer } from './support/server.js';
import { VirtualClock, seeded } from './support/clock.js';
import { Tidegate } from '../tidegate.js';
import { wechat } from '../wechat.js';

function fakeWx(server) {
  const stored = new Map();
  const shown = new Set();
  const network = new Set();
  const { WebSocket } = server;
  const wx = {
    tasks: [],
    stored,
    connectSocket: ({ url, protocols }) => {
      const socket = new WebSocket(url, protocols);
      const handlers = {};
      socket.onopen = (event) => handlers.open(event);
      socket.onmessage = (event) => handlers.message(event);
      socket.onclose = (event) => handlers.close(event);
      const task = {
        socket,
        onOpen: (callback) => { handlers.open = callback; },
        onMessage: (callback) => { handlers.message = callback; },
        onClose: (callback) => { handlers.close = callback; },
        onError: (callback) => { handlers.error = callback; },
        send: ({ data }) => {
          assert.ok(typeof data === 'string' || data instanceof ArrayBuffer, 'wx sends strings and ArrayBuffers');
          socket.send(typeof data === 'string' ? data : new Uint8Array(data));
        },
        close: ({ code, reason }) => socket.close(code, reason),
        fail: (errMsg) => {
          socket.state = 'closed';
          handlers.error({ errMsg });
        },
      };
      wx.tasks.push(task);
      return task;
    },
    getStorageSync: (key) => stored.get(key) ?? '',
    setStorageSync: (key, value) => void stored.set(key, value),
    removeStorageSync: (key) => void stored.delete(key),
    onAppShow: (callback) => shown.add(callback),
    offAppShow: (callback) => shown.delete(callback),
    onNetworkStatusChange: (callback) => network.add(callback),
    offNetworkStatusChange: (callback) => network.delete(callback),
    show: () => shown.forEach((callback) => callback({})),
    online: (isConnected) => network.forEach((callback) => callback({ isConnected })),
    listeners: () => shown.size + network.size,
  };
  return wx;
}

function world(codec = 'fb') {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  server.busy = 0;
  const wx = fakeWx(server);
  const chat = new Tidegate({
    url: 'wss://test/ws', token: `visitor:${'1'.repeat(32)}`, codec, clock, random: seeded(2), ...wechat(wx),
  }).start();
  return { clock, server, wx, chat };
}

test('a mini-program chats, in both codecs', async () => {
  for (const codec of ['fb', 'json']) {
    const { clock, server, wx, chat } = world(codec);
    chat.send('你好');
    await clock.until(() => chat.state === 'open' && chat.outbox.length === 0);
    assert.deepEqual(server.texts(), ['你好']);
    assert.equal(server.sockets[0].hello.family, 'wechat');
    assert.equal(wx.stored.size, 1);
  }
});

test('a background page whose socket died without a close is back soon after it shows', async () => {
  const { clock, server, wx, chat } = world();
  await clock.until(() => chat.state === 'open');
  server.sockets[0].mute = true;
  wx.show();
  await clock.until(() => chat.state === 'open' && server.sockets.length === 2, 5000);
  wx.online(false);
  await clock.advance(10);
  assert.equal(server.count('ping'), 0, 'losing the network asks nothing');
});

test('an error without a close counts as one', async () => {
  const { clock, server, wx, chat } = world();
  await clock.until(() => chat.state === 'open');
  wx.tasks[0].fail('timeout');
  await clock.until(() => chat.state === 'open' && server.sockets.length === 2);
});

test('stop() takes its listeners back', async () => {
  const { clock, wx, chat } = world();
  await clock.until(() => chat.state === 'open');
  assert.equal(wx.listeners(), 2);
  chat.stop();
  assert.equal(wx.listeners(), 0);
});
