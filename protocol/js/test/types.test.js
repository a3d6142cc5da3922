// tidegate.d.ts says what tidegate.js exports and what a Tidegate has, and types every table of the schema in full.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as sdk from '../tidegate.js';
import * as adapter from '../wechat.js';
import { ENUMS, TABLES } from '../schema.js';

const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '');
const types = read('tidegate.d.ts');

test('what is declared is exported, and nothing else', () => {
  const declared = (text) => [...text.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name).sort();
  assert.deepEqual(Object.keys(sdk).sort(), declared(types));
  assert.deepEqual(Object.keys(adapter).sort(), declared(read('wechat.d.ts')));
});

test('a Tidegate has every member that is declared', () => {
  const [, body] = /export class Tidegate \{([^]*?)\n\}/.exec(types);
  const chat = new sdk.Tidegate({ url: 'ws://test', token: 't', storage: null });
  const members = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:<]/gm)].map(([, name]) => name);
  assert.ok(members.length > 15);
  for (const name of members) assert.ok(name in chat, name);
});

test('what listeners are given has the schema\'s fields', () => {
  for (const name of ['ConversationState', 'Welcome', 'Message', 'Receipt', 'TypingNotice', 'QueueUpdate', 'Presence', 'Wait']) {
    const [, body] = new RegExp(`export interface ${name} \\{([^]*?)\\}\\n`).exec(types);
    const flat = body.replace(/\{[^}]*\}/g, '');
    const declared = [...flat.matchAll(/(\w+)\??:/g)].map(([, field]) => field).filter((field) => field !== 'recovered');
    for (const { name: field } of TABLES[name]) assert.ok(declared.includes(field) || body.includes(`${field}:`), `${name}.${field}`);
  }
});

test('the enumerations are typed value by value', () => {
  for (const name of ['Role', 'Side', 'ConversationStatus', 'CloseReason', 'AgentStatus', 'ContentType', 'SystemEvent', 'Reason']) {
    const [, body] = new RegExp(`export type ${name} =([^;]*);`).exec(types);
    const values = [...body.matchAll(/'(\w+)'/g)].map(([, value]) => value);
    assert.deepEqual(values, [...ENUMS[name], 'unknown'], name);
  }
});
