// The SDK's public face; the types and what they mean stand in tidegate.d.ts, the wire in protocol/README.md.

export { Tidegate, connect } from './client.js';
export { TidegateError } from './emitter.js';
export { complete } from './json.js';
export { closeClass } from './close.js';
export { MESSAGE_TEXT_BYTES_MAX, OUTBOX_BYTES_MAX, OUTBOX_ITEMS_MAX } from './limits.js';
