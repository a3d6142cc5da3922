// The place in the queue for an agent: from one update for all to each conversation's own place.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { placeOf } from '../queue.js';
import { FakeServer } from './support/server.js';
import { Page } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';

test('one update for all is heard as the place of each conversation that waits, and as it is by agents', async () => {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  const page = new Page(server, seeded(9)).start();
  await clock.until(() => page.chat.state === 'open');
  const socket = server.live()[0];
  const conversation = 'c'.repeat(32);
  const visitor = page.chat.welcome.principal;
  const update = { waiting: 40, each_ms: 2000, marks: [{ place: 1, ticket: 70 }, { place: 8, ticket: 140 }] };
  socket.push('queue_update', update);
  socket.push('conversation_state', { conversation, visitor, status: 'waiting', position: 4, queue_ticket: 90 });
  socket.push('queue_update', update);
  await clock.until(() => page.events.queue.length > 0);
  assert.deepEqual(page.events.queue.map((one) => [one.conversation, one.position, one.eta_ms]), [[conversation, 3, 6000]]);
  assert.equal(page.chat.conversations.get(conversation).position, 3);
  socket.push('conversation_state', { conversation, visitor, status: 'chatting', agent: 'a'.repeat(32) });
  socket.push('queue_update', update);
  socket.push('queue_update', { waiting: 39, each_ms: 2000, eta_ms: 80_000 });
  await clock.until(() => page.events.queue.length > 1);
  assert.deepEqual(page.events.queue.slice(1).map((one) => [one.conversation, one.waiting]), [['', 39]]);
});

test('a mark is exact, between two marks the place lies between theirs', () => {
  const marks = [{ place: 1, ticket: 10 }, { place: 2, ticket: 20 }, { place: 8, ticket: 1000 }, { place: 9, ticket: 1001 }];
  assert.deepEqual([10, 20, 1000, 1001].map((ticket) => placeOf(ticket, marks)), [1, 2, 8, 9]);
  assert.deepEqual([21, 510, 999].map((ticket) => placeOf(ticket, marks)), [3, 5, 7]);
});

test('who is not in the queue that was marked has no place', () => {
  assert.equal(placeOf(5, []), 0);
  assert.equal(placeOf(5, [{ place: 1, ticket: 6 }]), 0);
  assert.equal(placeOf(7, [{ place: 1, ticket: 6 }]), 0);
});
