// WebSocket messages to envelopes and back, in either codec. Binary, each envelope is a 13-byte header and a payload,
// back to back:
//
//    0        1                         9               13
//    ├────────┼─────────────────────────┼───────────────┼──────────────── … ┤
//    │ kind u8│ timestamp u64 (µs, Unix)│ length u32    │ payload: root table of that kind
//
// In JSON, one text message is one object with `kind` and `ts`, or an array of them.
//
// decode() gives [{ kind, ts_us, value }]; kinds of a later schema are left out, and what is malformed becomes
// { kind: 'malformed', detail } without harm to the envelopes before it.

import { KINDS, KIND_NUMBERS, tableOf } from './schema.js';
import { getU64, putU64, readRoot, writeRoot } from './flat.js';
import { compactTable, completeTable } from './json.js';

export const HEADER_BYTES = 13;

const malformed = (error) => ({ kind: 'malformed', ts_us: 0, value: null, detail: String(error && error.message) });

const flat = {
  subprotocol: 'tidegate.v1.fb',

  /** envelopes: [{ kind, value }] → one binary message */
  encode(envelopes, ts_us) {
    const payloads = envelopes.map(({ kind, value }) => writeRoot(tableOf(kind), value));
    const bytes = new Uint8Array(payloads.reduce((sum, payload) => sum + HEADER_BYTES + payload.length, 0));
    const view = new DataView(bytes.buffer);
    let at = 0;
    payloads.forEach((payload, i) => {
      view.setUint8(at, KIND_NUMBERS[envelopes[i].kind]);
      putU64(view, at + 1, ts_us);
      view.setUint32(at + 9, payload.length, true);
      bytes.set(payload, at + HEADER_BYTES);
      at += HEADER_BYTES + payload.length;
    });
    return bytes;
  },

  /** data: ArrayBuffer or Uint8Array */
  decode(data) {
    const envelopes = [];
    try {
      const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at < bytes.length;) {
        const ts_us = getU64(view, at + 1);
        const end = at + HEADER_BYTES + view.getUint32(at + 9, true);
        if (end > bytes.length) throw new RangeError('an envelope past the end of its message');
        const kind = KINDS[bytes[at]];
        const payload = bytes.subarray(at + HEADER_BYTES, end);
        at = end;
        if (!kind) continue;
        try {
          envelopes.push({ kind, ts_us, value: readRoot(tableOf(kind), payload) });
        } catch (error) {
          envelopes.push(malformed(error));
        }
      }
    } catch (error) {
      envelopes.push(malformed(error));
    }
    return envelopes;
  },
};

const json = {
  subprotocol: 'tidegate.v1.json',

  encode(envelopes, ts_us) {
    const objects = envelopes.map(({ kind, value }) => ({ kind, ts: ts_us, ...compactTable(tableOf(kind), value) }));
    return JSON.stringify(objects.length === 1 ? objects[0] : objects);
  },

  decode(data) {
    const envelopes = [];
    try {
      const parsed = JSON.parse(data);
      for (const object of Array.isArray(parsed) ? parsed : [parsed]) {
        if (!KIND_NUMBERS[object.kind]) continue;
        try {
          envelopes.push({ kind: object.kind, ts_us: object.ts || 0, value: completeTable(tableOf(object.kind), object) });
        } catch (error) {
          envelopes.push(malformed(error));
        }
      }
    } catch (error) {
      envelopes.push(malformed(error));
    }
    return envelopes;
  },
};

export const CODECS = { fb: flat, json };
