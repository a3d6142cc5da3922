// The pages' pure parts: rows of a timeline, texts in two languages, accent colours, chart scales.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { accentTokens, contrast, parseHex } from '../../backend/web/ui/accent.js';
import { niceCeiling } from '../../backend/web/admin/scale.js';
import { DICTIONARIES, pickLanguage } from '../../backend/web/ui/text.js';
import { Timeline, rowsOf, tickOf } from '../../backend/web/ui/timeline.js';
import { duration, stopwatch } from '../../backend/web/ui/time.js';
import { inWords, standing } from '../../backend/web/widget/door.js';
import { ROOT } from './browser.mjs';

const NOON_US = new Date(2026, 10, 21, 12).getTime() * 1000;
const message = (seq, role = 'visitor', more = {}) => ({ conversation: 'c', seq, at_us: NOON_US + seq * 1e6, sender_role: role, sender: role, sender_name: '', content: 'text', text: `m${seq}`, ...more });
const rows = (messages, more = {}) => rowsOf(messages, { mine: (m) => m.sender_role === 'visitor', marks: () => ({ delivered: 0, read: 0 }), now: NOON_US, ...more });

test('messages from any source are kept once and in order', () => {
  const timeline = new Timeline();
  assert.equal(timeline.add([message(3), message(1)]), 2);
  assert.equal(timeline.add([message(2), message(3)]), 1);
  assert.deepEqual(timeline.messages.map((m) => m.seq), [1, 2, 3]);
  assert.equal(timeline.complete, true);
});

test('beyond its bound a timeline forgets the oldest and is no longer complete', () => {
  const timeline = new Timeline(3);
  timeline.add([1, 2, 3, 4, 5].map((seq) => message(seq)));
  timeline.trim();
  assert.deepEqual(timeline.messages.map((m) => m.seq), [3, 4, 5]);
  assert.equal(timeline.complete, false);
});

test('a tick says what the other side’s marks say', () => {
  assert.equal(tickOf(5, { delivered: 4, read: 2 }), 'sent');
  assert.equal(tickOf(4, { delivered: 4, read: 2 }), 'delivered');
  assert.equal(tickOf(2, { delivered: 4, read: 2 }), 'read');
});

test('bubbles of one sender within a minute stand together, and a day begins with its name', () => {
  const made = rows([message(1), message(2), message(3, 'agent'), message(200)]);
  assert.deepEqual(made.map((row) => row.type === 'day' ? 'day' : `${row.starts ? '[' : ''}${row.text}${row.ends ? ']' : ''}`), ['day', '[m1', 'm2]', '[m3]', '[m200]']);
});

test('a bot’s bubbles stand apart from those of the agent on whose side they are', () => {
  const made = rows([message(1, 'bot'), message(2, 'bot'), message(3, 'agent'), message(4, 'bot')], { mine: (m) => m.sender_role !== 'visitor' });
  assert.deepEqual(made.slice(1).map((row) => `${row.starts ? '[' : ''}${row.role}${row.ends ? ']' : ''}`), ['[bot', 'bot]', '[agent]', '[bot]']);
});

test('a tick is drawn at the end of a group and where it differs from the one below', () => {
  const made = rows([message(1), message(2), message(3)], { marks: () => ({ delivered: 2, read: 1 }) });
  assert.deepEqual(made.filter((row) => row.type === 'message').map((row) => [row.state, row.showTick]), [['read', true], ['delivered', true], ['sent', true]]);
  const same = rows([message(1), message(2), message(3)]);
  assert.deepEqual(same.filter((row) => row.type === 'message').map((row) => row.showTick), [false, false, true]);
});

test('a row keeps its key when it leaves the outbox', () => {
  const waiting = rows([], { outbox: [{ key: 'k1', text: 'hi', at: NOON_US, state: 'waiting' }] });
  const sent = rows([message(1)], { keyOf: () => 'k1' });
  assert.equal(waiting.at(-1).key, sent.at(-1).key);
});

