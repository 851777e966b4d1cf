import { getTupleElement } from '../../hlo/build.ts';
import type { HloComputation, HloInstruction, SelectAndScatter } from '../../hlo/instruction.ts';
import { postOrder } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import type { FusedLoop } from './fused-loop.ts';
import { type HelperName, helperFunctions } from './helpers.ts';
import { type Context, type Target, writeDraft, writeNest } from './nest.ts';
import type { Notes } from './notes.ts';
import { tilesExactly, writeScatter, writeTiles } from './scatter.ts';
import { FunctionBuilder } from './ssa.ts';
import { arrayOf } from './value.ts';
import { encodeModule, type WasmFunction } from './wasm.ts';

/**
 * Compiles fused loops to a WASM module that imports the shared memory `env.memory` and exports one
 * function for each loop: `f0`, `f1`, … (see fused-loop.ts). `supports` must have accepted each
 * loop. Equal loops give equal bytes.
 */
export function generate(loops: readonly FusedLoop[]): Uint8Array {
  const helpers = new Set<HelperName>();
  const functions = loops.map((loop, i) => functionOf(loop, `f${i}`, helpers));
  return encodeModule([...helperFunctions(helpers), ...functions]);
}

/**
 * A part of a fused loop: targets (outputs) that one nest of loops computes together. `kind` says
 * how the nest computes them:
 *
 * - `elements`: element by element;
 * - `tiles`: window by window. The windows are those of the select-and-scatter `scatter`; they tile
 *   its operand (cover each element exactly once);
 * - `scatter`: the only target is a select-and-scatter that cannot be computed as `tiles`.
 */
export type NestPlan =
  | { readonly kind: 'elements'; readonly targets: readonly NumberedTarget[] }
  | {
      readonly kind: 'tiles' | 'scatter';
      readonly scatter: SelectAndScatter;
      readonly targets: readonly NumberedTarget[];
    };

/** A target of a fused loop, with its index in the root tuple. */
export interface NumberedTarget extends Target {
  readonly number: number;
}

/**
 * Divides a fused loop into nests. Targets with equal dimensions form a group. A group falls into
 * one of two cases:
 *
 * - The group uses exactly one select-and-scatter. The result of the select-and-scatter has the
 *   dimensions of the targets, and its windows tile its operand (cover each element exactly once).
 *   Then one nest of the kind `tiles` computes the whole group.
 * - Otherwise, each target that is a select-and-scatter gets a nest of its own, and one nest
 *   computes all other targets.
 */
export function planOf(body: HloComputation): NestPlan[] {
  const groups = new Map<string, NumberedTarget[]>();
  for (const [number, it] of rootsOf(body).entries()) {
    const key = arrayOf(it).dims.join();
    const group = groups.get(key) ?? [];
    groups.set(key, [...group, { it, number, parameter: body.parameters.length + number }]);
  }
  return [...groups.values()].flatMap(plansOf);
}

/**
 * Writes the code of one nest. If `notes` is given, the code is a draft: the caller uses only what
 * the writer records in `notes`, and discards the code.
 */
export function writePlan(context: Context, plan: NestPlan, notes?: Notes): void {
  switch (plan.kind) {
    case 'elements':
      if (notes === undefined) writeNest(context, plan.targets);
      else writeDraft(context, plan.targets, notes);
      break;
    case 'tiles':
      if (notes !== undefined) writeDraft(context, plan.targets, notes);
      writeTiles(context, plan.scatter, plan.targets, notes);
      break;
    case 'scatter':
      writeScatter(context, plan.scatter, at(plan.targets, 0), notes);
      break;
  }
}

function functionOf({ body }: FusedLoop, exported: string, helpers: Set<HelperName>): WasmFunction {
  const plans = planOf(body);
  const targets = plans.reduce((count, plan) => count + plan.targets.length, 0);
  const to = new FunctionBuilder(body.parameters.length + targets);
  const ids = new Map<HloInstruction, number>();
  for (const plan of plans) writePlan({ to, helpers, ids }, plan);
  return to.finish(exported);
}

/** Returns the arrays that a computation returns, in order. */
function rootsOf({ root }: HloComputation): readonly HloInstruction[] {
  if (root.opcode === 'tuple') return root.operands;
  if (root.shape.type !== 'tuple') return [root];
  return root.shape.elements.map((_, i) => getTupleElement(root, i));
}

function plansOf(targets: readonly NumberedTarget[]): NestPlan[] {
  const scatters = targets.flatMap(({ it }) => scattersIn(it));
  const tiled = scatters.find(
    (it) => tilesExactly(it) && it.shape.dims.join() === arrayOf(at(targets, 0).it).dims.join(),
  );
  const distinct = new Set(scatters);
  if (tiled !== undefined && distinct.size === 1) {
    return [{ kind: 'tiles', scatter: tiled, targets }];
  }
  const isScatter = ({ it }: NumberedTarget): boolean => it.opcode === 'select-and-scatter';
  const others = targets.filter((target) => !isScatter(target));
  const own = targets.flatMap((target): NestPlan[] =>
    target.it.opcode === 'select-and-scatter'
      ? [{ kind: 'scatter', scatter: target.it, targets: [target] }]
      : [],
  );
  return others.length === 0 ? own : [{ kind: 'elements', targets: others }, ...own];
}

function scattersIn(root: HloInstruction): SelectAndScatter[] {
  return postOrder(root).filter((it) => it.opcode === 'select-and-scatter');
}
