// What can be measured of how the pages look: contrast and names (axe), nothing moving while messages load, no zoom on
// focus, reach of the thumb, a first picture at once. Against scenarios, without a server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axeSource, launch, missing } from './browser.mjs';
import { ORIGIN, serve } from './pages.mjs';
import { adminScenarios, agentScenarios, visitorScenarios } from './scenarios.mjs';

const skip = missing() || false;
const PHONE = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true };
const DESK = { viewport: { width: 1280, height: 800 } };
let browser;

before(async () => { if (!skip) browser = await launch(); }, { timeout: 60_000 });
after(() => browser?.close());

async function open(scenario, path, { size = PHONE, scheme = 'light', locale = 'en-GB', act, until = 'body' } = {}) {
  const context = await browser.newContext({ ...size, colorScheme: scheme, locale, reducedMotion: 'reduce' });
  await serve(context, scenario);
  const page = await context.newPage();
  page.setDefaultTimeout(5_000);
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(ORIGIN + path);
  await page.waitForLoadState('networkidle');
  await page.locator(until).first().waitFor();
  if (act) {
    await act(page);
    await page.waitForLoadState('networkidle');
  }
  return { context, page, errors };
}

async function violations(page) {
  await page.evaluate(axeSource());
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(' ')} ${node.failureSummary?.split('\n')[1] ?? ''}`));
}

const VISITOR = ['empty', 'many', 'bot', 'waiting', 'nobody-waiting', 'failed', 'reconnecting', 'superseded', 'closed'];
const AGENT = ['sign-in', 'empty', 'list', 'many', 'bot', 'transfer', 'canned', 'palette', 'reconnecting', 'failed', 'customer'];
const ADMIN = ['overview', 'attention', 'agents', 'widgets', 'export'];

for (const scheme of ['light', 'dark']) {
  test(`the visitor's chat has no accessibility violation, ${scheme}`, { skip, timeout: 120_000 }, async () => {
    const scenarios = visitorScenarios('en');
    for (const state of VISITOR) {
      const { context, page, errors } = await open(scenarios[state], '/widget/?questions=One|Two', { scheme, until: state === 'reconnecting' ? '.connection-line' : '.composer-field' });
      assert.deepEqual(await violations(page), [], state);
      assert.deepEqual(errors, []);
      await context.close();
    }
  });

  test(`the agent console has no accessibility violation, ${scheme}`, { skip, timeout: 120_000 }, async () => {
    const scenarios = agentScenarios('en');
    for (const state of AGENT) {
      const { scenario, hash = '', act } = scenarios[state];
      const { context, page, errors } = await open(scenario, `/agent/${hash}`, { scheme, size: DESK, act, until: state === 'reconnecting' ? '.banner' : 'h1' });
      assert.deepEqual(await violations(page), [], state);
      assert.deepEqual(errors, []);
      await context.close();
    }
  });

  test(`administration and shop have no accessibility violation, ${scheme}`, { skip, timeout: 120_000 }, async () => {
    const scenarios = adminScenarios('en');
    for (const state of ADMIN) {
      const { scenario, hash = '' } = scenarios[state];
      const { context, page, errors } = await open(scenario, `/admin/${hash}`, { scheme, size: DESK, until: 'h1' });
      assert.deepEqual(await violations(page), [], state);
      assert.deepEqual(errors, []);
      await context.close();
    }
    for (const path of ['/', '/shop/longjing.html']) {
      const { context, page } = await open(visitorScenarios('en').empty, path, { scheme, size: DESK });
      assert.deepEqual(await violations(page), [], path);
      await context.close();
    }
  });
}

/** The sum of layout shifts, all of them: also those that follow an input. */
const watchShifts = (context) => context.addInitScript(() => {
  globalThis.__shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) globalThis.__shifts.push({ value: entry.value, of: entry.sources?.map((source) => source.node?.className || source.node?.nodeName) });
  }).observe({ type: 'layout-shift', buffered: true });
});

for (const [name, path, scenarioOf, size] of [
  ['the visitor’s chat', '/widget/', () => visitorScenarios('en').many, PHONE],
  ['the visitor’s chat with 1,000 messages', '/widget/', () => visitorScenarios('en').thousand, PHONE],
  ['the agent console', `/agent/${agentScenarios('en').many.hash}`, () => agentScenarios('en').many.scenario, DESK],
]) {
  test(`nothing moves in ${name} while messages load, after a reload, and when earlier ones come`, { skip, timeout: 60_000 }, async () => {
    const context = await browser.newContext({ ...size, locale: 'en-GB' });
    await watchShifts(context);
    await serve(context, scenarioOf());
    const page = await context.newPage();
    await page.goto(ORIGIN + path);
    await page.locator('.bubble').first().waitFor();
    await page.waitForTimeout(500);
    assert.deepEqual(await page.evaluate(() => globalThis.__shifts), []);
    await page.reload();
    await page.locator('.bubble').first().waitFor();
    await page.waitForTimeout(500);
    assert.deepEqual(await page.evaluate(() => globalThis.__shifts), []);

    // The line one reads stays where it is when earlier messages are put above it.
    const before = await page.evaluate(async () => {
      const box = document.querySelector('.messages');
      box.scrollTop = 0;
      const first = document.querySelector('.message[data-seq]');
      const at = { seq: first.dataset.seq, top: first.getBoundingClientRect().top };
      return at;
    });
    await page.waitForTimeout(500);
    const now = await page.evaluate((seq) => ({ top: document.querySelector(`.message[data-seq="${seq}"]`).getBoundingClientRect().top, count: document.querySelectorAll('.message').length }), before.seq);
    if (name.includes('1,000')) assert.ok(now.count > 40, `${now.count} messages`);
    assert.ok(Math.abs(now.top - before.top) < 2, `moved by ${now.top - before.top} px`);
    await context.close();
  });
}

