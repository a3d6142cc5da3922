// A backend of eighty lines of Python behind `tidegate up --no-backend`: it answers in a real browser, dies, and comes back.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { BINARY, Stack, missingStack, until } from './stack.mjs';
import { ROOT, launch, missing } from './browser.mjs';
import { Visitor } from './people.mjs';

const LIBRARY = BINARY && join(dirname(BINARY), 'libtidegate_bus.so');
const missingLibrary = () => (existsSync(LIBRARY) ? '' : `no ${LIBRARY}: cargo build --profile fast --package tidegate-bus-c`);
const skip = missing() || missingStack() || missingLibrary() || false;
let stack;
let browser;

before(async () => {
  if (skip) return;
  [stack, browser] = await Promise.all([Stack.start({ backend: false }), launch()]);
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  await stack?.stop();
});

/** The echo on the bus of this stack. It is this one process, so that a kill hits it and nothing else. */
class Echo {
  static async start() {
    const echo = new Echo();
    const env = { ...process.env, TIDEGATE_BUS_LIB: LIBRARY, PYTHONDONTWRITEBYTECODE: '1' };
    echo.process = spawn('python3', [join(ROOT, 'shm-bus/examples/echo_backend.py'), stack.bus], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    echo.ended = new Promise((resolve) => echo.process.on('exit', resolve));
    echo.log = '';
    for (const stream of [echo.process.stdout, echo.process.stderr]) stream.on('data', (text) => { echo.log += text; });
    await until('the echo', () => {
      if (echo.process.exitCode !== null) throw new Error(`it ended: ${echo.log}`);
      return echo.log.startsWith('echoes on ');
    });
    return echo;
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }
}

/** A picture for a person to look at, where E2E_PICTURES names a directory. */
const picture = async (visitor, name) => {
  if (process.env.E2E_PICTURES) await visitor.page.screenshot({ path: join(process.env.E2E_PICTURES, `python-${name}.png`) });
};

test('Python answers a visitor in the browser; killed, the page says that it waits; started again, the chat goes on', { skip, timeout: 120_000 }, async () => {
  let echo = await Echo.start();
  try {
    const visitor = await Visitor.arrive(browser, stack);
    await visitor.say('Is the Longjing in stock?');
    await visitor.hears('You said: Is the Longjing in stock?');
    await visitor.tickIs('sent');
    await picture(visitor, '1-answered');

    await echo.kill();
    await visitor.say('Is anybody there?');
    await visitor.tickIs('waiting');
    await visitor.sees('Still sending… Nothing you wrote is lost.');
    await picture(visitor, '2-killed');
    const newcomer = await Visitor.arrive(browser, stack);
    await newcomer.say('Hello?');
    await newcomer.sees('Reconnecting');
    await picture(newcomer, '3-newcomer');

    echo = await Echo.start();
    await visitor.hears('You said: Is anybody there?');
    await visitor.tickIs('sent');
    await until('the line is gone', async () => (await visitor.view.locator('.connection-line').count()) === 0);
    await newcomer.hears('You said: Hello?');
    await visitor.say('Good to have you back.');
    await visitor.hears('You said: Good to have you back.');
    await picture(visitor, '4-again');
    assert.deepEqual([...visitor.errors, ...newcomer.errors], []);
  } finally {
    await echo.kill();
  }
});
