// Both codecs: every value survives, malformed input is told and nothing else, text without the platform's classes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { CODECS, HEADER_BYTES } from '../envelope.js';
import { KINDS, TABLES, absentValue, tableOf } from '../schema.js';
import { readRoot, writeRoot } from '../flat.js';
import { complete } from '../json.js';
import { cutUtf8, decodeByHand, encodeByHand } from '../utf8.js';
import { seeded } from './support/clock.js';

const TS_US = 1_732_000_000_000_123;

/** A random value of a table; about half of the fields are absent. */
function randomTable(name, random, depth = 0) {
  const value = {};
  for (const field of TABLES[name]) value[field.name] = randomField(field, random, depth);
  return value;
}

function randomField(field, random, depth) {
  if (random() < 0.4) return absentValue(field);
  const digits = (count) => Array.from({ length: count }, () => Math.floor(random() * 16).toString(16)).join('');
  switch (field.type) {
    case 'u64': return Math.floor(random() * 2 ** Math.floor(random() * 54));
    case 'u32': return Math.floor(random() * 2 ** 32);
    case 'bool': return random() < 0.5;
    case 'enum': return field.names[Math.floor(random() * field.names.length)];
    case 'id': return `1${digits(31)}`;
    case 'session': return `f${digits(15)}`;
    case 'string': return ['', 'hi', '你好，世界', '🙂 mixed ü', 'x'.repeat(300)][Math.floor(random() * 5)];
    case 'table': return randomTable(field.of, random, depth + 1);
    default: return Array.from({ length: Math.floor(random() * 4) }, () => randomTable(field.of, random, depth + 1));
  }
}

test('every kind survives both codecs, alone and in batches', () => {
  const random = seeded(42);
  for (let round = 0; round < 300; round++) {
    const envelopes = Object.values(KINDS).filter(() => random() < 0.3)
      .map((kind) => ({ kind, value: randomTable(tableOf(kind), random) }));
    if (envelopes.length === 0) continue;
    for (const codec of Object.values(CODECS)) {
      const back = codec.decode(codec.encode(envelopes, TS_US));
      assert.deepEqual(back, envelopes.map(({ kind, value }) => ({ kind, ts_us: TS_US, value })));
    }
  }
});

test('numbers reach 2^53 - 1, and no further', () => {
  const payload = writeRoot('Pong', { request: Number.MAX_SAFE_INTEGER });
  assert.equal(readRoot('Pong', payload).request, Number.MAX_SAFE_INTEGER);
  assert.throws(() => writeRoot('Pong', { request: 2 ** 53 }), RangeError);
  assert.throws(() => writeRoot('Pong', { request: -1 }), RangeError);
  assert.throws(() => writeRoot('Pong', { request: 1.5 }), RangeError);
  const at = payload.length - 8;
  payload.fill(0xff, at);
  assert.throws(() => readRoot('Pong', payload), RangeError);
});

test('fields and tables that a later schema adds are skipped', () => {
  const later = TABLES.Pong.concat({ name: 'later', slot: 6, type: 'u32', bytes: 4, absent: 0 });
  const now = TABLES.Pong;
  TABLES.Pong = later;
  const payload = writeRoot('Pong', { request: 5, later: 9 });
  TABLES.Pong = now;
  assert.deepEqual(readRoot('Pong', payload), { request: 5 });
  const [pong] = CODECS.json.decode('{"kind":"pong","request":5,"later":{"deep":[1]}}');
  assert.deepEqual(pong.value, { request: 5 });
});

test('kinds of a later schema are skipped, their neighbours are not', () => {
  const bytes = CODECS.fb.encode([{ kind: 'pong', value: { request: 1 } }, { kind: 'pong', value: { request: 2 } }], TS_US);
  bytes[0] = 200;
  assert.deepEqual(CODECS.fb.decode(bytes).map(({ value }) => value.request), [2]);
  const text = '[{"kind":"something_new","a":1},{"kind":"pong","request":2}]';
  assert.deepEqual(CODECS.json.decode(text).map(({ value }) => value.request), [2]);
});

test('an enumeration\'s value of a later schema reads as unknown', () => {
  const payload = writeRoot('Error', { reason: 'internal' });
  const at = payload.indexOf(15);
  payload[at] = 200;
  assert.equal(readRoot('Error', payload).reason, 'unknown');
  assert.equal(complete('error', { reason: 'from_the_future' }).reason, 'unknown');
});

test('envelopes before a malformed one count', () => {
  const bytes = CODECS.fb.encode([{ kind: 'pong', value: { request: 1 } }, { kind: 'pong', value: { request: 2 } }], TS_US);
  const cut = CODECS.fb.decode(bytes.subarray(0, bytes.length - 1));
  assert.deepEqual(cut.map(({ kind }) => kind), ['pong', 'malformed']);
  for (const text of ['', '{', 'null', '[1]', '{"kind":"pong","request":"one"}', '[{"kind":"welcome","conversations":7}]']) {
    const kinds = CODECS.json.decode(text).map(({ kind }) => kind);
    assert.ok(kinds.every((kind) => kind === 'malformed'), `${text} ${kinds}`);
  }
});

