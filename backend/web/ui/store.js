// Small durable strings: localStorage where the browser lets us, memory where it does not (blocked third-party storage).

/** { get, set, remove } over a Storage object, under a prefix; never throws. */
export function safeStorage(pick, prefix) {
  const memory = new Map();
  let area = null;
  try {
    area = pick();
    area.setItem(`${prefix}probe`, '1');
    area.removeItem(`${prefix}probe`);
  } catch {
    area = null;
  }
  return {
    get(key) {
      try {
        return area ? area.getItem(prefix + key) : memory.get(key) ?? null;
      } catch { return memory.get(key) ?? null; }
    },
    set(key, value) {
      memory.set(key, value);
      try { area?.setItem(prefix + key, value); } catch { /* full: memory has it */ }
    },
    remove(key) {
      memory.delete(key);
      try { area?.removeItem(prefix + key); } catch { /* nothing to remove */ }
    },
  };
}

export const localStore = (prefix) => safeStorage(() => globalThis.localStorage, prefix);
export const tabStore = (prefix) => safeStorage(() => globalThis.sessionStorage, prefix);

/** A stored JSON value, or `otherwise`. */
export function readJson(store, key, otherwise = null) {
  try {
    return JSON.parse(store.get(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
