// Which session this page is. A session's record (its id, its numbers, its outbox) is stored under
// `<storageKey>.<slot>`; a page takes the first slot whose session no other page holds.
//
// That serves both kinds of storage. sessionStorage is copied when a tab is duplicated: the copy finds the session of
// slot 0 held and begins its own in slot 1. Storage that tabs share works the same way, and a tab opened later
// inherits the outbox of one that was closed. Holding is a Web Lock named after the session; it dies with its page.
// Without Web Locks slot 0 is taken: two pages with one session then supersede each other (close code 4501).

import { SESSION_LOCK_MS_MAX, SESSION_SLOTS_MAX } from './limits.js';

const RECORD_VERSION = 1;

/** An empty record. */
export const freshRecord = (session) =>
  ({ version: RECORD_VERSION, session, connection: 0, last: 0, principal: '', ticket: '', items: [] });

function parseRecord(text) {
  try {
    const record = JSON.parse(text);
    const usable = record.version === RECORD_VERSION && /^[0-9a-f]{16}$/.test(record.session) &&
      Number.isSafeInteger(record.last) && Array.isArray(record.items);
    return usable ? { connection: 0, ...record } : null;
  } catch {
    return null;
  }
}

/** A page's hold on a session. */
export class SessionSlot {
  constructor(host, key, record, release) {
    this.host = host;
    this.key = key; // '' = memory only
    this.record = record;
    this.release = release;
    this.left = false;
  }

  /** Finds, or begins, a session that nobody else holds. */
  static async take(host, storageKey) {
    const free = await hold(host, `tidegate:${storageKey}`, 4 * SESSION_LOCK_MS_MAX);
    try {
      for (let slot = 0; slot < SESSION_SLOTS_MAX; slot++) {
        const key = `${storageKey}.${slot}`;
        const record = parseRecord(load(host, key)) || freshRecord(host.newSession());
        const release = await hold(host, lockOf(record.session), SESSION_LOCK_MS_MAX);
        if (!release) continue;
        const taken = new SessionSlot(host, key, record, release);
        taken.save();
        return taken;
      }
      return new SessionSlot(host, '', freshRecord(host.newSession()), () => {});
    } finally {
      if (free) free();
    }
  }

  /** Writes the record. false: it could not be written, and from now on nothing is. */
  save() {
    if (!this.key) return true;
    try {
      this.host.storage.set(this.key, JSON.stringify(this.record));
      return true;
    } catch {
      // An old record would make a reload repeat or skip numbers: rather none, and a new session then.
      try {
        this.host.storage.remove(this.key);
      } catch {
        // Storage that can't even be emptied is not read back either.
      }
      this.key = '';
      return false;
    }
  }

  /** Another session id for the same record; the caller renumbers. */
  renew() {
    this.release();
    this.release = () => {};
    this.record.session = this.host.newSession();
    this.record.last = 0;
    hold(this.host, lockOf(this.record.session), SESSION_LOCK_MS_MAX).then((release) => {
      if (!release) return;
      if (this.left) release();
      else this.release = release;
    });
  }

  /** Lets go of the session; the record stays. */
  leave() {
    this.left = true;
    this.release();
  }
}

const lockOf = (session) => `tidegate:session:${session}`;

function load(host, key) {
  try {
    return host.storage.get(key) || '';
  } catch {
    return '';
  }
}

/** A function that lets go, or null when somebody else holds it for longer than ms. */
function hold(host, name, ms) {
  if (!host.locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    const abort = new AbortController();
    const timer = host.clock.setTimeout(() => abort.abort(), ms);
    host.locks.request(name, { signal: abort.signal }, () => {
      host.clock.clearTimeout(timer);
      return new Promise((release) => resolve(() => release()));
    }).catch((error) => {
      host.clock.clearTimeout(timer);
      // Anything but our own abort: this page may not use locks at all. Go on without.
      resolve(error && error.name === 'AbortError' ? null : () => {});
    });
  });
}