test('both languages say everything, with the same kinds of values', () => {
  const { en, zh } = DICTIONARIES;
  assert.deepEqual(Object.keys(zh), Object.keys(en));
  for (const key of Object.keys(en)) assert.equal(typeof zh[key], typeof en[key], key);
  for (const [key, value] of [...Object.entries(en), ...Object.entries(zh)]) assert.ok(!/[!！]/.test(String(value)) || typeof value === 'function', `${key} shouts`);
});

test('every text that a page asks for exists', () => {
  const web = join(ROOT, 'backend/web');
  for (const directory of ['ui', 'widget', 'agent', 'admin']) {
    for (const file of readdirSync(join(web, directory)).filter((name) => name.endsWith('.js'))) {
      for (const [, key] of readFileSync(join(web, directory, file), 'utf8').matchAll(/\bt\('([A-Za-z0-9]+)'/g)) assert.ok(key in DICTIONARIES.en, `${directory}/${file} asks for ${key}`);
    }
  }
});

test('no text is left that nobody asks for', () => {
  const web = join(ROOT, 'backend/web');
  const code = ['ui', 'widget', 'agent', 'admin'].flatMap((directory) => readdirSync(join(web, directory)).filter((name) => name.endsWith('.js') && name !== 'text.js').map((name) => readFileSync(join(web, directory, name), 'utf8'))).join('\n');
  const unused = Object.keys(DICTIONARIES.en).filter((key) => !/^status|Hint$/.test(key) && !new RegExp(`['\`\\s{,]${key}['\`\\s:},]`).test(code));
  assert.deepEqual(unused, []);
});

test('the language of the attribute goes before the browser’s, and anything else is English', () => {
  assert.equal(pickLanguage('zh-TW', ['en']), 'zh');
  assert.equal(pickLanguage('auto', ['fr', 'zh-CN', 'en']), 'zh');
  assert.equal(pickLanguage(undefined, ['fr']), 'en');
});

test('any accent gives text of 4.5 : 1 on it, and of it on light and dark surfaces', () => {
  const rgb = (css) => css.match(/\d+/g).map(Number);
  for (const colour of ['#14688c', '#ffcc00', '#ff0000', '#00ff88', '#000000', '#ffffff', '#777777', '#2f6b4f', '#07c160']) {
    for (const dark of [false, true]) {
      const tokens = accentTokens(colour, dark);
      assert.ok(contrast(rgb(tokens['--accent']), rgb(tokens['--on-accent'])) >= 4.5, `${colour} on it`);
      assert.ok(contrast(rgb(tokens['--accent-ink']), dark ? [39, 43, 50] : [237, 239, 242]) >= 4.5, `${colour} as ink`);
    }
  }
  assert.equal(parseHex('javascript:alert(1)'), null);
});

test('durations have one unit, and clocks run', () => {
  assert.equal(duration(59_999), '59 s');
  assert.equal(duration(3_599_000), '59 min');
  assert.equal(duration(7_200_000), '2 h');
  assert.equal(stopwatch(3_729_000), '1:02:09');
  assert.equal(stopwatch(-5), '0:00');
});

test('an axis ends at a round number', () => {
  assert.deepEqual([0, 0.03, 1, 3, 11, 49, 51, 4821].map(niceCeiling), [1, 0.04, 1, 4, 20, 100, 100, 10000]);
});

test('at the door the place moves on at the rate that the server said, and never below the next', () => {
  const wait = { place: 1001, rate_per_s: 100, eta_ms: 10_000 };
  assert.deepEqual(standing(wait, 0), { ahead: 1000, seconds: 10 });
  assert.deepEqual(standing(wait, 2_500), { ahead: 750, seconds: 8 });
  assert.deepEqual(standing(wait, 60_000), { ahead: 0, seconds: 1 });
  assert.deepEqual(standing({ place: 5, rate_per_s: 0, eta_ms: 0 }, 9_000), { ahead: 4, seconds: 0 });
});

test('a time at the door is said as precisely as it is known', () => {
  const words = [0, 3, 42, 119, 121, 3_000].map(inWords);
  assert.equal(new Set(words).size, 6);
  assert.match(words[2], /45/);
  assert.match(words[4], /3/);
});
