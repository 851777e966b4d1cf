import { Packr, Unpackr } from 'msgpackr';
import type { Refusal } from './frame.ts';

/** Largest control message, in bytes. */
export const messageBytesMax: number = 2 ** 20;
/**
 * Limits of a control message: `depthMax` is the deepest nesting of its values, and `valuesMax` is
 * the largest number of values, at all depths together.
 */
const depthMax = 16;
const valuesMax = 65536;

// By default the package msgpackr adds two extensions to msgpack: records, and types such as Map
// and Set. They are switched off here. So a message contains only plain values, which a schema can
// describe.
const packr = new Packr({ useRecords: false, moreTypes: false, structuredClone: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** Encodes a control message as msgpack. */
export function encodeMessage(message: unknown): Buffer {
  // `pack` returns a part of a buffer that it overwrites at the next call. Until then this message
  // may not have left the socket, so its bytes are copied.
  return Buffer.from(packr.pack(message));
}

export type Decoded =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'refuse'; readonly refusal: Refusal };

/**
 * Decodes one msgpack value. A check of the bytes comes first. It refuses extension types, deep
 * nesting, too many values, bytes after the value, and lengths beyond the end of the message.
 * Without this check, a short message that states a large length could make the decoder allocate
 * much memory.
 */
export function decodeMessage(bytes: Buffer): Decoded {
  const wrong = findWrong(bytes);
  if (wrong !== undefined) return refuse(wrong);
  try {
    return { kind: 'value', value: unpackr.unpack(bytes) };
  } catch (error) {
    return refuse(error instanceof Error ? error.message : 'not msgpack');
  }
}

function refuse(why: string): Decoded {
  return { kind: 'refuse', refusal: { code: 'message', text: `a malformed message: ${why}` } };
}

/**
 * Returns undefined if `bytes` are one msgpack value without extension types and within the limits.
 * Otherwise returns the reason why they are not.
 */
function findWrong(bytes: Buffer): string | undefined {
  if (bytes.length > messageBytesMax) return `${bytes.length} bytes, at most ${messageBytesMax}`;
  /** pending[d]: how many values at nesting depth d must still be read. */
  const pending: number[] = [1];
  let at = 0;
  let values = 0;
  while (pending.length > 0) {
    const depth = pending.length - 1;
    if (pending[depth] === 0) {
      pending.pop();
      continue;
    }
    pending[depth]!--;
    const item = readItem(bytes, at);
    if (typeof item === 'string') return item;
    at = item.end;
    values++;
    if (at > bytes.length) return 'it ends too early';
    if (values > valuesMax) return `more than ${valuesMax} values`;
    if (item.children === 0) continue;
    if (item.children > bytes.length - at) return 'a length beyond the end of the message';
    if (depth + 1 >= depthMax) return `nested deeper than ${depthMax}`;
    pending.push(item.children);
  }
  return at === bytes.length ? undefined : 'bytes after the end of the message';
}

interface Item {
  /**
   * Offset of the first byte after the value. The value of an array or a map is here only its
   * header, so its first child begins at `end`.
   */
  readonly end: number;
  readonly children: number;
}

/**
 * Reads the value at offset `at`, without its children [msgpack specification, "Formats"]. If the
 * value is cut off or has an extension type, returns a text that says so.
 */
function readItem(bytes: Buffer, at: number): Item | string {
  const type = bytes[at];
  if (type === undefined) return 'it ends too early';
  const next = at + 1;
  if (type < 0x80 || type >= 0xe0) return leaf(next);
  if (type < 0x90) return { end: next, children: 2 * (type & 15) };
  if (type < 0xa0) return { end: next, children: type & 15 };
  if (type < 0xc0) return leaf(next + (type & 31));
  switch (type) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return leaf(next);
    case 0xc4:
    case 0xd9:
      return withLength(bytes, next, 1, (length, end) => leaf(end + length));
    case 0xc5:
    case 0xda:
      return withLength(bytes, next, 2, (length, end) => leaf(end + length));
    case 0xc6:
    case 0xdb:
      return withLength(bytes, next, 4, (length, end) => leaf(end + length));
    case 0xcc:
    case 0xd0:
      return leaf(next + 1);
    case 0xcd:
    case 0xd1:
      return leaf(next + 2);
    case 0xca:
    case 0xce:
    case 0xd2:
      return leaf(next + 4);
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return leaf(next + 8);
    case 0xdc:
      return withLength(bytes, next, 2, (children, end) => ({ end, children }));
    case 0xdd:
      return withLength(bytes, next, 4, (children, end) => ({ end, children }));
    case 0xde:
      return withLength(bytes, next, 2, (pairs, end) => ({ end, children: 2 * pairs }));
    case 0xdf:
      return withLength(bytes, next, 4, (pairs, end) => ({ end, children: 2 * pairs }));
    default:
      return `type ${type.toString(16)} is not plain`;
  }
}

function leaf(end: number): Item {
  return { end, children: 0 };
}

function withLength(
  bytes: Buffer,
  at: number,
  width: number,
  make: (length: number, end: number) => Item,
): Item | string {
  if (at + width > bytes.length) return 'it ends too early';
  return make(bytes.readUIntBE(at, width), at + width);
}
