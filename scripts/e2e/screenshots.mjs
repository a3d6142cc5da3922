// Makes a picture of every state of every page: phone and desk, light and dark, in Chinese and English.
//   node scripts/e2e/screenshots.mjs [filter…]   → .cache/screenshots/*.png
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launch, ROOT } from './browser.mjs';
import { ORIGIN, serve } from './pages.mjs';
import { adminScenarios, agentScenarios, visitorScenarios } from './scenarios.mjs';

const OUT = join(ROOT, '.cache', 'screenshots');
const SIZES = { phone: { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true }, console: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true }, desk: { viewport: { width: 1280, height: 800 } } };
const AT_ONCE = 6;
const filters = process.argv.slice(2);

mkdirSync(OUT, { recursive: true });
const browser = await launch();
let made = 0;
let broken = 0;

const jobs = [];
const picture = (name, options) => { if (filters.every((filter) => name.includes(filter))) jobs.push(() => draw(name, options)); };

async function draw(name, { scenario, size, scheme, language, path, act }) {
  const context = await browser.newContext({ ...SIZES[size], colorScheme: scheme, locale: language === 'zh' ? 'zh-CN' : 'en-GB', timezoneId: 'Asia/Shanghai', reducedMotion: 'reduce' });
  await serve(context, scenario);
  const page = await context.newPage();
  page.on('pageerror', (error) => { broken += 1; console.error(`${name}: ${error.message}`); });
  page.on('console', (message) => { if (message.type() === 'error' && !/ERR_FAILED|404/.test(message.text())) { broken += 1; console.error(`${name}: ${message.text()}`); } });
  await page.goto(ORIGIN + path);
  await act?.(page);
  if (scenario.reload) await page.reload();
  await page.waitForLoadState('networkidle');
  await page.waitForTimeout(scenario.settleMs ?? 350);
  await page.screenshot({ path: join(OUT, `${name}.png`) });
  made += 1;
  await context.close();
}

const openWidget = async (page) => {
  await page.locator('button[aria-expanded]').click();
  await page.waitForTimeout(300);
};

for (const language of ['zh', 'en']) {
  for (const [state, scenario] of Object.entries(visitorScenarios(language))) {
    const slow = ['reconnecting', 'unreachable'].includes(state) ? { ...scenario, settleMs: state === 'unreachable' ? 2600 : 2400 } : scenario;
    for (const size of ['phone', 'desk']) {
      for (const scheme of ['light', 'dark']) {
        const name = `visitor-${state}-${size}-${scheme}-${language}`;
        if (size === 'phone') picture(name, { scenario: slow, size, scheme, language, path: `/widget/?widget=default${state === 'empty' ? `&questions=${encodeURIComponent(language === 'zh' ? '我的订单到哪了|怎么退换|怎么泡这款茶' : 'Where is my order|Returns|How to brew it')}` : ''}` });
        else picture(name, { scenario: slow, size, scheme, language, path: '/', act: openWidget });
      }
    }
  }
}

for (const language of ['zh', 'en']) {
  const consoles = [...Object.entries(agentScenarios(language)).map((entry) => ['agent', ...entry]), ...Object.entries(adminScenarios(language)).map((entry) => ['admin', ...entry])];
  for (const [place, state, { scenario, hash = '', act }] of consoles) {
    for (const size of ['phone', 'desk']) {
      for (const scheme of ['light', 'dark']) {
        picture(`${place}-${state}-${size}-${scheme}-${language}`, { scenario, size: size === 'phone' ? 'console' : 'desk', scheme, language, path: `/${place}/${hash}`, act: act && (async (page) => { await page.waitForTimeout(300); await act(page); }) });
      }
    }
  }
}

for (const language of ['zh', 'en']) {
  for (const size of ['phone', 'desk']) {
    for (const scheme of ['light', 'dark']) {
      const { empty: scenario } = visitorScenarios(language);
      picture(`shop-home-${size}-${scheme}-${language}`, { scenario, size, scheme, language, path: '/' });
      picture(`shop-product-${size}-${scheme}-${language}`, { scenario, size, scheme, language, path: '/shop/longjing.html' });
    }
  }
}

// A few at a time: most of a picture is waiting for the page to settle.
await Promise.all(Array.from({ length: AT_ONCE }, async () => { while (jobs.length) await jobs.shift()(); }));

await browser.close();
console.log(`${made} pictures in ${OUT}${broken ? `, ${broken} errors` : ''}`);
process.exitCode = broken ? 1 : 0;
