// The `tidegate.v1.json` codec: the same values as plain objects. Fields that equal their default are left out on the
// wire, in both directions, but for enumerations; `complete` puts them back.

import { TABLES, absentValue, isAbsent, tableOf } from './schema.js';

const JS_TYPES = { u64: 'number', u32: 'number', bool: 'boolean', table: 'object', tables: 'object' };

/** Every field of table `name`, from an object that may lack some and have others. Throws on a wrong type. */
export function completeTable(name, object) {
  const value = {};
  for (const field of TABLES[name]) {
    const given = object[field.name];
    if (given === undefined || given === null) value[field.name] = absentValue(field);
    else value[field.name] = completeField(field, given);
  }
  return value;
}

function completeField(field, given) {
  const expected = JS_TYPES[field.type] || 'string';
  if (typeof given !== expected || (field.type === 'tables') !== Array.isArray(given)) {
    throw new TypeError(`${field.name}: expected ${field.type}, found ${typeof given}`);
  }
  switch (field.type) {
    case 'table': return completeTable(field.of, given);
    case 'tables': return given.map((one) => completeTable(field.of, one));
    case 'enum': return field.names.includes(given) ? given : 'unknown';
    default: return isAbsent(field, given) ? absentValue(field) : given;
  }
}

// An enumeration is written also where it is the default; only `none` says no more than its absence.
const isLeftOut = (field, value) =>
  field.type === 'enum' ? !value || value === 'none' : isAbsent(field, value);

/** The same object without the fields that equal their default, in the schema's order. */
export function compactTable(name, value) {
  const object = {};
  for (const field of TABLES[name]) {
    const given = value[field.name];
    if (isLeftOut(field, given)) continue;
    if (field.type === 'table') object[field.name] = compactTable(field.of, given);
    else if (field.type === 'tables') object[field.name] = given.map((one) => compactTable(field.of, one));
    else object[field.name] = given;
  }
  return object;
}

/** An object of the JSON codec (or of REST) with every field filled in. kind: 'message', 'conversation_state', … */
export const complete = (kind, object) => completeTable(tableOf(kind), object);
