// schema.js says what protocol/schema/tidegate.fbs says, and close.js and limits.js what the Rust tables say.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ENUMS, KINDS, TABLES, tableOf } from '../schema.js';
import { closeClass, retryMsOf } from '../close.js';
import * as limits from '../limits.js';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const schema = read('schema/tidegate.fbs').replace(/\/\/.*$/gm, '');
const snake = (name) => name.replace(/(?<=.)([A-Z])/g, '_$1').toLowerCase();
const blocks = (keyword) => [...schema.matchAll(new RegExp(`\\b${keyword}\\s+(\\w+)[^{]*\\{([^}]*)\\}`, 'g'))];

test('the enumerations are the schema\'s, value by value', () => {
  const found = {};
  for (const [, name, body] of blocks('enum')) {
    const values = body.split(',').map((value) => value.trim()).filter(Boolean).map((value) => value.split(/\s*=\s*/));
    values.forEach(([, number], i) => assert.equal(Number(number), i, `${name} has no holes`));
    found[name] = values.map(([value]) => snake(value));
  }
  assert.deepEqual(ENUMS, found);
});

test('the tables are the schema\'s, field by field', () => {
  const types = { ulong: 'u64', uint: 'u32', bool: 'bool', string: 'string', Id: 'id' };
  const found = {};
  for (const [, name, body] of blocks('table')) {
    found[name] = body.split(';').map((field) => field.trim()).filter(Boolean).map((field, i) => {
      const [, fieldName, type, preset] = /^(\w+)\s*:\s*([\w[\]]+)(?:\s*=\s*(\w+))?$/.exec(field);
      const isSession = fieldName === 'session' && type === 'ulong';
      const list = /^\[(\w+)\]$/.exec(type);
      return {
        name: fieldName,
        slot: 4 + 2 * i,
        type: isSession ? 'session' : types[type] || (list && 'tables') || (ENUMS[type] ? 'enum' : 'table'),
        of: list ? list[1] : (!types[type] && !ENUMS[type] && type) || undefined,
        enumeration: ENUMS[type],
        preset,
      };
    });
  }
  const ours = Object.fromEntries(Object.entries(TABLES).map(([name, fields]) => [name, fields.map((field) => ({
    name: field.name, slot: field.slot, type: field.type, of: field.of, enumeration: field.names,
    preset: field.type === 'bool' && field.absent === true ? 'true' : field.type === 'enum' && presetOf(found[name], field),
  }))]));
  for (const fields of Object.values(ours)) for (const field of fields) field.preset = field.preset || undefined;
  assert.deepEqual(ours, found);
});

/** Enum fields write their default out in the schema sometimes; it is always the first value, which is ours. */
function presetOf(fields, { name, absent }) {
  const { preset } = fields.find((field) => field.name === name);
  if (preset) assert.equal(snake(preset), absent);
  return preset;
}

test('the id is two words, the high one first', () => {
  const [[, name, body]] = blocks('struct');
  assert.equal(name, 'Id');
  assert.deepEqual(body.match(/\w+:\w+/g), ['hi:ulong', 'lo:ulong']);
});

test('every kind has its table', () => {
  for (const [number, kind] of Object.entries(KINDS)) {
    assert.ok(TABLES[tableOf(kind)], `${number} ${kind}`);
    assert.match(schema, new RegExp(`table ${tableOf(kind)} `));
  }
});

test('close codes have the class that protocol/src/close.rs gives them', () => {
  const codes = [...read('src/close.rs').matchAll(/= (\d{4}), (Retriable|Final), "/g)];
  assert.ok(codes.length >= 15);
  for (const [, code, kind] of codes) {
    const ours = closeClass(Number(code));
    if (code === '4504') assert.equal(ours, 'token');
    else assert.equal(ours, kind === 'Retriable' ? 'retry' : 'stop', code);
  }
  assert.equal(closeClass(1006), 'retry');
  assert.equal(closeClass(4499), 'retry');
  assert.equal(closeClass(4999), 'stop');
});

test('a close reason says when to come back', () => {
  assert.equal(retryMsOf('retry_ms=2500 restart'), 2500);
  assert.equal(retryMsOf('retry_ms=0'), 0);
  assert.equal(retryMsOf('superseded'), 0);
  assert.equal(retryMsOf(undefined), 0);
  assert.equal(retryMsOf('retry_ms=9999999999'), limits.RETRY_MS_MAX);
});

test('limits that the wire has too are the same there', () => {
  const rust = read('src/limits.rs');
  const names = ['MESSAGE_TEXT_BYTES_MAX', 'CURSORS_PER_HELLO_MAX', 'PAGE_BYTES_MAX', 'LOCALE_BYTES_MAX'];
  for (const name of names) {
    const [, factors] = new RegExp(`pub const ${name}: usize = ([\\d_ *]+);`).exec(rust);
    const value = factors.replaceAll('_', '').split('*').reduce((product, factor) => product * Number(factor), 1);
    assert.equal(limits[name], value, name);
  }
  const [, ms] = /pub const ACK_INTERVAL_MS_MIN: u64 = (\d+);/.exec(rust);
  assert.equal(limits.ACK_MS, Number(ms));
});
