// What a close means for the client, and how long it waits. The codes themselves are listed in protocol/README.md.

import { BACKOFF_MS_BASE, BACKOFF_MS_MAX, RETRY_MS_MAX } from './limits.js';

export const SUPERSEDED = 4501;
export const EXPIRED_TOKEN = 4504;

/** What the SDK itself closes with, towards a server that may not hear it any more. */
export const HALF_OPEN = 4003;

const RETRIABLE = [1001, 1005, 1006, 1011, 1012, 1013, 1014];

/** 'retry': come back; 'token': get a new token, then come back; 'stop': don't. By protocol/src/close.rs. */
export function closeClass(code) {
  if (code === EXPIRED_TOKEN) return 'token';
  return RETRIABLE.includes(code) || (code >= 4000 && code <= 4499) ? 'retry' : 'stop';
}

/** The retry_ms in a close reason, 0 where there is none. */
export function retryMsOf(reason) {
  const found = /^retry_ms=(\d{1,10})/.exec(reason || '');
  return found ? Math.min(Number(found[1]), RETRY_MS_MAX) : 0;
}

/** Full jitter: anywhere between at once and twice as long as the attempt before, up to the maximum. */
export function backoffMs(attempt, random) {
  return Math.floor(random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS_BASE * 2 ** Math.min(attempt, 16)));
}
