// The golden vectors, which the Rust tests make: both codecs read and write them here as they do there. FlatBuffers
// leaves a writer free in its layout, so of the bytes only Rust's are golden; ours must mean the same.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { CODECS } from '../envelope.js';
import { ENUMS, KIND_NUMBERS, TABLES, tableOf } from '../schema.js';
import { complete } from '../json.js';
import { closeClass } from '../close.js';

const WRITTEN = new URL('../../vectors/written_by_js.json', import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8'));
const envelopes = read('envelopes');

const bytesOf = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));

test('every golden envelope reads as its JSON says', () => {
  assert.ok(envelopes.length >= 36);
  for (const { name, kind, ts, json, envelope_hex } of envelopes) {
    const [envelope, ...more] = CODECS.fb.decode(bytesOf(envelope_hex));
    assert.deepEqual(more, [], name);
    const { kind: kindName, ts: _, ...fields } = json;
    assert.equal(KIND_NUMBERS[kindName], kind, name);
    assert.deepEqual(envelope, { kind: kindName, ts_us: ts, value: complete(kindName, fields) }, name);
  }
});

test('all of them in one batch read the same', () => {
  const batch = bytesOf(envelopes.map(({ envelope_hex }) => envelope_hex).join(''));
  const names = CODECS.fb.decode(batch).map(({ kind }) => kind);
  assert.deepEqual(names, envelopes.map(({ json }) => json.kind));
});

test('what we write of them reads the same, at any address', () => {
  for (const { name, ts, json } of envelopes) {
    const [{ value }] = CODECS.json.decode(JSON.stringify(json));
    const bytes = CODECS.fb.encode([{ kind: json.kind, value }], ts);
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    const [back] = CODECS.fb.decode(shifted.subarray(3));
    assert.deepEqual(back, { kind: json.kind, ts_us: ts, value }, name);
  }
});

test('what we write of them is in written_by_js.json, which a Rust test reads', () => {
  const lines = envelopes.map(({ name, ts, json }) => {
    const [{ value }] = CODECS.json.decode(JSON.stringify(json));
    const bytes = CODECS.fb.encode([{ kind: json.kind, value }], ts);
    return JSON.stringify({ name, json, envelope_hex: Buffer.from(bytes).toString('hex') });
  });
  const text = `[\n${lines.join(',\n')}\n]\n`;
  if (process.env.TIDEGATE_UPDATE_VECTORS) writeFileSync(WRITTEN, text);
  assert.equal(readFileSync(WRITTEN, 'utf8'), text, 'TIDEGATE_UPDATE_VECTORS=1 writes it anew');
});

test('our JSON is theirs, byte for byte', () => {
  for (const { name, ts, json } of envelopes) {
    const [{ value }] = CODECS.json.decode(JSON.stringify(json));
    const ours = CODECS.json.encode([{ kind: json.kind, value }], ts);
    const expected = ts === 0 ? JSON.stringify({ kind: json.kind, ts: 0, ...json }) : JSON.stringify(json);
    assert.equal(ours, expected, name);
  }
});

test('the tables are those of the vectors', () => {
  const schema = read('schema');
  const types = { text: 'string', hex64: 'session' };
  const check = (name, fields) => {
    const theirs = Object.entries(fields).map(([field, type]) => {
      const [sort, of] = type.split(' ');
      return [field, types[sort] || (sort === 'enumeration' ? 'enum' : sort), of];
    });
    const ours = TABLES[name].map((field) => [field.name, field.type,
      field.of || Object.keys(ENUMS).find((one) => ENUMS[one] === field.names) || (field.absent === true ? '=' : undefined)]);
    assert.deepEqual(ours, theirs, name);
  };
  for (const [kind, { kind: number, fields }] of Object.entries(schema.kinds)) {
    assert.equal(KIND_NUMBERS[kind], number);
    check(tableOf(kind), fields);
  }
  assert.equal(Object.keys(schema.kinds).length, Object.keys(KIND_NUMBERS).length);
});

test('close codes of the vectors have their class', () => {
  for (const { code, retriable } of read('close_codes')) {
    assert.equal(closeClass(code) === 'retry', retriable, String(code));
  }
});
