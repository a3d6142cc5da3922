// Debian's Chromium through playwright-core. The packages are put into an ignored cache directory at first use; nothing
// of them is committed.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const CACHE = join(ROOT, '.cache', 'e2e');
const PACKAGES = { 'playwright-core': '1.65.1', 'axe-core': '4.14.1' };
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Why the browser tests can't run here, or ''. */
export function missing() {
  if (!existsSync(CHROMIUM)) return `no Chromium at ${CHROMIUM}: apt-get install chromium, or set CHROMIUM`;
  return '';
}

function installed() {
  mkdirSync(CACHE, { recursive: true });
  const manifest = join(CACHE, 'package.json');
  if (!existsSync(manifest)) writeFileSync(manifest, '{"private":true}\n');
  const require = createRequire(manifest);
  const wanted = Object.entries(PACKAGES).filter(([name, version]) => {
    try { return require(`${name}/package.json`).version !== version; } catch { return true; }
  });
  if (wanted.length) {
    const names = wanted.map(([name, version]) => `${name}@${version}`);
    execFileSync('npm', ['install', '--prefix', CACHE, '--no-save', '--no-package-lock', '--no-audit', '--no-fund', '--ignore-scripts', ...names], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  return require;
}

/** The source of axe-core, to be evaluated in a page. */
export function axeSource() {
  return installed()('axe-core').source;
}

/** A font of a machine without desktop fonts looks like nobody's phone: system-ui is mapped to a plain grotesque. */
function fontConfig() {
  const file = join(CACHE, 'fonts.conf');
  const alias = (name) => `<match target="pattern"><test name="family" qual="first"><string>${name}</string></test><edit name="family" mode="prepend" binding="strong"><string>Liberation Sans</string><string>Noto Sans CJK SC</string></edit></match>`;
  writeFileSync(file, `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>${['system-ui', 'sans-serif', 'sans', 'DejaVu Sans'].map(alias).join('')}<include ignore_missing="yes">/etc/fonts/fonts.conf</include></fontconfig>\n`);
  return file;
}

const options = () => ({ executablePath: CHROMIUM, args: ['--no-sandbox', '--force-color-profile=srgb'], env: { ...process.env, FONTCONFIG_FILE: fontConfig() } });

export const launch = async () => installed()('playwright-core').chromium.launch(options());

/** A browser with a profile on disk, whose preferences hold: for what only a setting can block. */
export const launchStrict = async (profile) => installed()('playwright-core').chromium.launchPersistentContext(profile, { ...options(), locale: 'en-GB' });