test('fields are 16 px on phones, and what one taps is at least 44 px high', { skip, timeout: 60_000 }, async () => {
  for (const [path, scenario, size] of [['/widget/', visitorScenarios('en').many, PHONE], [`/agent/${agentScenarios('en').many.hash}`, agentScenarios('en').many.scenario, { ...PHONE, viewport: { width: 390, height: 844 } }], ['/agent/', agentScenarios('en').list.scenario, { ...PHONE, viewport: { width: 390, height: 844 } }]]) {
    const { context, page } = await open(scenario, path, { size });
    const small = await page.evaluate(() => [...document.querySelectorAll('button, textarea, input, select')].filter((control) => control.offsetParent).flatMap((control) => {
      const box = control.getBoundingClientRect();
      const font = parseFloat(getComputedStyle(control).fontSize);
      const said = `${control.className || control.nodeName} ${Math.round(box.width)}×${Math.round(box.height)} ${font}px`;
      return (box.height < 43.5 || (/TEXTAREA|INPUT|SELECT/.test(control.nodeName) && font < 16)) ? [said] : [];
    }));
    assert.deepEqual(small, [], path);
    await context.close();
  }
});

test('nothing is wider than the screen at 320 px, in the longest texts', { skip, timeout: 60_000 }, async () => {
  for (const language of ['zh', 'en']) {
    for (const [path, scenario] of [['/widget/', visitorScenarios(language).long], [`/agent/${agentScenarios(language).long.hash}`, agentScenarios(language).long.scenario], ['/', visitorScenarios(language).empty]]) {
      const { context, page } = await open(scenario, path, { size: { ...PHONE, viewport: { width: 320, height: 568 } } });
      const overflow = await page.evaluate(() => ({ page: document.documentElement.scrollWidth, list: document.querySelector('.messages')?.scrollWidth ?? 0 }));
      assert.ok(overflow.page <= 320 && overflow.list <= 320, `${path} ${JSON.stringify(overflow)}`);
      await context.close();
    }
  }
});

test('what comes while one reads further up shows as a pill and moves nothing', { skip, timeout: 60_000 }, async () => {
  const { context, page } = await open(visitorScenarios('en').thousand, '/widget/', { until: '.bubble' });
  await page.evaluate(() => { document.querySelector('.messages').scrollTop -= 300; });
  await page.waitForTimeout(150);
  const top = await page.evaluate(() => document.querySelector('.messages').scrollTop);
  await page.evaluate(() => {
    for (const n of [1, 2]) globalThis.__sdk.emit('message', { conversation: '1'.padStart(32, '0'), seq: 1000 + n, at_us: Date.now() * 1000, sender_role: 'agent', sender: 'b'.repeat(32), sender_name: 'Mia', session: '1', n, content: 'text', text: `new ${n}`, system: 'none', close_reason: 'none', own: false, key: '' });
  });
  await page.locator('.new-pill', { hasText: '2 new messages' }).waitFor();
  assert.equal(await page.evaluate(() => document.querySelector('.messages').scrollTop), top);
  await page.locator('.new-pill').click();
  await page.waitForTimeout(300);
  assert.equal(await page.locator('.new-pill').count(), 0);
  await context.close();
});

test('a bot is called one, to the visitor and to the agent, in both languages', { skip, timeout: 60_000 }, async () => {
  for (const [language, locale, name] of [['en', 'en-GB', 'Bot'], ['zh', 'zh-CN', '机器人']]) {
    const desk = agentScenarios(language).bot;
    for (const [path, scenario] of [['/widget/', visitorScenarios(language).bot], [`/agent/${desk.hash}`, desk.scenario]]) {
      const { context, page } = await open(scenario, path, { size: DESK, locale, until: '.bubble' });
      await page.locator('.message-name', { hasText: name }).waitFor();
      const labels = await page.locator('.bubble .only-for-readers').allTextContents();
      assert.equal(labels.filter((label) => label === `${name}: `).length, 1, `${path} ${labels}`);
      await context.close();
    }
  }
});
