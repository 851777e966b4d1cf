import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { stridesOf } from '../../numerics/shape.ts';
import type { Draft } from '../instruction.ts';
import { type Attribute, type Codec, field } from '../text/attribute.ts';
import { readInteger, readIntegers } from '../text/read.ts';
import type { Scanner } from '../text/scanner.ts';
import { expect, isIndex } from './check.ts';

/**
 * Groups of replicas, each as the numbers of its members. A collective works within each group. The
 * order of the members counts. The empty list stands for one group of all replicas, in order.
 */
export type ReplicaGroups = readonly (readonly number[])[];

/** An instruction that works within groups of replicas. */
export interface Grouped {
  readonly groups: ReplicaGroups;
}

/** Groups as XLA writes them: `{{0,1},{2,3}}`, or `[2,2]<=[4]` for numbers that are counted. */
const codec: Codec<ReplicaGroups> = {
  write: (groups) => `{${groups.map((members) => `{${members.join(',')}}`).join(',')}}`,
  read: (scanner) => {
    if (scanner.tryMatch(/(?=\[)/y) !== undefined) return readCounted(scanner);
    return scanner.list('{', '}', () => readIntegers(scanner));
  },
};

/** Attribute with the groups of a collective. Without it, there is one group of all replicas. */
export function groupsAttribute<I extends Grouped>(): Attribute<I> {
  return field<I, 'groups'>('replica_groups', 'groups', codec as Codec<I['groups']>, {
    otherwise: [] as I['groups'],
  });
}

/**
 * Reads groups such as `[2,4]<=[4,2]T(1,0)`: two groups of four. Their members are the numbers 0 to
 * 7, as a 4×2 array, transposed, in row-major order.
 */
function readCounted(scanner: Scanner): ReplicaGroups {
  const position = scanner.position;
  const [count = 0, size = 0, ...rest] = numbers(scanner, '[', ']');
  scanner.expect('<');
  scanner.expect('=');
  const dims = numbers(scanner, '[', ']');
  const permutation = scanner.take('T') ? numbers(scanner, '(', ')') : dims.map((_, d) => d);
  const whole = dims.reduce((product, n) => product * n, 1);
  const isPermutation = dims.every((_, d) => permutation.includes(d));
  const fits = permutation.length === dims.length && isPermutation;
  if (rest.length > 0 || count * size !== whole || !fits) {
    return scanner.fail('groups such as [2,4]<=[4,2]T(1,0)', position);
  }
  const members = transposed(dims, permutation);
  return Array.from({ length: count }, (_, g) => members.slice(g * size, (g + 1) * size));
}

function numbers(scanner: Scanner, open: string, close: string): number[] {
  return scanner.list(open, close, () => readInteger(scanner));
}

/** Returns the numbers of an array of dimensions `dims`, in the order after a transpose. */
function transposed(dims: readonly number[], permutation: readonly number[]): number[] {
  const strides = stridesOf(dims);
  return permutation.reduce<number[]>(
    (flat, d) =>
      flat.flatMap((start) =>
        Array.from({ length: at(dims, d) }, (_, i) => start + i * at(strides, d)),
      ),
    [0],
  );
}

/** Refuses groups that name a replica twice, that are empty, or that differ in size. */
export function expectGroups(it: Draft & Grouped): void {
  const { groups } = it;
  const members = groups.flat();
  expect(it, members.every(isIndex), 'replicas with numbers of 0 or more');
  expect(it, new Set(members).size === members.length, 'each replica in one group only');
  const sizes = new Set(groups.map(({ length }) => length));
  expect(it, !sizes.has(0) && sizes.size <= 1, 'groups of one size, 1 or more');
}

/**
 * Returns the groups of a run with `count` replicas. Throws `bad-program` if a group names a replica
 * that does not exist, or if a replica is in no group.
 */
export function groupsAmong(
  it: Grouped & { readonly opcode: string },
  count: number,
): ReplicaGroups {
  if (it.groups.length === 0) return [Array.from({ length: count }, (_, replica) => replica)];
  const members = it.groups.flat();
  const missing = Array.from({ length: count }, (_, r) => r).find((r) => !members.includes(r));
  const unknown = members.find((replica) => replica >= count);
  if (missing === undefined && unknown === undefined) return it.groups;
  const found = missing === undefined ? `replica ${unknown}` : `no group with replica ${missing}`;
  const expected = `expected groups of the replicas 0 to ${count - 1}`;
  throw new PodError('bad-program', `${it.opcode}: ${expected}, found ${found}`);
}

/** Runs a collective in each group. `work` returns one result for each member, in order. */
export function inGroups<V, R>(
  it: Grouped & { readonly opcode: string },
  operands: readonly V[],
  work: (members: readonly V[]) => readonly R[],
): readonly R[] {
  const results: R[] = [];
  for (const group of groupsAmong(it, operands.length)) {
    const found = work(group.map((replica) => at(operands, replica)));
    group.forEach((replica, i) => {
      results[replica] = at(found, i);
    });
  }
  return results;
}
