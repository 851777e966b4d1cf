import { PodError } from '../numerics/error.ts';

/** Check of one field of a message: returns true if the value is valid for the field. */
export type FieldCheck = (value: unknown) => boolean;

/**
 * One check for each field of an object, by the name of the field. An object with any other field
 * is not valid.
 */
export type Shape<T> = { readonly [F in keyof T]-?: FieldCheck };

/**
 * For each kind of message, one check for each of its fields. A message with any other field is not
 * valid.
 */
export type Shapes<M extends { readonly kind: string }> = {
  readonly [K in M['kind']]: Shape<Omit<Extract<M, { readonly kind: K }>, 'kind'>>;
};

type Fields = Readonly<Record<string, FieldCheck>>;

/** True for a whole number from 0 to 2^53 − 1. */
export const isCount: FieldCheck = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
/** True for any number, including NaN and infinities. */
export const isNumber: FieldCheck = (value) => typeof value === 'number';
/** True for a text of any length. */
export const isText: FieldCheck = (value) => typeof value === 'string';
/** True for a boolean. */
export const isFlag: FieldCheck = (value) => typeof value === 'boolean';
/** True for an array of bytes. */
export const isBytes: FieldCheck = (value) => value instanceof Uint8Array;
/** True for any value, including undefined. */
export const isAny: FieldCheck = () => true;

/** Returns a check for a text of at most `length` UTF-16 units. */
export function isTextUpTo(length: number): FieldCheck {
  return (value) => typeof value === 'string' && value.length <= length;
}

/**
 * Returns a check for a text, such as the name of a host, that has at most `length` UTF-16 units
 * and no control characters.
 */
export function isPlainUpTo(length: number): FieldCheck {
  return (value) => isTextUpTo(length)(value) && !/\p{Cc}/u.test(value as string);
}

/** Returns a check for a list in which every item passes the check `holds`. */
export function isListOf(holds: FieldCheck): FieldCheck {
  return (value) => Array.isArray(value) && value.every(holds);
}

/** Returns a check for a value that is one of `values`. */
export function isOneOf(values: readonly unknown[]): FieldCheck {
  return (value) => values.includes(value);
}

/**
 * Returns a check for an object with the fields of `shape` and no others. A field is optional if
 * its check accepts undefined.
 */
export function isObject(shape: Fields): FieldCheck {
  return (value) => wrongField(shape, value, 'it') === undefined;
}

/** Returns a check for an optional field: undefined, or a value that passes the check `holds`. */
export function isOptional(holds: FieldCheck): FieldCheck {
  return (value) => value === undefined || holds(value);
}

/**
 * Checks the kind and all fields of a message. `receiver` says, in the error message, who received
 * the message.
 *
 * @throws PodError `worker-threw`, naming the wrong field.
 */
export function checkMessage<M extends { readonly kind: string }>(
  shapes: Readonly<Record<string, Fields>>,
  value: unknown,
  receiver: string,
): M {
  const wrong = findWrong(shapes, value);
  if (wrong === undefined) return value as M;
  throw new PodError('worker-threw', `a message to ${receiver} is malformed: ${wrong}`);
}

/**
 * Describes the first wrong field of `value` in a few words. Returns undefined if all fields are
 * valid. `name` is the name of the object in the description.
 */
export function wrongField(shape: Fields, value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null) return `${name} is ${typeof value}`;
  const fields = value as Readonly<Record<string, unknown>>;
  const stray = Object.keys(fields).find((field) => !Object.hasOwn(shape, field));
  if (stray !== undefined) return `${name} has no ${stray}`;
  const wrong = Object.keys(shape).find((field) => !shape[field]?.(fields[field]));
  return wrong === undefined ? undefined : `${wrong} of ${name}`;
}

/**
 * Describes the first error in a message in a few words. Returns undefined if the message is valid.
 */
function findWrong(shapes: Readonly<Record<string, Fields>>, value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return `expected fields, found ${typeof value}`;
  const { kind, ...fields } = value as Readonly<Record<string, unknown>>;
  if (typeof kind !== 'string' || !Object.hasOwn(shapes, kind)) return 'unknown kind';
  return wrongField(shapes[kind] ?? {}, fields, kind);
}
