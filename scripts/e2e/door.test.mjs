// More visitors than are let in at once: each is told their place and a time, a reload and a closed tab cost nobody the
// place, and what was written meanwhile is sent.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, missing } from './browser.mjs';
import { Visitor } from './people.mjs';
import { Stack, missingStack, until } from './stack.mjs';

const skip = missing() || missingStack() || false;
let stack;
let browser;

before(async () => {
  if (skip) return;
  [stack, browser] = await Promise.all([Stack.start({ admission: { per_s: 1, burst: 1 } }), launch()]);
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  await stack?.stop();
});

/** Fills the line: people without a page of their own, who wait until they are dispersed. */
async function crowd(people) {
  const { token, ws_url } = await stack.ask('/api/visitor/token', { body: { widget: 'default' } });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${stack.origin}/agent/`);
  await page.evaluate(([url, token, people]) => Promise.all(Array.from({ length: people }, async (_, i) => {
    const socket = new WebSocket(url, ['tidegate.v1.json']);
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const answered = new Promise((resolve) => { socket.onmessage = resolve; });
    socket.send(JSON.stringify({ kind: 'hello', token, session: (0xc0 + i).toString(16).padStart(16, '0') }));
    await answered;
  })), [ws_url, token, people]);
  return () => context.close();
}

test('at the door: a place and a time, kept over a reload and a closed tab, then in', { skip, timeout: 120_000 }, async () => {
  const disperse = await crowd(25);
  const visitor = await Visitor.arrive(browser, stack);
  const ahead = () => visitor.view.locator('.is-door .waiting-line strong').textContent().then((text) => (/^You/.test(text) ? 0 : Number(text.replace(/\D.*$/, ''))));
  await visitor.sees('Many people are arriving');
  const first = await ahead();
  assert.ok(first > 5, `${first} ahead`);
  await visitor.sees('about ');
  await until('the line moves', async () => (await ahead()) < first);
  await visitor.say('written at the door');
  await visitor.sees('Your message is sent as soon as you are in');
  const before = await ahead();
  await visitor.page.reload();
  await visitor.sees('Many people are arriving');
  assert.ok((await ahead()) <= before, 'a reload keeps the place');
  await visitor.page.close();
  const again = await Visitor.arrive(browser, stack, { context: visitor.context });
  await again.sees('Many people are arriving');
  visitor.page = again.page;
  visitor.view = again.view;
  assert.ok((await ahead()) <= before, 'a closed tab keeps the place');
  await until('in', async () => (await again.view.locator('.is-door').count()) === 0, 60_000);
  assert.deepEqual([...visitor.errors, ...again.errors], []);
  await disperse();
});
