import { adder, allReduce, getTupleElement, tuple } from '../../hlo/build.ts';
import type { AllReduce, HloInstruction, HloModule } from '../../hlo/instruction.ts';
import { bodiesOf, postOrder, withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type ArrayShape, byteCount, elementCount, isArray } from '../../numerics/shape.ts';
import { structureOf } from '../structure.ts';

/**
 * Default bucket size, in bytes. When the gradients of a bucket have at least this size, the bucket
 * is full and its all-reduce starts.
 */
export const bucketBytesDefault: number = 2 ** 20;

/**
 * Limit for a small last bucket, as a fraction of `bucketBytes`. A last bucket below the limit
 * joins the bucket before it, because it is not worth an all-reduce of its own.
 */
const smallRest = 1 / 64;

/**
 * Joins all-reduces into buckets. A bucket is a group of gradients that one all-reduce sums. The
 * buckets follow the order in which the backward pass computes the gradients, so that the
 * all-reduce of one bucket runs while the next bucket fills. If one all-reduce depends on another,
 * the two never share a bucket. Every all-reduce must be a sum of f32 over all replicas, in the
 * entry computation; otherwise the function throws `unsupported-program`.
 */
export function combineAllReduces(
  module: HloModule,
  bucketBytes: number = bucketBytesDefault,
): HloModule {
  const order = postOrder(module.entry.root);
  order.forEach(refuseInBodies);
  const members = order.filter((it) => it.opcode === 'all-reduce').flatMap(membersOf);
  const buckets = levels(order, members).flatMap((level) => cut(level, bucketBytes));
  return members.length === 0 ? module : joined(module, buckets);
}

/** A gradient to sum: operand `index` of the all-reduce `from`. */
interface Member {
  readonly from: AllReduce;
  readonly index: number;
}

/** True if an all-reduce sums f32 over all replicas. Only such an all-reduce can use a bucket. */
export function isGradientSum({ operands, body, groups }: AllReduce): boolean {
  const isF32 = operands.every(({ shape }) => isArray(shape) && shape.type === 'f32');
  return groups.length === 0 && isF32 && structureOf(body) === structureOf(adder('f32'));
}

function membersOf(from: AllReduce): Member[] {
  if (!isGradientSum(from)) {
    const name = from.name ?? from.body.name;
    const expected = 'expected a sum of f32 over all replicas, without groups';
    throw new PodError('unsupported-program', `all-reduce ${name}: ${expected}`);
  }
  return from.operands.map((_, index) => ({ from, index }));
}

function refuseInBodies(it: HloInstruction): void {
  for (const body of bodiesOf(it)) {
    const inner = postOrder(body.root).find(({ opcode }) => opcode === 'all-reduce');
    if (inner === undefined) continue;
    const message = `all-reduce ${inner.name ?? ''} in ${body.name}: expected it in the entry`;
    throw new PodError('unsupported-program', message);
  }
}

/**
 * Groups gradients (operands of all-reduces) by level. The level of a gradient is the number of
 * all-reduces, one after the other, that must finish before the all-reduce of this gradient can
 * start. Within a level, the gradients are in the order in which the backward pass computes them.
 * To find this order, the function counts the longest chain of instructions that leads to each
 * gradient: a shorter chain comes first.
 */
function levels(order: readonly HloInstruction[], members: readonly Member[]): Member[][] {
  const height = new Map<HloInstruction, number>();
  const depth = new Map<HloInstruction, number>();
  for (const it of order) {
    const own = +(it.opcode === 'all-reduce');
    height.set(it, own + Math.max(0, ...it.operands.map((x) => height.get(x)!)));
    depth.set(it, 1 + Math.max(0, ...it.operands.map((x) => depth.get(x)!)));
  }
  const byLevel: Member[][] = [];
  for (const member of members) {
    const level = height.get(member.from)! - 1;
    byLevel[level] ??= [];
    byLevel[level].push(member);
  }
  const depthOf = ({ from, index }: Member): number => depth.get(at(from.operands, index))!;
  return byLevel.map((level) => level.sort((a, b) => depthOf(a) - depthOf(b)));
}

/**
 * Cuts the gradients of one level into buckets. All-reduces of one level do not depend on each
 * other. Each bucket has at least `bucketBytes`, but the last bucket may be smaller. Scalars join
 * the last bucket.
 */
function cut(level: readonly Member[], bucketBytes: number): Member[][] {
  const buckets: Member[][] = [];
  let open: Member[] = [];
  for (const member of level.filter((it) => !isScalar(it))) {
    open.push(member);
    if (bytesOf(open) < bucketBytes) continue;
    buckets.push(open);
    open = [];
  }
  const last = buckets.at(-1);
  if (last !== undefined && bytesOf(open) < bucketBytes * smallRest) last.push(...open);
  else if (open.length > 0 || last === undefined) buckets.push(open);
  buckets.at(-1)!.push(...level.filter(isScalar));
  return buckets;
}

function isScalar({ from, index }: Member): boolean {
  return elementCount(at(from.operands, index).shape as ArrayShape) === 1;
}

function bytesOf(members: readonly Member[]): number {
  const sizes = members.map(({ from, index }) =>
    byteCount(at(from.operands, index).shape as ArrayShape),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Returns the module with one all-reduce for each bucket. The order of `buckets` must be such that
 * a bucket depends only on the sums of earlier buckets.
 */
function joined(module: HloModule, buckets: readonly Member[][]): HloModule {
  const made = new Map<HloInstruction, HloInstruction>();
  const results = new Map<AllReduce, HloInstruction[]>();
  for (const bucket of buckets) {
    const rewritten = bucket.map(({ from, index }) => rewrite(at(from.operands, index)));
    const all = allReduce(rewritten);
    bucket.forEach(({ from, index }, i) => {
      const one = rewritten.length === 1 ? all : getTupleElement(all, i);
      const label = `${from.name ?? 'all-reduce'}${from.operands.length > 1 ? `/${index}` : ''}`;
      const elements = results.get(from) ?? [];
      elements[index] = { ...one, name: label };
      results.set(from, elements);
    });
  }
  const root = rewrite(module.entry.root);
  return { ...module, entry: { ...module.entry, root } };

  /**
   * Returns the instruction of the new module that replaces `it`. If `it` depends on an old
   * all-reduce, the new all-reduces that replace the old one must already exist.
   */
  function rewrite(it: HloInstruction): HloInstruction {
    for (const each of postOrder(it)) if (!made.has(each)) made.set(each, replaced(each));
    return made.get(it)!;
  }

  function replaced(it: HloInstruction): HloInstruction {
    if (it.opcode === 'all-reduce') {
      const elements = results.get(it)!;
      return isArray(it.shape) ? at(elements, 0) : tuple(elements);
    }
    const source = it.operands[0];
    if (it.opcode === 'get-tuple-element' && source?.opcode === 'all-reduce') {
      return at(results.get(source)!, it.index);
    }
    return withOperands(
      it,
      it.operands.map((x) => made.get(x)!),
    );
  }
}
