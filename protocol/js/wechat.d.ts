// Types of the WeChat adapter.

import type { Options } from './tidegate.js';

/** Options for connect(): family, WebSocket, storage, locks, wake. `wx` is the mini-program's global. */
export function wechat(wx: any): Pick<Options, 'family' | 'WebSocket' | 'storage' | 'locks' | 'wake'>;
