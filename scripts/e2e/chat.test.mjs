// Two people chat in real browsers through gateway, bus and backend.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, missing } from './browser.mjs';
import { Agent, Visitor } from './people.mjs';
import { Stack, missingStack, until } from './stack.mjs';

const skip = missing() || missingStack() || false;
let stack;
let browser;
let agent;

before(async () => {
  if (skip) return;
  [stack, browser] = await Promise.all([Stack.start(), launch()]);
  await stack.ask('/api/admin/agents', { method: 'PATCH', token: stack.token, body: { id: stack.agent.id, capacity: 100 } });
  agent = await Agent.signIn(browser, stack);
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  await stack?.stop();
});

const story = (name, run) => test(name, { skip, timeout: 60_000 }, async () => {
  await run();
  assert.deepEqual(agent.errors.splice(0), []);
});

story('a visitor and an agent talk both ways, with ticks up to read', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('Is the Longjing in stock?');
  await agent.take('Is the Longjing in stock?');
  await agent.hears('Is the Longjing in stock?');
  await visitor.tickIs('read');
  await visitor.sees('joined');
  await agent.say('It is. How much would you like?');
  await visitor.hears('It is. How much would you like?');
  await agent.tickIs('read');
  assert.deepEqual(await visitor.texts(), ['> Is the Longjing in stock?', '< It is. How much would you like?']);
  assert.deepEqual(await agent.texts(), ['< Is the Longjing in stock?', '> It is. How much would you like?']);
  assert.deepEqual(visitor.errors, []);
  await visitor.context.close();
});

story('a reload keeps every message, in order, and the draft', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  for (let i = 1; i <= 5; i += 1) await visitor.say(`reload ${i}`);
  await agent.take('reload');
  await agent.hears('reload 5');
  await agent.say('answer before the reload');
  await visitor.hears('answer before the reload');
  await visitor.view.locator('.composer-field').fill('half a sentence');
  await until('the draft is kept', () => visitor.page.evaluate(() => sessionStorage.getItem('tidegate.default.draft') === 'half a sentence'));
  const said = await visitor.texts();
  await visitor.page.reload();
  await visitor.hears('answer before the reload');
  await agent.say('answer after the reload');
  await visitor.hears('answer after the reload');
  assert.deepEqual(await visitor.texts(), [...said, '< answer after the reload']);
  assert.equal(await visitor.view.locator('.composer-field').inputValue(), 'half a sentence');
  assert.deepEqual(visitor.errors, []);
  await visitor.context.close();
});

story('two tabs of one visitor show one conversation', async () => {
  const first = await Visitor.arrive(browser, stack);
  await first.say('from the first tab');
  await agent.take('from the first tab');
  const second = await Visitor.arrive(browser, stack, { context: first.context });
  await second.view.locator('.message.is-own', { hasText: 'from the first tab' }).waitFor();
  await second.say('from the second tab');
  await agent.hears('from the second tab');
  await first.view.locator('.message.is-own', { hasText: 'from the second tab' }).waitFor();
  await agent.say('to both tabs');
  await Promise.all([first.hears('to both tabs'), second.hears('to both tabs')]);
  assert.deepEqual(await first.texts(), await second.texts());
  assert.equal((await agent.texts()).filter((text) => text.includes('tab')).length, 3);
  await first.context.close();
});

story('a duplicated tab, with its copy of sessionStorage, sends under a name of its own', async () => {
  for (const shop of [undefined, `${stack.origin}/`]) { // the page of its own, and the iframe of the launcher
    const first = await Visitor.arrive(browser, stack, { shop, context: shop && await browser.newContext({ locale: 'en-GB' }) });
    await first.say('the original speaks');
    await first.view.locator('.tick.is-sent, .tick.is-delivered, .tick.is-read').first().waitFor();
    const [page] = await Promise.all([first.context.waitForEvent('page'), first.page.evaluate(() => { window.open(location.href); })]);
    const copy = new Visitor();
    copy.page = page;
    copy.view = page;
    if (shop) await copy.attach();
    await copy.view.locator('.message.is-own', { hasText: 'the original speaks' }).waitFor();
    for (let i = 1; i <= 5; i += 1) await Promise.all([first.say(`original ${i}`), copy.say(`copy ${i}`)]);
    for (const tab of [first, copy]) await until('both tabs hold all eleven', async () => (await tab.texts()).length === 11);
    assert.deepEqual(await first.texts(), await copy.texts());
    assert.equal(new Set(await first.texts()).size, 11);
    assert.equal(await first.view.getByText('opened in another window').count() + await copy.view.getByText('opened in another window').count(), 0);
    await first.context.close();
  }
});

