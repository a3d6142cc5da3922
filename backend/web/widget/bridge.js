// Inside an iframe the browser may block storage, so the launcher (widget.js, on the shop's page) keeps it for us in the
// shop's own storage. This is the iframe's end: the same {get, set, remove} interface, read from a copy that the
// launcher sent, written through by postMessage. Only the framing window, and only the origin that it declared and the
// browser confirmed, is listened to or spoken to.
import { localStore, tabStore } from '../ui/store.js';

const INIT_MS_MAX = 4_000;

/** Where the framing page lives, by the browser's word where it gives one. */
function parentOrigin() {
  const declared = new URLSearchParams(location.hash.slice(1)).get('origin') ?? '';
  const confirmed = location.ancestorOrigins?.[0] ?? (document.referrer ? new URL(document.referrer).origin : declared);
  return declared && declared === confirmed ? declared : '';
}

function bridgedStore(area, entries, post) {
  const copy = new Map(Object.entries(entries ?? {}));
  return {
    get: (key) => copy.get(key) ?? null,
    set(key, value) { copy.set(key, value); post({ type: 'set', area, key, value }); },
    remove(key) { copy.delete(key); post({ type: 'remove', area, key }); },
  };
}

/**
 * → { embedded, local, tab, config, page, shown, post(message), onShown(listener) }.
 * On a page of its own it is this page's storage and always shown.
 */
export async function openBridge(prefix) {
  if (window.parent === window) return standalone(prefix);
  const origin = parentOrigin();
  if (!origin) return { ...standalone(prefix), embedded: true };

  const post = (message) => window.parent.postMessage({ tidegate: 1, ...message }, origin);
  const listeners = new Set();
  const bridge = { embedded: true, post, shown: true, onShown: (listener) => listeners.add(listener) };
  const init = await new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), INIT_MS_MAX);
    window.addEventListener('message', (event) => {
      if (event.source !== window.parent || event.origin !== origin || event.data?.tidegate !== 1) return;
      if (event.data.type === 'init') {
        clearTimeout(timer);
        resolve(event.data);
      } else if (event.data.type === 'shown') {
        bridge.shown = event.data.shown === true;
        for (const listener of listeners) listener(bridge.shown);
      }
    });
    post({ type: 'ready' });
  });
  if (!init) return { ...standalone(prefix), ...bridge };
  bridge.shown = init.shown === true;
  return Object.assign(bridge, {
    local: bridgedStore('local', init.local, post), tab: bridgedStore('tab', init.tab, post),
    config: init.config ?? {}, page: String(init.page ?? ''), ...(init.locked ? { locks: null } : {}), // the launcher holds the tab's lock
  });
}

function standalone(prefix) {
  const query = new URLSearchParams(location.search);
  return {
    embedded: false, local: localStore(prefix), tab: tabStore(prefix), shown: true, page: query.get('page') || document.referrer || location.href,
    config: Object.fromEntries(query), post() {}, onShown() {},
  };
}
