// What the SDK needs of the place it runs in. Everything can be given in the options; what is not comes from the
// platform's globals, where they exist.

/** options → { WebSocket, clock, random, storage, locks, wake, newSession } */
export function hostOf(options) {
  const scope = typeof globalThis === 'object' ? globalThis : {};
  const clock = options.clock || {
    now: () => Date.now(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  };
  const random = options.random || Math.random;
  return {
    WebSocket: options.WebSocket || scope.WebSocket,
    clock: options.now ? { ...clock, now: options.now } : clock,
    random,
    storage: options.storage === undefined ? tabStorage(scope) : options.storage || memoryStorage(),
    locks: options.locks === undefined ? (scope.navigator && scope.navigator.locks) || null : options.locks,
    wake: options.wake || ((callback) => wakeOf(scope, callback)),
    newSession: () => newSession(options.random ? null : scope.crypto, random),
  };
}

/** 16 hex digits, never all zero. */
function newSession(crypto, random) {
  const words = new Uint32Array(2);
  if (crypto && crypto.getRandomValues) crypto.getRandomValues(words);
  else for (let i = 0; i < 2; i++) words[i] = Math.floor(random() * 4294967296);
  if (words[0] === 0 && words[1] === 0) words[1] = 1;
  return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
}

export function memoryStorage() {
  const map = new Map();
  return {
    get: (key) => map.get(key),
    set: (key, value) => void map.set(key, value),
    remove: (key) => void map.delete(key),
  };
}

function tabStorage(scope) {
  try {
    const storage = scope.sessionStorage;
    if (!storage) return memoryStorage();
    storage.getItem('tidegate');
    return {
      get: (key) => storage.getItem(key),
      set: (key, value) => storage.setItem(key, value),
      remove: (key) => storage.removeItem(key),
    };
  } catch {
    return memoryStorage(); // a frame whose storage is blocked
  }
}

/** Calls back when the network, or the page, is back. */
function wakeOf(scope, callback) {
  const { document } = scope;
  if (!document || !scope.addEventListener) return () => {};
  const shown = () => {
    if (document.visibilityState !== 'hidden') callback();
  };
  scope.addEventListener('online', callback);
  scope.addEventListener('pageshow', shown);
  document.addEventListener('visibilitychange', shown);
  return () => {
    scope.removeEventListener('online', callback);
    scope.removeEventListener('pageshow', shown);
    document.removeEventListener('visibilitychange', shown);
  };
}
