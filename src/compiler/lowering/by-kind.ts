import { broken } from '../../numerics/assert.ts';
import { type ElementKind, type ElementType, elementTypes } from '../../numerics/element-type.ts';

/**
 * One entry for each kind of elements on which an operation is defined. The shape inference of HLO
 * refuses an instruction whose elements have another kind.
 */
export type ByKind<T> = { readonly [K in ElementKind]?: T };

/**
 * Returns the entry for the kind of `type`, which must exist (asserted). `what` names the operation
 * in the message.
 */
export function forType<T>(entries: ByKind<T>, type: ElementType, what: string): T {
  const entry = entries[elementTypes[type].kind];
  if (entry !== undefined) return entry;
  return broken(`${what} of ${type}: there is code only for ${Object.keys(entries).join(', ')}`);
}

/** Returns the entries of an operation that is the same for signed and unsigned integers. */
export function integers<T>(entry: T): { readonly signed: T; readonly unsigned: T } {
  return { signed: entry, unsigned: entry };
}
