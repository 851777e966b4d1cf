import { createHash } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Topology } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import {
  type FieldCheck,
  isCount,
  isFlag,
  isListOf,
  isObject,
  isOneOf,
  isOptional,
  isText,
  type Shape,
  wrongField,
} from '../../src/pod/shape.ts';

/**
 * The work that the master assigns to a worker, without the bytes of the executables. The master
 * compiles the executables once, and sends their bytes separately as `code` messages.
 */
export interface Assignment {
  readonly topology: Topology;
  readonly mxu: 'fast' | 'systolic';
  readonly relaxed: boolean;
  /** The programs without their executables, in the same order as the packed executables. */
  readonly programs: readonly Omit<Program, 'executable'>[];
  /** Length in bytes and SHA-256 in hex of the packed executables, which travel in pieces. */
  readonly code: { readonly bytes: number; readonly hash: string };
}

const isPositive: FieldCheck = (value) => isCount(value) && value !== 0;
const isFeed: FieldCheck = isObject({
  dataset: isText,
  datasetSeed: isCount,
  split: isOneOf(['train', 'test']),
  digest: isText,
  globalBatch: isPositive,
  order: isOneOf(['training', 'evaluation']),
  orderSeed: isCount,
} satisfies Shape<FeedSource>);
const isProgram: FieldCheck = isObject({
  digested: isCount,
  parametersFrom: isOptional(isCount),
  feed: isOptional(isFeed),
} satisfies Shape<Omit<Program, 'executable'>>);
const shape: Shape<Assignment> = {
  topology: isObject({ columns: isPositive, rows: isPositive }),
  mxu: isOneOf(['fast', 'systolic']),
  relaxed: isFlag,
  programs: isListOf(isProgram),
  code: isObject({ bytes: isCount, hash: isText }),
};

/** An assignment as JSON, and its executables as gzipped bytes. */
export interface Packed {
  readonly assignment: string;
  readonly code: Uint8Array;
}

/** Packs the programs of a slice for its workers: serializes and compresses the executables. */
export function packAssignment(
  { topology, mxu, relaxed }: Pick<Assignment, 'topology' | 'mxu' | 'relaxed'>,
  programs: readonly Program[],
): Packed {
  const code = gzipSync(serialize(programs.map(({ executable }) => executable)), { level: 1 });
  const assignment: Assignment = {
    ...{ topology, mxu, relaxed },
    programs: programs.map(({ executable: _, ...rest }) => rest),
    code: { bytes: code.length, hash: hashOf(code) },
  };
  return { assignment: JSON.stringify(assignment), code };
}

/**
 * Parses the JSON text of an assignment.
 *
 * @throws PodError `bad-config`, which names the field, if a field is missing, unknown or
 * malformed.
 */
export function readAssignment(text: string): Assignment {
  const value: unknown = JSON.parse(text);
  const wrong = wrongField(shape, value, 'the assignment');
  if (wrong === undefined) return value as Assignment;
  throw new PodError('bad-config', `malformed: ${wrong}`);
}

/**
 * Returns the programs of an assignment. Their executables are unpacked from `bytes`.
 *
 * @throws PodError `bad-program` if the hash of `bytes` differs from the hash in the assignment.
 */
export function programsOf({ programs, code }: Assignment, bytes: Uint8Array): Program[] {
  const found = hashOf(bytes);
  if (found !== code.hash) {
    const what = `${bytes.length} bytes with hash ${found.slice(0, 12)}`;
    const expected = `${code.bytes} bytes with hash ${code.hash.slice(0, 12)}`;
    throw new PodError('bad-program', `executables: expected ${expected}, found ${what}`);
  }
  const executables = deserialize(gunzipSync(bytes)) as Executable[];
  assert(programs.length === executables.length, `code of ${executables.length} programs`);
  return programs.map((it, i) => ({ ...it, executable: at(executables, i) }));
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/**
 * Returns the SHA-256, in hex, of the given byte arrays in order. The hashed text has the length of
 * each array before its bytes, so it also shows where each array ends.
 */
export function hashValues(values: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const value of values) hash.update(`${value.length}:`).update(value);
  return hash.digest('hex');
}
