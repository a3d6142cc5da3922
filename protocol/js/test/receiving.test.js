// Receiving as stories: nothing twice, nothing out of order, no gap unnoticed, nothing acknowledged that is not held.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeServer, hex } from './support/server.js';
import { Page } from './support/page.js';
import { VirtualClock, seeded } from './support/clock.js';

const AGENT = 'a'.repeat(32);

function world() {
  const clock = new VirtualClock();
  const server = new FakeServer(clock);
  server.agent = AGENT;
  server.busy = 0;
  const random = seeded(1);
  const visitor = (options) => new Page(server, random, options).start();
  const agent = (options) => new Page(server, random, { token: `agent:${AGENT}`, ...options }).start();
  return { clock, server, visitor, agent };
}

const open = (page) => () => page.chat.state === 'open';
const settled = (page) => () => page.chat.state === 'open' && page.chat.outbox.length === 0;
const says = (server, conversation) => (text) =>
  server.append(conversation, { sender: conversation.visitor, sender_role: 'visitor', text });

test('a message that comes twice is shown once, without a reconnect', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const message = server.append(conversation, { sender: AGENT, sender_role: 'agent', text: 'two' });
  for (let i = 0; i < 3; i++) server.live()[0].push('message', message);
  await clock.advance(60_000);
  assert.deepEqual(page.texts(), ['two']);
  assert.equal(server.sockets.length, 1);
});

test('a message that is missing in the middle is fetched by a resume, and shown in order', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const say = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  say('two');
  const socket = server.live()[0];
  const push = socket.push;
  socket.push = () => {};
  say('three');
  socket.push = push;
  say('four');
  await clock.advance(20);
  assert.deepEqual(page.texts(), ['two'], 'four waits for three');
  await clock.until(() => page.texts().length === 3);
  assert.deepEqual(page.texts(), ['two', 'three', 'four']);
});

test('what can not be recovered is asked for as history, and acknowledged only then', async () => {
  const { clock, server, visitor } = world();
  const page = visitor({ readsHistory: false });
  const asked = [];
  page.chat.on('history', (event) => asked.push(event));
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const say = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  const socket = server.live()[0];
  socket.mute = true;
  for (let i = 2; i <= 30; i++) say(`m${i}`);
  server.windowMessages = 10;
  socket.mute = false;
  socket.cut();
  await clock.until(() => asked.length === 1);
  assert.deepEqual(
    { after: asked[0].after, to: asked[0].to, reset: asked[0].reset }, { after: 1, to: 30, reset: false });
  say('m31');
  await clock.until(() => page.texts().length === 1);
  await clock.advance(1000);
  assert.equal(conversation.marks.visitor_delivered, 1, 'the hole is not claimed');
  server.live()[0].cut();
  await clock.until(() => asked.length === 2);
  assert.equal(asked[1].to, 31, 'still not read: asked again');
  page.chat.delivered(conversation.id, 31);
  await clock.until(() => conversation.marks.visitor_delivered === 31);
});

test('a hole that a later resume fills is handed on without repeating what is beyond it', async () => {
  const { clock, server, visitor } = world();
  const page = visitor({ readsHistory: false });
  page.chat.on('history', () => {});
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const say = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  server.live()[0].mute = true;
  for (let i = 2; i <= 5; i++) say(`m${i}`);
  server.windowMessages = 1;
  server.live()[0].mute = false;
  server.live()[0].cut();
  await clock.until(() => page.events.welcome.length === 2);
  say('m6');
  await clock.until(() => page.texts().length === 1);
  server.windowMessages = Infinity;
  server.live()[0].cut();
  await clock.until(() => page.texts().length === 5);
  await clock.advance(1000);
  assert.deepEqual(page.texts(), ['m6', 'm2', 'm3', 'm4', 'm5']);
  await clock.until(() => conversation.marks.visitor_delivered === 6);
});

test('another incarnation makes the client read everything anew', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  server.append(conversation, { sender: AGENT, sender_role: 'agent', text: 'lost in the restore' });
  await clock.until(() => page.texts().length === 1);
  conversation.incarnation = 8;
  conversation.messages.pop();
  server.append(conversation, { sender: AGENT, sender_role: 'agent', text: 'after the restore' });
  server.live()[0].cut();
  await clock.until(() => page.events.history.length === 1);
  assert.equal(page.events.history[0].reset, true);
  assert.deepEqual(page.texts(), ['m1', 'after the restore']);
});

