// Serves backend/web from the disk by request interception, with the headers the backend sends, and a scenario in place of
// the server: the stand-in SDK of fixture/sdk.js and REST answers from the scenario. For screenshots and layout tests.
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { ROOT } from './browser.mjs';

const WEB = join(ROOT, 'backend', 'web');
const FIXTURE = join(ROOT, 'scripts', 'e2e', 'fixture');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.json': 'application/json' };

export const ORIGIN = 'http://tidegate.test';
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https: http:; connect-src 'self' ws: wss:; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self' http://shop.test";

/** Routes everything of a browser context: our origin from the disk, REST from `scenario.api`. */
export async function serve(context, scenario) {
  await context.addInitScript(({ sdk, session }) => {
    globalThis.__fixture = sdk;
    if (session) localStorage.setItem('tidegate.account.session', JSON.stringify(session));
  }, { sdk: scenario.sdk ?? {}, session: scenario.session });
  await context.route('**/*', async (route) => {
    const url = new URL(route.request().url());
    if (url.origin !== ORIGIN) return route.abort();
    if (url.pathname.startsWith('/api/')) return answer(route, url, scenario);
    const file = url.pathname === '/sdk/tidegate.js' ? join(FIXTURE, 'sdk.js') : join(WEB, normalize(url.pathname.endsWith('/') ? `${url.pathname}index.html` : url.pathname));
    try {
      await route.fulfill({ body: await readFile(file), headers: { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP, 'X-Content-Type-Options': 'nosniff' } });
    } catch {
      await route.fulfill({ status: 404, body: 'not found' });
    }
  });
}

async function answer(route, url, scenario) {
  for (const [path, reply] of Object.entries(scenario.api ?? {})) {
    if (!new RegExp(`^${path}$`).test(url.pathname)) continue;
    if (reply === 'abort') return route.abort();
    const body = typeof reply === 'function' ? reply(url, route.request()) : reply;
    return route.fulfill({ status: body?.problem ? body.problem.status : 200, contentType: body?.problem ? 'application/problem+json' : 'application/json', body: JSON.stringify(body?.problem ?? body) });
  }
  return route.fulfill({ status: 404, contentType: 'application/problem+json', body: JSON.stringify({ status: 404, title: 'no such fixture' }) });
}
