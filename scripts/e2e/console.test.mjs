// The consoles with a real backend: what an agent and a supervisor do besides answering.
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

test('a wrong password is refused in words, and the right one works after it', { skip, timeout: 60_000 }, async () => {
  const page = await (await browser.newContext({ locale: 'en-GB' })).newPage();
  await page.goto(`${stack.origin}/agent/`);
  await page.locator('input[name=user]').fill(stack.user);
  await page.locator('input[name=password]').fill('wrong');
  await page.locator('button[type=submit]').click();
  await page.getByText('The name or the password isn’t right.').waitFor();
  await page.locator('input[name=password]').fill(stack.password);
  await page.locator('button[type=submit]').click();
  await page.locator('.status-button').waitFor();
  await page.context().close();
});

story('a canned reply is written once and chosen with a slash', async () => {
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('canned please');
  await agent.take('canned please');
  await agent.page.keyboard.press('Control+k');
  await agent.page.getByPlaceholder('Type a command or search').fill('canned');
  await agent.page.keyboard.press('Enter');
  await agent.page.getByRole('button', { name: 'Add a reply' }).click();
  await agent.page.getByPlaceholder('Shortcut').fill('ship');
  await agent.page.getByPlaceholder('Text').fill('It ships today.');
  await agent.page.getByRole('button', { name: 'Save' }).click();
  await agent.page.locator('dialog.editor').waitFor({ state: 'detached' });
  const field = agent.page.locator('.composer-field');
  await field.fill('/sh');
  await agent.page.getByRole('option', { name: /It ships today/ }).waitFor();
  await field.press('Enter');
  assert.equal(await field.inputValue(), 'It ships today.');
  await field.press('Enter');
  await visitor.hears('It ships today.');
  await visitor.context.close();
});

story('an away agent gets no chats, sees who waits, and takes one out of turn', async () => {
  await agent.status('Away');
  const visitors = [];
  for (const name of ['first in line', 'second in line']) {
    const visitor = await Visitor.arrive(browser, stack);
    await visitor.say(name);
    await until('it is stored', async () => (await visitor.lastTick()) === 'sent');
    visitors.push(visitor);
  }
  await agent.page.locator('#tab-waiting').click();
  await agent.take('second in line');
  await agent.hears('second in line');
  await agent.sees('You are reading along');
  await until('reading along acknowledges nothing', async () => (await visitors[1].lastTick()) === 'sent');
  await agent.page.locator('.head').getByRole('button', { name: 'Take', exact: true }).click();
  await visitors[1].sees('joined');
  await visitors[1].tickIs('read');
  await agent.say('here I am');
  await visitors[1].hears('here I am');
  await agent.status('Online');
  await visitors[0].sees('joined');
  for (const visitor of visitors) await visitor.context.close();
});

story('the palette finds a conversation and the arrows of the keyboard move through the list', async () => {
  await agent.page.locator('#tab-mine').click();
  await agent.page.keyboard.press('Control+k');
  await agent.page.getByPlaceholder('Type a command or search').fill('first in line');
  await agent.page.getByRole('option').first().waitFor();
  await agent.page.keyboard.press('Enter');
  await agent.hears('first in line');
  const front = () => agent.page.locator('.row.is-active').evaluate((row) => [...row.parentNode.children].indexOf(row));
  while (await front() > 0) await agent.page.keyboard.press('Alt+ArrowUp');
  await agent.page.keyboard.press('Alt+ArrowDown');
  await until('the second row is in front', async () => (await front()) === 1);
});

test('on a phone the console shows one column at a time, and back goes back', { skip, timeout: 60_000 }, async () => {
  const made = await stack.ask('/api/admin/agents', { method: 'POST', token: stack.token, body: { user: 'mobile', name: 'Mobile' } });
  await agent.status('Away');
  const mobile = await Agent.signIn(browser, stack, { user: 'mobile', password: made.password, phone: true });
  const visitor = await Visitor.arrive(browser, stack);
  await visitor.say('to the phone');
  await mobile.take('to the phone');
  await mobile.hears('to the phone');
  assert.equal(await mobile.page.locator('.list').isVisible(), false);
  await mobile.say('from the phone');
  await visitor.hears('from the phone');
  await mobile.page.getByRole('button', { name: 'Customer details' }).click();
  await mobile.page.getByRole('heading', { name: 'Earlier chats' }).waitFor();
  assert.equal(await mobile.page.locator('.composer-field').isVisible(), false);
  await mobile.page.goBack();
  await mobile.page.locator('.composer-field').waitFor();
  await mobile.page.locator('.head-back').click();
  await mobile.page.locator('.row-button', { hasText: 'from the phone' }).waitFor();
  assert.equal(await mobile.page.locator('.composer-field').count(), 0);
  assert.deepEqual(mobile.errors, []);
  await mobile.context.close();
  await visitor.context.close();
});

test('a supervisor sees the numbers, adds an agent, and the one-time password works', { skip, timeout: 60_000 }, async () => {
  const page = await agent.context.newPage();
  await page.goto(`${stack.origin}/admin/`);
  await page.getByRole('heading', { name: 'All is well' }).waitFor();
  await page.getByText('Closed: every accepted message is accounted for').waitFor();
  await page.locator('.chart-line').first().waitFor({ timeout: 15_000, state: 'attached' });
  await page.getByRole('link', { name: 'Agents' }).click();
  await page.getByRole('button', { name: 'Add an agent' }).click();
  await page.locator('input[name=user]').fill('newcomer');
  await page.locator('input[name=name]').fill('New Comer');
  await page.getByRole('button', { name: 'Create' }).click();
  const secret = await page.locator('.note.is-secret b').textContent();
  const password = secret.split(': ')[1];
  const newcomer = await Agent.signIn(browser, stack, { user: 'newcomer', password });
  await newcomer.page.goto(`${stack.origin}/admin/`);
  await newcomer.sees('This page is for supervisors');
  await newcomer.context.close();

  await page.getByRole('link', { name: 'Widgets' }).click();
  await page.locator('input[name=name]').fill('Tidewater Tea');
  await page.locator('textarea[name=origins]').fill('shop.example');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('.form-actions .is-danger').waitFor();
  await page.locator('textarea[name=origins]').fill('https://shop.example');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved').waitFor();
  assert.equal(await page.locator('input[name=name]').inputValue(), 'Tidewater Tea');
  await page.close();
});
