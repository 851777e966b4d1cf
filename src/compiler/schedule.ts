import type { AllReduce, HloComputation, HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { loweringOf } from './lowering/table.ts';

/**
 * An entry of the schedule. `run` executes the instruction; for an all-reduce, `run` only starts
 * it. `done` waits until an all-reduce has finished.
 */
export interface Scheduled {
  readonly action: 'run' | 'done';
  readonly it: HloInstruction;
}

/**
 * Returns the order in which the instructions of an entry computation run:
 *
 * 1. The gradients, bucket by bucket. An all-reduce starts when its operands are ready. The wait
 *    for an all-reduce comes directly before the first instruction that reads its sum. So the
 *    all-reduce overlaps with the backward pass.
 * 2. The results that depend on all-reduces, in the order of the buckets.
 * 3. All other results, then outfeeds.
 *
 * Within each of these three parts, instructions run depth first, so that few arrays are in memory
 * at the same time.
 */
export function schedule(entry: HloComputation): Scheduled[] {
  const order = postOrder(entry.root);
  const needs = allReducesAbove(order);
  const allReduces = order.filter((it) => it.opcode === 'all-reduce');
  const byDepth = depths(order);
  const buckets = allReduces.toSorted(
    (a, b) => needs.get(a)!.size - needs.get(b)!.size || byDepth.get(a)! - byDepth.get(b)!,
  );
  const rank = new Map<HloInstruction, number>(buckets.map((it, i) => [it, i]));
  const urgency = (it: HloInstruction): number => {
    if (it.shape.type === 'token') return buckets.length + 1;
    const own = rank.get(it);
    const ranks = [...needs.get(it)!].map((above) => rank.get(above)!);
    const all = own === undefined ? ranks : [...ranks, own];
    return all.length === 0 ? buckets.length : Math.max(...all);
  };
  const results = entry.root.opcode === 'tuple' ? entry.root.operands : [entry.root];
  const last = results.toSorted((a, b) => urgency(a) - urgency(b));
  return withWaits(postOrder([...buckets, ...last, entry.root]), entry.root);
}

/** Returns, for each instruction, the all-reduces that the instruction depends on. */
function allReducesAbove(
  order: readonly HloInstruction[],
): Map<HloInstruction, ReadonlySet<AllReduce>> {
  const above = new Map<HloInstruction, ReadonlySet<AllReduce>>();
  for (const it of order) above.set(it, unionAbove(it, above));
  return above;
}

/**
 * Returns the all-reduces that `it` depends on. `above` has the set of all-reduces of each operand.
 * To save memory, the result is the set object of an operand where possible.
 */
function unionAbove(
  it: HloInstruction,
  above: ReadonlyMap<HloInstruction, ReadonlySet<AllReduce>>,
): ReadonlySet<AllReduce> {
  let union: ReadonlySet<AllReduce> = none;
  for (const operand of it.operands) {
    const inherited = above.get(operand)!;
    const own = operand.opcode === 'all-reduce' && !union.has(operand);
    if (union.size === 0) union = inherited;
    else if (inherited !== union) union = new Set([...union, ...inherited]);
    if (own) union = new Set([...union, operand]);
  }
  return union;
}

const none: ReadonlySet<AllReduce> = new Set();

function depths(order: readonly HloInstruction[]): Map<HloInstruction, number> {
  const depth = new Map<HloInstruction, number>();
  for (const it of order) {
    depth.set(it, 1 + Math.max(0, ...it.operands.map((x) => depth.get(x)!)));
  }
  return depth;
}

/**
 * Inserts a wait for each all-reduce before the first instruction that reads the sum. Tuples, tuple
 * elements and reshapes do not count as readers, because they only pass the sum on. The root always
 * counts as a reader, because the caller reads the sum from it.
 */
function withWaits(order: readonly HloInstruction[], root: HloInstruction): Scheduled[] {
  const scheduled: Scheduled[] = [];
  const waiting = new Set<AllReduce>();
  for (const it of order) {
    if (it === root || !renames(it)) for (const sum of sumsRead(it)) waitFor(sum);
    scheduled.push({ action: 'run', it });
    if (it.opcode === 'all-reduce') waiting.add(it);
  }
  for (const sum of waiting) scheduled.push({ action: 'done', it: sum });
  return scheduled;

  function waitFor(sum: AllReduce): void {
    if (waiting.delete(sum)) scheduled.push({ action: 'done', it: sum });
  }
}

/** True for an instruction that only gives another name to arrays. */
function renames(it: HloInstruction): boolean {
  return loweringOf(it).name !== undefined;
}

/**
 * Returns the all-reduces whose sums `it` reads, directly or through tuples, tuple elements and
 * reshapes.
 */
function sumsRead(it: HloInstruction): AllReduce[] {
  const found = new Set<AllReduce>();
  const pending = [...it.operands];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (next.opcode === 'all-reduce') found.add(next);
    else if (renames(next)) pending.push(...next.operands);
  }
  return [...found];
}
