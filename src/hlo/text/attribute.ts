import type { HloComputation, HloInstruction } from '../instruction.ts';
import { readChoice, readDecimal, readInteger, readIntegers, readName } from './read.ts';
import type { Scanner } from './scanner.ts';

/** How one attribute of an opcode is written in HLO text and read from it. */
export interface Attribute<I> {
  /** Name of the attribute in HLO text. */
  readonly key: string;
  /** Returns the text after `key=`, or undefined if the text omits the attribute. */
  write(it: I, nameOf: NameOf): string | undefined;
  /** Reads the text after `key=`. Returns the fields of the instruction that follow from it. */
  read(scanner: Scanner, scope: AttributeScope): Partial<I>;
  /** Fields of an instruction whose text omits the attribute; undefined if it must not. */
  readonly otherwise?: Partial<I>;
}

/** Returns the name of a computation in the text, with `%`. */
export type NameOf = (body: HloComputation) => string;

/** What the reader of an attribute may refer to. */
export interface AttributeScope {
  /** Computations above, by name. */
  readonly computations: ReadonlyMap<string, HloComputation>;
  readonly operands: readonly HloInstruction[];
}

/** How the value of an attribute is written and read. */
export interface Codec<T> {
  write(value: T, nameOf: NameOf): string;
  read(scanner: Scanner, scope: AttributeScope): T;
}

/**
 * An attribute that is one field of the instruction. If the field has the value `otherwise`, the
 * text may omit the attribute; `isWritten` says for which values it is written. By default, it
 * always is.
 */
export function field<I, K extends keyof I & string>(
  key: string,
  name: K,
  codec: Codec<I[K]>,
  options: { readonly otherwise?: I[K]; readonly isWritten?: (value: I[K]) => boolean } = {},
): Attribute<I> {
  const { otherwise, isWritten = () => true } = options;
  const fieldsOf = (value: I[K]): Partial<I> => ({ [name]: value }) as unknown as Partial<I>;
  return {
    key,
    write: (it, nameOf) => (isWritten(it[name]) ? codec.write(it[name], nameOf) : undefined),
    read: (scanner, scope) => fieldsOf(codec.read(scanner, scope)),
    ...(otherwise === undefined ? {} : { otherwise: fieldsOf(otherwise) }),
  };
}

/** An attribute that says nothing about the instruction. It is read and never written. */
export function ignored<I>(key: string, skip: (scanner: Scanner) => void): Attribute<I> {
  return {
    key,
    write: () => undefined,
    read: (scanner) => {
      skip(scanner);
      return {};
    },
    otherwise: {},
  };
}

/** A truth value: `true` or `false`. */
export const truth: Codec<boolean> = {
  write: String,
  read: (scanner) => readChoice(scanner, ['true', 'false']) === 'true',
};

/** A field that is true or false. The attribute is written only if the field is true. */
export function flag<I, K extends keyof I & string>(
  key: string,
  name: I[K] extends boolean ? K : never,
): Attribute<I> {
  const options = { otherwise: false, isWritten: (value: boolean) => value };
  return field<Record<string, boolean>, string>(key, name, truth, options) as Attribute<I>;
}

/** A number that is not NaN and finite, such as `0.001`. */
export const decimal: Codec<number> = { write: String, read: readDecimal };

/** An integer, such as `3`. */
export const integer: Codec<number> = { write: String, read: readInteger };

/** A list of integers, such as `{0,1}`. */
export const integers: Codec<readonly number[]> = {
  write: (values) => `{${values.join(',')}}`,
  read: readIntegers,
};

/** A dimension, as a list of one: `{0}`. */
export const oneDimension: Codec<number> = {
  write: (dimension) => `{${dimension}}`,
  read: (scanner) => {
    const { position } = scanner;
    const [dimension, ...more] = readIntegers(scanner);
    if (dimension === undefined || more.length > 0) return scanner.fail('one dimension', position);
    return dimension;
  },
};

/** Name of a computation above, such as `%add`. */
export const callee: Codec<HloComputation> = {
  write: (body, nameOf) => nameOf(body),
  read: (scanner, { computations }) => {
    const position = scanner.position;
    const name = readName(scanner, 'a computation');
    return computations.get(name) ?? scanner.fail('a computation above', position);
  },
};

/** One of several words. */
export function word<T extends string>(words: readonly T[]): Codec<T> {
  return { write: (value) => value, read: (scanner) => readChoice(scanner, words) };
}
