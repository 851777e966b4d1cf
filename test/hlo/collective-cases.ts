import fc from 'fast-check';
import * as b from '../../src/hlo/build.ts';
import * as c from '../../src/hlo/build-collective.ts';
import { replicaId } from '../../src/hlo/build-random.ts';
import type { HloComputation, HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { arrayShape, elementCount } from '../../src/numerics/shape.ts';

/**
 * Element types. A row of a few elements of pred, s4, s8, bf16 or f16 may not fill whole words, and
 * then needs padding.
 */
const types = ['f32', 'bf16', 's8', 'u32', 'pred', 's64', 'f16', 's4'] as const;

/**
 * A module with a few collectives between `replicas` replicas, one after another, in random groups.
 * Their values differ between replicas, and the bodies of their reductions are not commutative or
 * round, so that the order of sums shows.
 */
export function arbitraryCollectives(replicas: number, most = 3): fc.Arbitrary<HloModule> {
  const one = fc.record({
    type: fc.constantFrom(...types),
    kind: fc.constantFrom(...kinds),
    size: fc.integer({ min: 1, max: 5 }),
    dimension: fc.nat({ max: 1 }),
    body: fc.constantFrom('subtract', 'add', 'maximum', 'divide' as const),
    groups: arbitraryGroups(replicas),
    seed: fc.nat(2 ** 20),
  });
  return fc.array(one, { minLength: 1, maxLength: most }).map((cases) => moduleOf(cases, replicas));
}

/** Returns a module with the given collectives between `replicas` replicas. */
export function moduleOf(cases: readonly CollectiveCase[], replicas: number): HloModule {
  const results = cases.flatMap((it) => collectiveOf(it, replicas));
  return b.module('collectives', [], b.tuple(results));
}

/** Opcodes of collectives. */
export const kinds = [
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
  'collective-broadcast',
] as const;

/**
 * Groups of equal size that have each replica once, in random order; or none, for all replicas. A
 * group has at most `membersMax` members.
 */
export function arbitraryGroups(
  replicas: number,
  membersMax: number = replicas,
): fc.Arbitrary<number[][]> {
  const all = Array.from({ length: replicas }, (_, replica) => replica);
  const sizes = all.map((n) => n + 1).filter((n) => replicas % n === 0 && n <= membersMax);
  const some = fc
    .tuple(fc.shuffledSubarray(all, { minLength: replicas }), fc.constantFrom(...sizes))
    .map(([order, size]) =>
      Array.from({ length: replicas / size }, (_, g) => order.slice(g * size, (g + 1) * size)),
    );
  const whole = fc.constant<number[][]>([]);
  return replicas > membersMax ? some : fc.oneof({ arbitrary: some, weight: 4 }, whole);
}

/** A collective in a {@link moduleOf}. */
export interface CollectiveCase {
  readonly type: ElementType;
  readonly kind: (typeof kinds)[number];
  readonly size: number;
  readonly dimension: number;
  readonly body: 'subtract' | 'add' | 'maximum' | 'divide';
  readonly groups: number[][];
  readonly seed: number;
}

function collectiveOf(it: CollectiveCase, replicas: number): HloInstruction[] {
  const members = it.groups[0]?.length ?? replicas;
  const along = { dimension: it.dimension, groups: it.groups };
  const whole = it.dimension === 0 ? [members * it.size, 3] : [3, members * it.size];
  switch (it.kind) {
    case 'all-reduce': {
      const xs = [varied(it, [it.size, 3]), varied(it, [])].slice(0, 1 + (it.seed % 2));
      const sum = b.allReduce(xs, bodyOf(it), it.groups);
      return xs.length === 1 ? [sum] : xs.map((_, i) => b.getTupleElement(sum, i));
    }
    case 'all-gather':
      return [c.allGather(varied(it, [it.size, 3]), members, along)];
    case 'reduce-scatter':
      return [c.reduceScatter(varied(it, whole), members, along, bodyOf(it))];
    case 'all-to-all':
      return [c.allToAll(varied(it, whole), along)];
    case 'collective-permute':
      return [c.collectivePermute(varied(it, [it.size]), pairsOf(it, replicas))];
    case 'collective-broadcast':
      return [c.collectiveBroadcast(varied(it, [it.size, 3]), it.groups)];
  }
}

/** Each replica but a few sends to another one. */
function pairsOf({ seed }: CollectiveCase, replicas: number): [number, number][] {
  const shift = seed % replicas;
  return Array.from({ length: replicas }, (_, r): [number, number] => [
    r,
    (r + shift) % replicas,
  ]).filter((_, r) => (seed >> (r % 16)) % 3 !== 0);
}

function bodyOf({ type, body }: CollectiveCase): HloComputation {
  const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape(type, [])));
  if (type === 'pred') return b.computation('either', [x!, y!], b.or(x!, y!));
  const isFloat = type === 'f32' || type === 'bf16' || type === 'f16';
  return b.computation(
    body,
    [x!, y!],
    b.binary(body === 'divide' && !isFloat ? 'add' : body, x!, y!),
  );
}

/** Returns numbers that differ between replicas and elements. */
function varied({ type, seed }: CollectiveCase, dims: readonly number[]): HloInstruction {
  const shape = arrayShape('u32', [elementCount(arrayShape('u32', dims))]);
  const mixed = b.multiply(
    b.iota(shape, 0),
    b.broadcastScalar(b.scalar('u32', 2654435761), shape.dims),
  );
  const own = b.multiply(b.add(replicaId(), b.scalar('u32', seed)), b.scalar('u32', 2246822519));
  const bits = b.add(mixed, b.broadcastScalar(own, shape.dims));
  const few = b.shiftRightLogical(bits, b.broadcastScalar(b.scalar('u32', 25), shape.dims));
  return b.reshape(b.convert(few, type), dims);
}