test('acknowledgements leave at once after a quiet time, then at most every 50 ms, one for each conversation', async () => {
  const { clock, server, agent } = world();
  const conversations = [hex(1), hex(2)].map((visitor) => server.begin(visitor));
  const desk = agent();
  await clock.until(open(desk));
  for (let i = 0; i < 10; i++) {
    for (const one of conversations) server.append(one, { sender: one.visitor, sender_role: 'visitor', text: `${i}` });
  }
  await clock.advance(6);
  await clock.advance(6);
  const first = server.count('ack');
  assert.ok(first >= 1 && first <= 2, `${first} at once`);
  await clock.advance(1000);
  assert.ok(server.count('ack') <= first + 2);
  assert.ok(conversations.every(({ marks }) => marks.agent_delivered === 10));
});

test('whatever arrives is acknowledged, also what was there before or waits for history', async () => {
  const { clock, server, visitor } = world();
  const page = visitor({ readsHistory: false });
  page.chat.on('history', () => {});
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const said = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  const m2 = said('m2');
  await clock.until(() => conversation.marks.visitor_delivered === 2);
  // The server crashed and lost the mark, not the message: it comes again, on the same connection.
  conversation.marks.visitor_delivered = 0;
  server.live()[0].push('message', m2);
  await clock.until(() => conversation.marks.visitor_delivered === 2, 100);
  server.live()[0].mute = true;
  for (let i = 3; i <= 9; i++) said(`m${i}`);
  server.windowMessages = 2;
  server.live()[0].mute = false;
  server.live()[0].cut();
  await clock.until(() => page.events.welcome.length === 2);
  const before = server.count('ack');
  said('m10');
  await clock.advance(200);
  assert.equal(server.count('ack'), before + 1, 'a sign of life');
  assert.equal(conversation.marks.visitor_delivered, 2, 'and no more than that');
});

test('marks that a state shows as lost are said again', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  page.chat.read(conversation.id, 1);
  await clock.until(() => conversation.marks.visitor_read === 1);
  await clock.advance(2000);
  conversation.marks.visitor_read = 0;
  server.live()[0].push('conversation_state', server.state(conversation));
  await clock.until(() => conversation.marks.visitor_read === 1, 100);
  const acks = server.count('ack');
  for (let i = 0; i < 5; i++) server.live()[0].push('conversation_state', server.state(conversation));
  await clock.advance(1000);
  assert.equal(server.count('ack'), acks);
});

test('marks lost with a connection are said again after the resume', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('hi');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  server.append(conversation, { sender: AGENT, sender_role: 'agent', text: 'hello' });
  await clock.until(() => page.texts().length === 1);
  page.chat.read(conversation.id, 2);
  await clock.until(() => conversation.marks.visitor_read === 2);
  Object.assign(conversation.marks, { visitor_delivered: 0, visitor_read: 0 });
  server.live()[0].cut();
  await clock.until(() => conversation.marks.visitor_read === 2 && conversation.marks.visitor_delivered === 2);
});

test('an agent who joins a running conversation is asked to read what was said before', async () => {
  const { clock, server, agent } = world();
  const desk = agent();
  await clock.until(open(desk));
  server.agent = '';
  const conversation = server.begin(hex(5));
  for (const text of ['m1', 'm2', 'm3']) says(server, conversation)(text);
  conversation.agent = AGENT;
  server.live()[0].push('conversation_state', server.state(conversation));
  await clock.until(() => desk.events.history.length === 1, 1000);
  assert.deepEqual([desk.events.history[0].after, desk.events.history[0].to], [0, 3]);
  says(server, conversation)('m4');
  await clock.until(() => desk.texts().length === 4 && conversation.marks.agent_delivered === 4);
  assert.deepEqual(desk.texts(), ['m1', 'm2', 'm3', 'm4']);
  assert.equal(server.sockets.length, 1);
});

test('a conversation of somebody else is no reason to read its history', async () => {
  const { clock, server, agent } = world();
  const desk = agent();
  await clock.until(open(desk));
  server.agent = 'b'.repeat(32);
  const conversation = server.begin(hex(5));
  says(server, conversation)('not for you');
  server.live()[0].push('conversation_state', server.state(conversation));
  await clock.advance(5000);
  assert.deepEqual(desk.events.history, []);
  assert.equal(desk.events.conversation.length, 1);
});

test('a Welcome that knows no cursors and goes on behind what another device has is answered by a resume', async () => {
  const { clock, server, agent } = world();
  const conversation = server.begin(hex(5));
  const desk = agent();
  await clock.until(open(desk));
  says(server, conversation)('m1');
  await clock.until(() => conversation.marks.agent_delivered === 1);
  const again = () => server.live()[0].push('welcome', {
    ...desk.events.welcome[0], conversations: [{ state: server.state(conversation), recovered: true }],
  });
  again();
  await clock.advance(1000);
  assert.equal(server.sockets.length, 1, 'nothing is missing');
  server.live()[0].mute = true;
  says(server, conversation)('m2');
  server.live()[0].mute = false;
  conversation.marks.agent_delivered = 2; // by the other device
  again();
  await clock.until(() => desk.texts().length === 2, 2000);
  assert.deepEqual(desk.texts(), ['m1', 'm2']);
  assert.equal(server.sockets.length, 2);
});

