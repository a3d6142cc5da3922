// A real Tidegate for one test file: `tidegate up` on free ports with a data directory of its own, and ways to ask,
// hurt and stop it. The binary is $TIDEGATE, or what the last build left; its pages are those it was built with, or, with
// E2E_PAGES=disk, those of the working tree.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './browser.mjs';

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 15_000;

/** The binary that is tested, or undefined. */
export const BINARY = [process.env.TIDEGATE, join(ROOT, 'target/fast/tidegate'), join(ROOT, 'target/debug/tidegate')].find((path) => path && existsSync(path));

/** Why the stack can't start here, or ''. */
export const missingStack = () => (BINARY ? '' : 'no binary: cargo build --profile fast --package tidegate, or set TIDEGATE');

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until `look()` is truthy and returns it; throws with `what` after the deadline. */
export async function until(what, look, msMax = 15_000) {
  const end = Date.now() + msMax;
  let last;
  while (Date.now() < end) {
    try {
      const found = await look();
      if (found) return found;
      last = undefined;
    } catch (error) { last = error; }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not within ${msMax} ms: ${what}${last ? ` (${last.message})` : ''}`);
}

export class Stack {
  /**
   * allowedOrigins: pages elsewhere that embed the widget. admission: { per_s, burst } of newcomers, default the product's.
   * backend: false leaves the backend's seat to another program.
   */
  static async start({ allowedOrigins = [], admission, backend = true } = {}) {
    const stack = new Stack();
    stack.directory = mkdtempSync(join(tmpdir(), 'tidegate-e2e-'));
    stack.data = join(stack.directory, 'data');
    const [http, ws, admin] = [await freePort(), await freePort(), await freePort()];
    stack.origin = `http://127.0.0.1:${http}`;
    const door = admission ? `[backend.admission]\nper_s = ${admission.per_s}\nburst = ${admission.burst}\n` : '';
    const origins = JSON.stringify([...allowedOrigins]);
    const fromDisk = process.env.E2E_PAGES === 'disk' ? `web_dir = ${JSON.stringify(join(ROOT, 'backend/web'))}\nsdk_dir = ${JSON.stringify(join(ROOT, 'protocol/js'))}\n` : '';
    writeFileSync(join(stack.directory, 'tidegate.toml'), `[backend]\nallowed_origins = ${origins}\n${fromDisk}${door}`);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDEGATE')));
    stack.log = '';
    stack.process = spawn(BINARY, ['--config', join(stack.directory, 'tidegate.toml'), '--data-dir', stack.data, 'up', ...(backend ? [] : ['--no-backend']), '--http-listen', `127.0.0.1:${http}`, '--listen', `127.0.0.1:${ws}`, '--admin-listen', `127.0.0.1:${admin}`], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [stack.process.stdout, stack.process.stderr]) stream.on('data', (text) => { stack.log += text; });
    stack.ended = new Promise((resolve) => stack.process.on('exit', resolve));
    try {
      const printed = (what, pattern) => until(what, () => {
        if (stack.process.exitCode !== null) throw new Error(`tidegate ended: ${stack.log}`);
        return pattern.exec(stack.log);
      }, START_MS_MAX);
      if (!backend) {
        [, stack.bus] = await printed('the bus', /bus +(\S+) +\(no backend: yours\)/);
        return stack;
      }
      [, stack.user, stack.password] = await printed('the password', /user (\S+)\s+password (\S+)/);
      await until('readyz', async () => (await fetch(`${stack.origin}/readyz`)).ok, START_MS_MAX);
      const login = await stack.ask('/api/agent/login', { body: { user: stack.user, password: stack.password } });
      stack.token = login.token;
      stack.agent = login.agent;
      return stack;
    } catch (error) {
      await stack.stop();
      throw error;
    }
  }

  /** REST; throws with the problem's text. */
  async ask(path, { method, body, token } = {}) {
    const response = await fetch(this.origin + path, {
      method: method ?? (body ? 'POST' : 'GET'), body: body && JSON.stringify(body),
      headers: { ...(body ? { 'Content-Type': 'application/json' } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) },
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** The process ids of the running 'backend' or 'gateway' processes. */
  pids(role) {
    const children = readFileSync(`/proc/${this.process.pid}/task/${this.process.pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean);
    return children.map(Number).filter((pid) => {
      try { return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(1).includes(role); } catch { return false; }
    });
  }

  /** kill -9, then wait until its successor runs and the backend is ready. */
  async kill(role) {
    const [pid] = await until(`a ${role}`, () => { const pids = this.pids(role); return pids.length && pids; });
    process.kill(pid, 'SIGKILL');
    await until(`a new ${role}`, () => this.pids(role).some((other) => other !== pid));
    await until('readyz', async () => (await fetch(`${this.origin}/readyz`)).ok);
    this.checkLedger();
  }

  /** Every accepted message is delivered, pending or expired (nothing here expires), and the counters are what the rows say. */
  checkLedger() {
    const text = execFileSync(BINARY, ['--data-dir', this.data, 'ledger', '--recount', '--json'], { encoding: 'utf8' });
    const { recount } = JSON.parse(text);
    if (recount.to_agent.expired + recount.to_visitor.expired > 0) throw new Error(`expired without a retention: ${text}`);
  }

  async stop() {
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), STOP_MS_MAX);
    await this.ended;
    clearTimeout(timer);
    if (this.token) this.checkLedger(); // it began
    rmSync(this.directory, { recursive: true, force: true });
  }
}
