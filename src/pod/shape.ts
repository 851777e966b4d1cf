import { PodError } from '../numerics/error.ts';

/** Whether a value is what a field must be. */
export type FieldCheck = (value: unknown) => boolean;

/** What each field of an object must be, and no field besides. */
export type Shape<T> = { readonly [F in keyof T]-?: FieldCheck };

/** What each field of each kind of message must be, and no field besides. */
export type Shapes<M extends { readonly kind: string }> = {
  readonly [K in M['kind']]: Shape<Omit<Extract<M, { readonly kind: K }>, 'kind'>>;
};

type Fields = Readonly<Record<string, FieldCheck>>;

/** A whole number from 0 to 2^53 − 1. */
export const isCount: FieldCheck = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
/** Any number, NaN too. */
export const isNumber: FieldCheck = (value) => typeof value === 'number';
/** A text of any length. */
export const isText: FieldCheck = (value) => typeof value === 'string';
/** true or false. */
export const isFlag: FieldCheck = (value) => typeof value === 'boolean';
/** An array of bytes. */
export const isBytes: FieldCheck = (value) => value instanceof Uint8Array;
/** Anything. */
export const isAny: FieldCheck = () => true;

/** A text of at most `length` UTF-16 units. */
export function isTextUpTo(length: number): FieldCheck {
  return (value) => typeof value === 'string' && value.length <= length;
}

/** A text without characters that control a terminal, such as the name of a host. */
export function isPlainUpTo(length: number): FieldCheck {
  return (value) => isTextUpTo(length)(value) && !/\p{Cc}/u.test(value as string);
}

/** A list whose items all pass. */
export function isListOf(holds: FieldCheck): FieldCheck {
  return (value) => Array.isArray(value) && value.every(holds);
}

/** One of the values. */
export function isOneOf(values: readonly unknown[]): FieldCheck {
  return (value) => values.includes(value);
}

/** An object with these fields and no others; those that may be absent say so. */
export function isObject(shape: Fields): FieldCheck {
  return (value) => wrongField(shape, value, 'it') === undefined;
}

/** For a field that may be absent. */
export function isOptional(holds: FieldCheck): FieldCheck {
  return (value) => value === undefined || holds(value);
}

/**
 * Checks what arrived at `receiver`.
 *
 * @throws PodError `worker-threw`, naming the field.
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

/** What is wrong with the fields of `name`, in a few words, if anything. */
export function wrongField(shape: Fields, value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null) return `${name} is ${typeof value}`;
  const fields = value as Readonly<Record<string, unknown>>;
  const stray = Object.keys(fields).find((field) => !Object.hasOwn(shape, field));
  if (stray !== undefined) return `${name} has no ${stray}`;
  const wrong = Object.keys(shape).find((field) => !shape[field]?.(fields[field]));
  return wrong === undefined ? undefined : `${wrong} of ${name}`;
}

/** What is wrong with a message, in a few words, if anything. */
function findWrong(shapes: Readonly<Record<string, Fields>>, value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return `expected fields, found ${typeof value}`;
  const { kind, ...fields } = value as Readonly<Record<string, unknown>>;
  if (typeof kind !== 'string' || !Object.hasOwn(shapes, kind)) return 'unknown kind';
  return wrongField(shapes[kind] ?? {}, fields, kind);
}
