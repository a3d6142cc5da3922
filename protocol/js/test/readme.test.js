// protocol/README.md is the specification that other clients are written from: it must not miss a field, a value, a
// close code or a limit.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ENUMS, KINDS, TABLES, tableOf } from '../schema.js';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const readme = read('README.md');
const row = (start) => readme.split('\n').find((line) => line.startsWith(start)) || '';
const TYPES = { id: 'Id', tables: '[', session: 'session', enum: '', table: '' };

test('every kind stands there with its number, and every field with its type', () => {
  const rows = Object.entries(KINDS).map(([number, kind]) => [row(`| ${number} \`${kind}\` |`), tableOf(kind)]);
  rows.push([row('| · Cursor |'), 'Cursor'], [row('| · Resumed |'), 'Resumed']);
  for (const [line, table] of rows) {
    assert.ok(line, table);
    for (const { name, type } of TABLES[table]) {
      assert.ok(line.includes(`\`${name}\` ${TYPES[type] ?? type}`), `${table}.${name} ${type}: ${line}`);
    }
  }
});

test('every value of every enumeration stands there, in order', () => {
  for (const [name, values] of Object.entries(ENUMS)) {
    const line = row(`| ${name} |`);
    assert.ok(line.includes(values.map((value) => `\`${value}\``).join(' ')), `${name}: ${line}`);
  }
});

test('every close code stands there', () => {
  for (const [, code] of read('src/close.rs').matchAll(/= (\d{4}), (?:Retriable|Final), "/g)) {
    const known = readme.includes(code) || (Number(code) >= 1011 && Number(code) <= 1014);
    assert.ok(known, code);
  }
});

test('the Python client keeps to a hundred lines and the standard library', () => {
  const source = read('examples/chat.py');
  assert.ok(source.trimEnd().split('\n').length <= 100);
  const imported = [...source.matchAll(/^(?:import|from) (.+)$/gm)].flatMap(([, names]) => names.split(', '));
  const standard = ['base64', 'collections', 'hashlib', 'json', 'os', 'random', 'socket', 'struct', 'sys', 'threading',
    'time', 'urllib.parse', 'urllib.request'];
  for (const name of imported) assert.ok(standard.includes(name), name);
});
