import type { AllReduce, HloComputation, HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';

/** `run` starts an all-reduce and does everything else; `done` waits for an all-reduce. */
export interface Scheduled {
  readonly action: 'run' | 'done';
  readonly it: HloInstruction;
}

/**
 * The order in which an entry runs. Gradients come first, bucket by bucket, each all-reduce as
 * soon as its operands are there and its end as late as a user allows; so it travels while the
 * backward pass goes on. Then what depends on them, in order of buckets; then the rest of the
 * results, and what is sent to the host. Depth first, so few arrays are alive at once.
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

/** The all-reduces that each instruction depends on. */
function allReducesAbove(
  order: readonly HloInstruction[],
): Map<HloInstruction, ReadonlySet<AllReduce>> {
  const above = new Map<HloInstruction, ReadonlySet<AllReduce>>();
  for (const it of order) above.set(it, unionAbove(it, above));
  return above;
}

/** Chains share one set as long as nothing is added to it. */
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

/** A wait before the first instruction that reads the sum; what only renames does not read. */
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

function renames({ opcode }: HloInstruction): boolean {
  return opcode === 'tuple' || opcode === 'get-tuple-element' || opcode === 'reshape';
}

/** The all-reduces whose results are operands, looked at through what only renames them. */
function sumsRead(it: HloInstruction): AllReduce[] {
  const found = new Set<AllReduce>();
  const pending = [...it.operands];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (next.opcode === 'all-reduce') found.add(next);
    else if (renames(next)) pending.push(...next.operands);
  }
  return [...found];
}
