// kill -9 of either process in mid-chat: every message is there exactly once and in order afterwards, on both sides.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, missing } from './browser.mjs';
import { Agent, Visitor } from './people.mjs';
import { Stack, missingStack, until } from './stack.mjs';

const skip = missing() || missingStack() || false;
const EACH = 30;
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

/** Both sides write all the time while `hurt` runs. */
async function mid(role, visitorName) {
  const agent = await Agent.signIn(browser, stack);
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say(`${visitorName} begins`);
  await agent.take(`${visitorName} begins`);
  await agent.hears(`${visitorName} begins`);
  const write = async (person, name) => {
    for (let i = 1; i <= EACH; i += 1) {
      await person.say(`${name} ${i}.`);
      await person.page.waitForTimeout(40);
    }
  };
  const writing = Promise.all([write(visitor, 'visitor'), write(agent, 'agent')]);
  await visitor.page.waitForTimeout(350);
  await stack.kill(role);
  await writing;
  await agent.hears(`visitor ${EACH}.`);
  await visitor.hears(`agent ${EACH}.`);
  await until('every tick is read', async () => (await visitor.lastTick()) === 'read' && (await agent.lastTick()) === 'read', 20_000);

  const wanted = (name) => Array.from({ length: EACH }, (_, i) => `${name} ${i + 1}.`);
  const of = (texts, sign) => texts.filter((text) => text.startsWith(sign) && text.endsWith('.')).map((text) => text.slice(2));
  const [atVisitor, atAgent] = [await visitor.texts(), await agent.texts()];
  assert.deepEqual(of(atVisitor, '>'), wanted('visitor'));
  assert.deepEqual(of(atVisitor, '<'), wanted('agent'));
  // One order for both, and it is the stored one.
  const turned = atAgent.map((text) => (text[0] === '>' ? `<${text.slice(1)}` : `>${text.slice(1)}`));
  assert.deepEqual(turned, atVisitor);
  await visitor.page.reload();
  await visitor.hears(`agent ${EACH}.`);
  await until('a reload shows the same', async () => JSON.stringify((await visitor.texts()).slice(-20)) === JSON.stringify(atVisitor.slice(-20)));
  assert.deepEqual(visitor.errors, []);
  assert.deepEqual(agent.errors, []);
  await agent.page.getByRole('button', { name: 'Close', exact: true }).click();
  await agent.page.getByRole('button', { name: 'Close chat' }).click();
  await agent.context.close();
  await visitor.context.close();
}

test('kill -9 of the backend in mid-chat loses and doubles nothing', { skip, timeout: 120_000 }, () => mid('backend', 'backend test'));
test('kill -9 of the gateway in mid-chat loses and doubles nothing', { skip, timeout: 120_000 }, () => mid('gateway', 'gateway test'));

test('what is written while nothing answers is kept over a reload, and goes out when the server is back', { skip, timeout: 120_000 }, async () => {
  const agent = await Agent.signIn(browser, stack);
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('before the silence');
  await agent.take('before the silence');
  await visitor.tickIs('read');
  await visitor.context.setOffline(true);
  const [gateway] = stack.pids('gateway');
  process.kill(gateway, 'SIGKILL'); // an open socket does not notice "offline"
  await visitor.say('written in the silence');
  await visitor.tickIs('waiting');
  await visitor.sees('Reconnecting');
  await visitor.context.setOffline(false);
  await visitor.page.reload();
  await agent.hears('written in the silence');
  await visitor.tickIs('read');
  assert.equal((await agent.texts()).filter((text) => text.includes('written in the silence')).length, 1);
  await agent.context.close();
  await visitor.context.close();
});

test('what is said while the backend stands still is said to be on its way, on both sides, and then is there', { skip, timeout: 120_000 }, async () => {
  const agent = await Agent.signIn(browser, stack);
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('before the standstill');
  await agent.take('before the standstill');
  await visitor.tickIs('read');
  const [backend] = stack.pids('backend');
  process.kill(backend, 'SIGSTOP');
  try {
    await Promise.all([visitor.say('said to nobody'), agent.say('answered to nobody')]);
    for (const person of [visitor, agent]) await person.sees('Still sending… Nothing you wrote is lost.');
  } finally {
    process.kill(backend, 'SIGCONT');
  }
  await agent.hears('said to nobody');
  await visitor.hears('answered to nobody');
  for (const person of [visitor, agent]) {
    await person.tickIs('read');
    await until('nothing is late', async () => (await person.view.getByText('Still sending').count()) === 0);
    assert.deepEqual(person.errors, []);
  }
  await agent.context.close();
  await visitor.context.close();
});