test('damaged bytes never throw, hang, or unfold to more than a few times their size', () => {
  const random = seeded(7);
  const sizeOf = (value) => JSON.stringify(value).length;
  for (let round = 0; round < 3000; round++) {
    const bytes = CODECS.fb.encode([{ kind: 'welcome', value: randomTable('Welcome', random) }], TS_US);
    for (let i = 0; i < 1 + round % 4; i++) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const envelopes = CODECS.fb.decode(bytes.subarray(0, Math.floor(random() * (bytes.length + 1))));
    assert.ok(sizeOf(envelopes) < 1000 * bytes.length + 100_000);
  }
});

test('many offsets to one large string are refused', () => {
  const conversations = Array.from({ length: 200 }, () => ({ recovered: true }));
  conversations[0] = { state: { last_text: 'x'.repeat(1000), mine: true } };
  const payload = writeRoot('Welcome', { conversations });
  assert.equal(readRoot('Welcome', payload).conversations.length, 200);
  const view = new DataView(payload.buffer);
  let vector = 4;
  while (view.getUint32(vector, true) !== 200) vector += 4;
  const first = vector + 4 + view.getUint32(vector + 4, true);
  for (let i = 0; i < 200; i++) view.setUint32(vector + 4 + 4 * i, first - (vector + 4 + 4 * i), true);
  assert.throws(() => readRoot('Welcome', payload), /unfolds/);
});

test('offsets and lengths that FlatBuffers wants aligned are aligned', () => {
  const payload = writeRoot('Message', { conversation: '1'.repeat(32), seq: 9, at_us: 8, n: 7, text: 'abc', session: 'f'.repeat(16) });
  const view = new DataView(payload.buffer);
  const root = view.getUint32(0, true);
  const vtable = root - view.getInt32(root, true);
  assert.equal(root % 4, 0);
  assert.equal(vtable % 2, 0);
  for (const field of TABLES.Message) {
    const slots = view.getUint16(vtable, true);
    const offset = field.slot < slots ? view.getUint16(vtable + field.slot, true) : 0;
    if (offset) assert.equal((root + offset) % Math.min(field.bytes, 8), 0, field.name);
  }
});

test('an id that is no id is refused before it is sent', () => {
  const encode = (conversation) => CODECS.fb.encode([{ kind: 'ack', value: { conversation } }], TS_US);
  assert.throws(() => encode('abc'), RangeError);
  assert.throws(() => encode('g'.repeat(32)), RangeError);
});

test('JSON leaves defaults out but for enumerations, and keeps the schema\'s order', () => {
  const value = { text: 'hi', n: 1, conversation: '' };
  assert.equal(CODECS.json.encode([{ kind: 'send', value }], TS_US), `{"kind":"send","ts":${TS_US},"n":1,"text":"hi"}`);
  const state = complete('conversation_state', { conversation: '1'.repeat(32), mine: false });
  assert.equal(CODECS.json.encode([{ kind: 'conversation_state', value: state }], 1),
    `{"kind":"conversation_state","ts":1,"conversation":"${'1'.repeat(32)}","status":"waiting","mine":false}`);
});

test('an envelope\'s header is 13 bytes, little-endian', () => {
  const bytes = CODECS.fb.encode([{ kind: 'ping', value: { request: 1 } }], 0x0102030405060);
  assert.equal(HEADER_BYTES, 13);
  assert.deepEqual([...bytes.subarray(0, 9)], [2, 0x60, 0x50, 0x40, 0x30, 0x20, 0x10, 0, 0]);
  assert.equal(new DataView(bytes.buffer).getUint32(9, true), bytes.length - 13);
});

test('UTF-8 by hand is UTF-8 by the platform', () => {
  const random = seeded(3);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const texts = ['', 'plain', 'ünï', '你好', '🙂🙃', '\ud800', 'a\udc00b', '\ud83d', '\ufeffbom', '\u0000\u007f\u0080\u07ff\u0800\uffff'];
  for (let i = 0; i < 200; i++) {
    texts.push(String.fromCharCode(...Array.from({ length: 20 }, () => Math.floor(random() * 65536))));
  }
  for (const text of texts) {
    assert.deepEqual([...encodeByHand(text)], [...encoder.encode(text)]);
    assert.equal(decodeByHand(encoder.encode(text)), decoder.decode(encoder.encode(text)));
  }
  for (let i = 0; i < 3000; i++) {
    // Bytes from the corners of the encoding's table.
    const corners = [0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff];
    const bytes = Uint8Array.from({ length: 1 + i % 8 }, () => corners[Math.floor(random() * corners.length)]);
    assert.equal(decodeByHand(bytes), decoder.decode(bytes), [...bytes].join(' '));
  }
});

test('text is cut at a character, within its bytes', () => {
  assert.equal(cutUtf8('abc', 3), 'abc');
  assert.equal(cutUtf8('你好', 5), '你');
  assert.equal(cutUtf8('🙂', 3), '');
});
