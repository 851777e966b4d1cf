import { createHash } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import type { Topology } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { Program } from '../../src/pod/pod.ts';

/**
 * What the master gives a worker to do. It compiles once; the executables travel beside this, in
 * pieces, and `code` says what they must add up to.
 */
export interface Assignment {
  readonly topology: Topology;
  readonly mxu: 'fast' | 'systolic';
  readonly relaxed: boolean;
  /** The programs but for their executables, in order. */
  readonly programs: readonly Omit<Program, 'executable'>[];
  readonly code: { readonly bytes: number; readonly hash: string };
}

const count = z.int().min(0);
const schema = z.strictObject({
  topology: z.strictObject({ columns: z.int().min(1), rows: z.int().min(1) }),
  mxu: z.enum(['fast', 'systolic']),
  relaxed: z.boolean(),
  programs: z.array(
    z.strictObject({
      digested: count,
      parametersFrom: count.optional(),
      feed: z
        .strictObject({
          dataset: z.string(),
          datasetSeed: count,
          split: z.enum(['train', 'test']),
          globalBatch: z.int().min(1),
          order: z.enum(['training', 'evaluation']),
          orderSeed: count,
        })
        .optional(),
    }),
  ),
  code: z.strictObject({ bytes: count, hash: z.string() }),
});

/** An assignment as JSON, and its executables as bytes. */
export interface Packed {
  readonly assignment: string;
  readonly code: Uint8Array;
}

/** Packs what a slice of this topology is to run. */
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

/** @throws PodError `bad-config`, naming the field, when it is not an assignment. */
export function readAssignment(text: string): Assignment {
  const result = schema.safeParse(JSON.parse(text));
  if (result.success) return result.data as Assignment;
  const issue = result.error.issues[0];
  throw new PodError('bad-config', `assignment: ${issue?.path.join('.')}: ${issue?.message}`);
}

/** The programs of an assignment. Throws `bad-program` when the code is not what was packed. */
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

/** A hash over values, one after another, with their lengths. */
export function hashValues(values: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const value of values) hash.update(`${value.length}:`).update(value);
  return hash.digest('hex');
}
