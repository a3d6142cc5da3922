// The widget on a shop of another site, under the shop's own strict CSP, in a browser that blocks third-party storage.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ROOT, launch, launchStrict, missing } from './browser.mjs';
import { Agent, Visitor } from './people.mjs';
import { Stack, freePort, missingStack, until } from './stack.mjs';

const skip = missing() || missingStack() || false;
const LAUNCHER_BYTES_MAX = 5 * 1024;
let stack;
let browser;
let agent;
let shop;
let shopServer;
let profile;

before(async () => {
  if (skip) return;
  const port = await freePort();
  shop = `http://localhost:${port}`; // another site than 127.0.0.1
  [stack, browser] = await Promise.all([Stack.start({ allowedOrigins: [shop] }), launch()]);
  shopServer = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.setHeader('Content-Security-Policy', `default-src 'none'; script-src ${stack.origin}; frame-src ${stack.origin}; style-src 'self'; base-uri 'none'; form-action 'none'`);
    response.end(`<!doctype html><html lang="en"><title>Shop</title><h1>${request.url === '/' ? 'Home' : 'Second page'}</h1><script async src="${stack.origin}/widget.js" data-widget="default" data-accent="#b3541e" data-position="left" data-greeting="Hello from the shop" data-lang="en"></script></html>`);
  }).listen(port, 'localhost');
  agent = await Agent.signIn(browser, stack);
  profile = mkdtempSync(join(tmpdir(), 'tidegate-profile-'));
  mkdirSync(join(profile, 'Default'));
  writeFileSync(join(profile, 'Default', 'Preferences'), JSON.stringify({ profile: { block_third_party_cookies: true, cookie_controls_mode: 1 } }));
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  shopServer?.close();
  await stack?.stop();
  if (profile) rmSync(profile, { recursive: true, force: true });
});

test('the launcher is at most 5 KB gzipped', () => {
  const bytes = gzipSync(readFileSync(join(ROOT, 'backend/web/widget.js')), { level: 9 }).length;
  assert.ok(bytes <= LAUNCHER_BYTES_MAX, `${bytes} bytes`);
});

test('no socket, no iframe and no request but the script before the visitor opens the chat', { skip, timeout: 60_000 }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const asked = [];
  page.on('request', (request) => { if (request.url().startsWith(stack.origin)) asked.push(new URL(request.url()).pathname); });
  page.on('websocket', (socket) => asked.push(socket.url()));
  await page.goto(shop);
  await page.locator('button[aria-expanded]').waitFor();
  await page.waitForTimeout(1000);
  assert.deepEqual(asked, ['/widget.js']);
  assert.equal(page.frames().length, 1);
  await context.close();
});

test('with third-party storage blocked, a reload and a second page show the same chat', { skip, timeout: 90_000 }, async () => {
  const context = await launchStrict(profile);
  try {
    const visitor = await Visitor.arrive(null, stack, { context, shop });
    const inside = visitor.page.frames().find((frame) => frame.url().startsWith(stack.origin));
    const blocked = await inside.evaluate(() => { try { localStorage.getItem('x'); return false; } catch { return true; } });
    assert.equal(blocked, true, 'this browser does not block third-party storage: the test would prove nothing');
    await visitor.sees('Hello from the shop');
    await visitor.say('asked on the home page');
    await agent.take('asked on the home page');
    await visitor.tickIs('read');
    await agent.say('answered');
    await visitor.hears('answered');
    const said = await visitor.texts();

    await visitor.page.reload();
    await visitor.attach();
    await visitor.hears('answered');
    assert.deepEqual(await visitor.texts(), said);

    await visitor.page.goto(`${shop}/second`);
    await visitor.attach();
    await visitor.hears('answered');
    await visitor.say('and asked on the second page');
    await agent.hears('and asked on the second page');
    assert.deepEqual(await visitor.texts(), [...said, '> and asked on the second page']);
    assert.equal((await stack.ask('/api/agent/conversations?filter=mine', { token: stack.token })).conversations.length, 1);

    // Minimized: the badge counts, and what came is delivered, not read.
    await visitor.view.getByRole('button', { name: 'Minimize chat' }).click();
    await agent.say('while you were away');
    await until('the badge says 1', async () => (await visitor.page.locator('button[aria-expanded] b').textContent()) === '1');
    await agent.tickIs('delivered');
    await visitor.page.locator('button[aria-expanded="false"]').click();
    await agent.tickIs('read');
    assert.equal(await visitor.page.locator('button[aria-expanded] b').textContent(), '');
    assert.deepEqual(visitor.errors, []);
  } finally {
    await context.close();
  }
});

test('a page that is not on the allow-list cannot frame the chat', { skip, timeout: 60_000 }, async () => {
  const port = await freePort();
  const stranger = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><iframe src="${stack.origin}/widget/#origin=${encodeURIComponent(`http://localhost:${port}`)}"></iframe>`);
  }).listen(port, 'localhost');
  const context = await browser.newContext();
  const page = await context.newPage();
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  await page.goto(`http://localhost:${port}/`);
  await page.waitForTimeout(1000);
  const framed = page.frames()[1];
  assert.equal(await framed?.locator('.composer-field').count().catch(() => 0) ?? 0, 0);
  assert.deepEqual(sockets, []);
  await context.close();
  stranger.close();
});

test('messages from other windows and other origins are ignored by the launcher', { skip, timeout: 60_000 }, async () => {
  const visitor = await Visitor.arrive(browser, stack, { shop, context: await browser.newContext() });
  await visitor.page.evaluate(() => {
    postMessage({ tidegate: 1, type: 'set', area: 'local', key: 'token', value: 'forged' }, '*');
    postMessage({ tidegate: 1, type: 'unread', count: 99 }, '*');
  });
  await visitor.page.waitForTimeout(200);
  assert.notEqual(await visitor.page.evaluate(() => localStorage.getItem('tidegate.default.token')), 'forged');
  assert.equal(await visitor.page.locator('button[aria-expanded] b').textContent(), '');
  await visitor.context.close();
});
