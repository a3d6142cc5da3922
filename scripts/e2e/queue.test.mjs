// Five visitors, one agent with room for one: places move up one by one, the bar only forward, nobody is lost.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, missing } from './browser.mjs';
import { Agent, Visitor } from './people.mjs';
import { Stack, missingStack, until } from './stack.mjs';

const skip = missing() || missingStack() || false;
let stack;
let browser;

before(async () => {
  if (skip) return;
  [stack, browser] = await Promise.all([Stack.start(), launch()]);
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  await stack?.stop();
});

test('with no agent online the visitor is told, and the message is kept', { skip, timeout: 60_000 }, async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.sees('No one is here right now');
  await visitor.say('are you open?');
  await visitor.sees('Your messages are kept');
  await visitor.tickIs('sent');
  const agent = await Agent.signIn(browser, stack);
  await agent.take('are you open?');
  await visitor.sees('joined');
  await agent.page.getByRole('button', { name: 'Close', exact: true }).click();
  await agent.page.getByRole('button', { name: 'Close chat' }).click();
  await visitor.sees('The agent ended the chat');
  await agent.status('Offline');
  await agent.context.close();
  await visitor.context.close();
});

test('five visitors and one agent: first come, first served', { skip, timeout: 120_000 }, async () => {
  await stack.ask('/api/admin/agents', { method: 'PATCH', token: stack.token, body: { id: stack.agent.id, capacity: 1 } });
  const agent = await Agent.signIn(browser, stack);
  const visitors = [];
  for (let i = 1; i <= 5; i += 1) {
    const visitor = await Visitor.arrive(browser, stack);
    await visitor.say(`visitor number ${i}`);
    await until('it is stored', async () => ['sent', 'delivered', 'read'].includes(await visitor.lastTick()));
    visitors.push(visitor);
  }
  await agent.take('visitor number 1');
  await visitors[0].sees('joined');
  const line = (visitor) => visitor.view.locator('.waiting-line strong').textContent();
  const bar = (visitor) => visitor.view.locator('.waiting-bar').getAttribute('aria-valuenow').then(Number);
  const bars = [];
  for (let served = 1; served < 5; served += 1) {
    for (let i = served; i < 5; i += 1) {
      const ahead = i - served;
      const words = ahead === 0 ? 'You’re next' : ahead === 1 ? '1 person ahead' : `${ahead} people ahead`;
      await until(`visitor ${i + 1} is told: ${words}`, async () => (await line(visitors[i])) === words);
      const now = await bar(visitors[i]);
      assert.ok(now >= (bars[i] ?? 0), `the bar of visitor ${i + 1} went back from ${bars[i]} to ${now}`);
      bars[i] = now;
    }
    await until('the console counts the queue', async () => (await agent.page.locator('#tab-waiting .tab-count').textContent()) === String(5 - served));
    await agent.page.getByRole('button', { name: 'Close', exact: true }).click();
    await agent.page.getByRole('button', { name: 'Close chat' }).click();
    await agent.take(`visitor number ${served + 1}`);
    await agent.hears(`visitor number ${served + 1}`);
    await visitors[served].sees('joined');
  }
  for (const visitor of visitors) assert.deepEqual(visitor.errors, []);
  assert.deepEqual(agent.errors, []);
});
