// The `tidegate.v1.fb` codec: FlatBuffers root tables, read and written by walking schema.js.
//
// Reading checks every offset against the payload (DataView throws) and bounds the text that one payload may unfold
// to, so a bad payload costs an exception, caught by the caller, and nothing else. Writing goes front to back:
// root offset, then for each table its vtable, its inline fields (widest first, aligned from the payload's start)
// and what they point to.

import { TABLES, absentValue, isAbsent } from './schema.js';
import { decodeUtf8, encodeUtf8 } from './utf8.js';

const TWO_32 = 4294967296;

const hex32 = (word) => (TWO_32 + word).toString(16).slice(1);

/** 8 hex digits from `from` on as a number; RangeError where they are not. */
function word(hex, from) {
  const digits = hex.slice(from, from + 8);
  if (!/^[0-9a-f]{8}$/i.test(digits)) throw new RangeError(`${hex} is not a string of hex digits of the right length`);
  return parseInt(digits, 16);
}

// --- 64-bit words: two halves, never a BigInt -------------------------------------------------------------------

/** An unsigned 64-bit integer as a number; RangeError at 2^53 and above. */
export function getU64(view, at) {
  const value = view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
  if (value > Number.MAX_SAFE_INTEGER) throw new RangeError('a 64-bit number of 2^53 or more');
  return value;
}

/** The inverse of getU64. */
export function putU64(view, at, value) {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is not an integer in 0..2^53-1`);
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

function getHex64(view, at) {
  return hex32(view.getUint32(at + 4, true)) + hex32(view.getUint32(at, true));
}

function putHex64(view, at, hex) {
  view.setUint32(at + 4, word(hex, 0), true);
  view.setUint32(at, word(hex, 8), true);
}

const blankZeros = (hex) => (/^0+$/.test(hex) ? '' : hex);

// --- reading ----------------------------------------------------------------------------------------------------

/** The root table `name` in a payload, every field present. Throws RangeError where the payload is malformed. */
export function readRoot(name, payload) {
  const reader = new Reader(payload);
  return reader.table(TABLES[name], reader.target(0));
}

class Reader {
  constructor(payload) {
    this.bytes = payload;
    this.view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    // Offsets may share a target: this stops a small payload from unfolding to a huge one.
    this.unfoldBytesLeft = 4 * payload.byteLength + 1024;
  }

  spend(bytes) {
    this.unfoldBytesLeft -= bytes;
    if (this.unfoldBytesLeft < 0) throw new RangeError('unfolds to more than it is');
  }

  target(at) {
    return at + this.view.getUint32(at, true);
  }

  table(fields, at) {
    const view = this.view;
    const vtable = at - view.getInt32(at, true);
    const vtableBytes = view.getUint16(vtable, true);
    this.spend(4);
    const value = {};
    for (const field of fields) {
      const offset = field.slot < vtableBytes ? view.getUint16(vtable + field.slot, true) : 0;
      value[field.name] = offset === 0 ? absentValue(field) : this.field(field, at + offset);
    }
    return value;
  }

  field(field, at) {
    const view = this.view;
    switch (field.type) {
      case 'u64': return getU64(view, at);
      case 'u32': return view.getUint32(at, true);
      case 'bool': return view.getUint8(at) !== 0;
      case 'enum': return field.names[view.getUint8(at)] || 'unknown';
      case 'session': return blankZeros(getHex64(view, at));
      case 'id': return blankZeros(getHex64(view, at) + getHex64(view, at + 8));
      case 'table': return this.table(TABLES[field.of], this.target(at));
      case 'string': return this.string(this.target(at));
      default: return this.tables(TABLES[field.of], this.target(at));
    }
  }

  string(at) {
    const length = this.view.getUint32(at, true);
    if (at + 4 + length > this.bytes.length) throw new RangeError('a string past the end');
    this.spend(length);
    return decodeUtf8(this.bytes.subarray(at + 4, at + 4 + length));
  }

  tables(fields, at) {
    const count = this.view.getUint32(at, true);
    if (at + 4 + 4 * count > this.bytes.length) throw new RangeError('a vector past the end');
    const list = [];
    for (let i = 0; i < count; i++) list.push(this.table(fields, this.target(at + 4 + 4 * i)));
    return list;
  }
}

// --- writing ----------------------------------------------------------------------------------------------------

/** A payload holding `value` as root table `name`; fields that equal their default are left out. */
export function writeRoot(name, value) {
  const writer = new Writer();
  const root = writer.reserve(4);
  writer.point(root, writer.table(TABLES[name], value));
  return writer.bytes.slice(0, writer.length);
}

class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.view = new DataView(this.bytes.buffer);
    this.length = 0;
  }

  /** Room for `count` zero bytes; returns where. */
  reserve(count) {
    const at = this.length;
    this.length += count;
    if (this.length > this.bytes.length) {
      const larger = new Uint8Array(2 * this.length);
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  align(multiple) {
    while (this.length % multiple !== 0) this.reserve(1);
  }

  point(at, target) {
    this.view.setUint32(at, target - at, true);
  }

  table(fields, value) {
    const present = fields.filter((field) => !isAbsent(field, value[field.name]));
    const slots = present.length === 0 ? 4 : present[present.length - 1].slot + 2;
    // The table begins 4 bytes before a multiple of 8: its 8-byte fields follow the vtable's offset unpadded.
    this.align(2);
    while ((this.length + slots) % 8 !== 4) this.reserve(2);
    const vtable = this.reserve(slots);
    const at = this.reserve(4);
    const width = (field) => (field.bytes > 8 ? 8 : field.bytes);
    const places = present.slice().sort((a, b) => width(b) - width(a))
      .map((field) => ({ field, at: this.reserve(field.bytes) }));
    this.view.setInt32(at, at - vtable, true);
    this.view.setUint16(vtable, slots, true);
    this.view.setUint16(vtable + 2, this.length - at, true);
    for (const place of places) this.view.setUint16(vtable + place.field.slot, place.at - at, true);
    for (const place of places) this.field(place.field, place.at, value[place.field.name]);
    return at;
  }

  field(field, at, value) {
    const view = this.view;
    switch (field.type) {
      case 'u64': return putU64(view, at, value);
      case 'u32': return view.setUint32(at, value, true);
      case 'bool': return view.setUint8(at, value ? 1 : 0);
      case 'enum': return view.setUint8(at, enumValue(field, value));
      case 'session': return putHex64(view, at, value);
      case 'id': return putHex64(view, at, value.slice(0, 16)), putHex64(view, at + 8, value.slice(16));
      case 'table': return this.point(at, this.table(TABLES[field.of], value));
      case 'string': return this.point(at, this.string(value));
      default: return this.point(at, this.tables(TABLES[field.of], value));
    }
  }

  string(text) {
    const bytes = encodeUtf8(text);
    this.align(4);
    const at = this.reserve(4 + bytes.length + 1);
    this.view.setUint32(at, bytes.length, true);
    this.bytes.set(bytes, at + 4);
    return at;
  }

  tables(fields, list) {
    this.align(4);
    const at = this.reserve(4 + 4 * list.length);
    this.view.setUint32(at, list.length, true);
    list.forEach((value, i) => this.point(at + 4 + 4 * i, this.table(fields, value)));
    return at;
  }
}

function enumValue(field, name) {
  const value = field.names.indexOf(name);
  if (value < 0) throw new RangeError(`${field.name}: ${name} is none of ${field.names.join(', ')}`);
  return value;
}