test('a conversation that a full Welcome had no room for is not resumed in silence', async () => {
  const { clock, server, agent } = world();
  const conversation = server.begin(hex(5));
  says(server, conversation)('m1');
  const desk = agent();
  await clock.until(() => desk.texts().length === 1);
  server.live()[0].mute = true;
  says(server, conversation)('m2');
  server.live()[0].mute = false;
  server.live()[0].cut();
  server.agent = ''; // the Welcome names others only
  conversation.agent = '';
  await clock.until(() => desk.events.welcome.length === 2);
  conversation.agent = AGENT;
  server.live()[0].push('conversation_state', server.state(conversation));
  await clock.until(() => desk.events.history.length === 1, 100);
  assert.deepEqual([desk.events.history[0].after, desk.events.history[0].to], [1, 2]);
  await clock.until(() => conversation.marks.agent_delivered === 2);
});

test('a conversation that neither Welcome nor what follows it names has left', async () => {
  const { clock, server, agent } = world();
  const kept = server.begin(hex(5));
  const late = server.begin(hex(6));
  const left = server.begin(hex(7));
  const desk = agent();
  await clock.until(open(desk));
  assert.equal(desk.chat.conversations.size, 3);
  server.live()[0].cut();
  left.agent = hex(9);
  late.agent = hex(9); // no room for it in the Welcome
  await clock.until(() => desk.events.welcome.length === 2);
  late.agent = AGENT;
  server.live()[0].push('conversation_state', server.state(late));
  await clock.advance(4000);
  assert.deepEqual([...desk.chat.conversations.keys()].sort(), [kept.id, late.id].sort());
  const last = desk.events.conversation.filter(({ conversation }) => conversation === left.id).at(-1);
  assert.equal(last.mine, false);
  assert.ok(desk.events.conversation.filter(({ conversation }) => conversation === late.id).every(({ mine }) => mine));
});

test('a gap that no resume fills is asked for as history in the end', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const { toOthers } = server;
  const said = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  said('m2');
  server.toOthers = () => {};
  const lost = said('m3');
  server.toOthers = toOthers;
  const { slice } = conversation.messages;
  conversation.messages.slice = function without(...range) {
    return slice.apply(this, range).filter(({ seq }) => seq !== lost.seq);
  };
  said('m4');
  await clock.until(() => page.events.history.length === 1, 60_000);
  assert.deepEqual([page.events.history[0].after, page.events.history[0].to], [2, 3]);
  assert.ok(page.texts().includes('m4'));
  assert.equal(server.sockets.length, 3, 'two resumes were tried');
});

test('messages held back have a bound', async () => {
  const { clock, server, visitor } = world();
  const page = visitor();
  await clock.until(open(page));
  page.chat.send('m1');
  await clock.until(settled(page));
  const [conversation] = server.conversations.values();
  const said = (text) => server.append(conversation, { sender: AGENT, sender_role: 'agent', text });
  said('m2');
  await clock.advance(10);
  const { toOthers } = server;
  server.toOthers = () => {};
  said('m3');
  server.toOthers = toOthers;
  for (let i = 4; i < 304; i++) said(`m${i}`);
  await clock.advance(20);
  assert.ok(page.chat.streams.streams.get(conversation.id).held.size <= 256);
  await clock.until(() => page.texts().length === 302, 2000);
  assert.deepEqual(page.seqs(), Array.from({ length: 302 }, (_, i) => i + 2));
});

test('conversations remembered have a bound, and the open ones stay', async () => {
  const { clock, server, agent } = world();
  const desk = agent();
  await clock.until(open(desk));
  const kept = server.begin(hex(1));
  for (let i = 2; i < 400; i++) {
    const conversation = server.begin(hex(i));
    says(server, conversation)('hi');
    conversation.status = 'closed';
    server.toOthers(conversation, null, 'conversation_state', server.state(conversation));
    await clock.advance(20);
  }
  assert.ok(desk.chat.conversations.size <= 256);
  assert.ok(desk.chat.streams.streams.size <= 256);
  assert.ok(desk.chat.conversations.has(kept.id));
  server.live()[0].cut();
  await clock.until(() => desk.events.welcome.length === 2);
  assert.equal(server.live()[0].hello.cursors.length, 64);
});
