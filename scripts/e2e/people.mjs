// The people of the tests: a visitor and an agent, each in a browser context of their own, driven only by what they see.
import { until } from './stack.mjs';

const MOBILE = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** Errors of the page end the test that looks at them. */
function listen(page, errors) {
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    const text = message.text();
    // A server that was killed on purpose refuses connections for a moment.
    if (message.type() === 'error' && !/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection|503|net::/.test(text)) errors.push(text);
  });
}

class Person {
  errors = [];

  /** The texts of all bubbles, oldest first, with whose they are: '> mine' or '< theirs'. */
  texts() {
    return this.view.locator('.message').evaluateAll((items) => items.map((item) => `${item.classList.contains('is-own') ? '>' : '<'} ${item.querySelector('.bubble').lastChild.textContent}`));
  }

  lastTick() {
    return this.view.locator('.message.is-own .tick').last().getAttribute('class').then((name) => name.replace('tick is-', ''));
  }

  async sees(text) { await this.view.getByText(text, { exact: false }).first().waitFor({ timeout: 15_000 }); }

  async say(text) {
    const field = this.view.locator('.composer-field');
    await field.fill(text);
    await field.press('Enter');
  }

  async hears(text) { await this.view.locator('.message.is-theirs .bubble', { hasText: text }).last().waitFor({ timeout: 15_000 }); }
  async tickIs(state) { await until(`tick ${state}`, async () => (await this.lastTick()) === state); }
}

export class Visitor extends Person {
  /** A visitor on the full-page chat (a phone), or on a shop's page with the widget open. */
  static async arrive(browser, stack, { context, shop, open = true } = {}) {
    const visitor = new Visitor();
    visitor.context = context ?? await browser.newContext({ locale: 'en-GB', ...(shop ? {} : MOBILE) });
    visitor.page = await visitor.context.newPage();
    listen(visitor.page, visitor.errors);
    await visitor.page.goto(shop ?? `${stack.origin}/widget/`);
    if (shop) {
      if (open) await visitor.open();
    } else visitor.view = visitor.page;
    return visitor;
  }

  async open() {
    await this.page.locator('button[aria-expanded="false"]').click();
    await this.attach();
  }

  /** The chat inside the launcher's iframe. */
  async attach() {
    await this.page.locator('iframe').waitFor({ state: 'attached' });
    this.view = this.page.frameLocator('iframe');
    await this.view.locator('.composer-field').waitFor();
  }
}

export class Agent extends Person {
  static async signIn(browser, stack, { user = stack.user, password = stack.password, online = true, phone = false } = {}) {
    const agent = new Agent();
    agent.context = await browser.newContext({ locale: 'en-GB', ...(phone ? { ...MOBILE, viewport: { width: 390, height: 844 } } : { viewport: { width: 1280, height: 800 } }) });
    agent.page = await agent.context.newPage();
    agent.view = agent.page;
    listen(agent.page, agent.errors);
    await agent.page.goto(`${stack.origin}/agent/`);
    await agent.page.locator('input[name=user]').fill(user);
    await agent.page.locator('input[name=password]').fill(password);
    await agent.page.locator('button[type=submit]').click();
    await agent.page.locator('.status-button').waitFor();
    await agent.status(online ? 'Online' : 'Offline');
    return agent;
  }

  async status(name) {
    await until(`status ${name}`, async () => {
      if ((await this.page.locator('.status-text').textContent()) === name) return true;
      await this.page.locator('.status-button').click();
      await this.page.getByRole('menuitemradio', { name }).click({ timeout: 2000 });
      return false;
    });
  }

  rows() { return this.page.locator('.row-button'); }

  /** Opens the conversation whose row shows this text. */
  async take(text) { await this.page.locator('.row-button', { hasText: text }).first().click({ timeout: 15_000 }); }
}