story('in a hidden tab a message stays at delivered until somebody looks', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('I will look away now');
  await agent.take('I will look away now');
  await visitor.tickIs('read');
  const hide = (hidden) => visitor.page.evaluate((state) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden ? 'hidden' : 'visible');
  await hide(true);
  await agent.say('Take your time');
  await visitor.hears('Take your time');
  await agent.tickIs('delivered');
  await new Promise((resolve) => setTimeout(resolve, 1500)); // longer than any batching of acknowledgements
  assert.equal(await agent.lastTick(), 'delivered');
  await hide(false);
  await agent.tickIs('read');
  await visitor.context.close();
});

story('typing shows at the other side and goes away', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('typing test');
  await agent.take('typing test');
  await visitor.sees('joined');
  await agent.page.locator('.composer-field').pressSequentially('hm');
  await visitor.sees('is typing');
  await agent.say('there');
  await visitor.hears('there');
  await until('the dots are gone', async () => !(await visitor.view.getByText('is typing').count()));
  await visitor.view.locator('.composer-field').pressSequentially('well');
  await agent.sees('is typing');
  await visitor.context.close();
});

story('closing tells both sides, and the next message starts a new conversation', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('please close me');
  await agent.take('please close me');
  await agent.page.getByRole('button', { name: 'Close', exact: true }).click();
  await agent.page.getByRole('button', { name: 'Close chat' }).click();
  await visitor.sees('The agent ended the chat');
  await visitor.say('one more thing');
  await agent.take('one more thing');
  await agent.hears('one more thing');
  await visitor.view.getByRole('button', { name: 'End chat' }).click();
  await visitor.view.locator('.ask').getByRole('button', { name: 'End chat' }).click();
  await visitor.sees('You ended the chat');
  await agent.sees('The visitor ended the chat');
  await visitor.context.close();
});

story('a conversation is handed to another agent with its history, and leaves the first', async () => {
  const made = await stack.ask('/api/admin/agents', { method: 'POST', token: stack.token, body: { user: 'second', name: 'Second' } });
  const second = await Agent.signIn(browser, stack, { user: 'second', password: made.password, online: false });
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('hand me over');
  await agent.take('hand me over');
  await second.status('Online');
  await agent.page.getByRole('button', { name: 'Transfer', exact: true }).click();
  await agent.page.locator('.ask').getByRole('button', { name: /Second/ }).click();
  await visitor.sees('Handed over to Second');
  await second.take('hand me over');
  await second.hears('hand me over');
  await until('it left the first agent', async () => (await agent.page.locator('.row-button', { hasText: 'hand me over' }).count()) === 0);
  await second.say('I have it now');
  await visitor.hears('I have it now');
  assert.deepEqual(second.errors, []);
  await second.status('Offline');
  await visitor.context.close();
  await second.context.close();
});

story('a draft belongs to its conversation', async () => {
  const [one, two] = [await Visitor.arrive(browser, stack), await Visitor.arrive(browser, stack)];
  await one.say('draft one');
  await agent.take('draft one');
  await agent.page.locator('.composer-field').fill('answer for one');
  await two.say('draft two');
  await agent.take('draft two');
  assert.equal(await agent.page.locator('.composer-field').inputValue(), '');
  await agent.take('answer for one');
  assert.equal(await agent.page.locator('.composer-field').inputValue(), 'answer for one');
  await one.context.close();
  await two.context.close();
});
