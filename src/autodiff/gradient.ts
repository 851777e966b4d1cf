import { add, computation, parameter, scalar, tuple } from '../hlo/build.ts';
import type { HloComputation, HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { isArray, leafShapes, shapeText } from '../numerics/shape.ts';
import { firstLeaves, isFloatShape, zerosOf } from './leaves.ts';
import { namer } from './name.ts';
import {
  type BackwardLeaves,
  type Contribution,
  type Cotangents,
  type Derivative,
  type LeavesRule,
  noDerivative,
  type Rule,
  type Tools,
} from './rule.ts';
import { rules } from './rules.ts';

/**
 * Returns the derivative of `loss` (f32[]) with respect to each instruction in `wrt`. Each
 * derivative has the shape and type of its instruction. The function works in reverse mode: it
 * visits each instruction that `loss` depends on once, users before operands. Instructions in
 * `held` count as constants. A new instruction is named `gradient/<name of the instruction that it
 * is derived from>`.
 *
 * At points where a function has no derivative, the rules follow JAX:
 *
 * - `maximum`, `minimum`, and a `reduce` that takes a maximum or minimum, divide the cotangent
 *   equally among the elements that equal the result. Exception: if one operand of `maximum` or
 *   `minimum` is a constant and both operands are equal, the constant takes the whole cotangent. So
 *   the derivative of ReLU, the maximum of x and the constant 0, is 0 at x = 0, as in jax.nn.relu.
 * - `abs` has derivative 0 at 0. `clamp` has derivative 0 where the value equals a bound.
 * - The maximum of a window (`reduce-window`) passes the cotangent to the first maximal element.
 * - A `sort` or `topk` passes each cotangent to the element that it has moved to that place.
 *
 * @throws PodError bad-program: `loss` is not f32[], an element of `wrt` is not an array of floats,
 * or `loss` depends on `wrt` through an instruction that has no derivative.
 */
export function gradient(
  loss: HloInstruction,
  wrt: readonly HloInstruction[],
  held: readonly HloInstruction[] = [],
): HloInstruction[] {
  const { shape } = loss;
  if (shape.type !== 'f32' || shape.dims.length !== 0) {
    throw new PodError('bad-program', `gradient of ${shapeText(shape)}: expected f32[]`);
  }
  const cotangents = pulledBack(loss, { given: [scalar('f32', 1)], wrt, held });
  return wrt.map((it) => cotangents.get(it)?.[0] ?? zeros(it));
}

interface Request {
  /** Cotangents of the leaves of the root. */
  readonly given: Cotangents;
  readonly wrt: readonly HloInstruction[];
  readonly held: readonly HloInstruction[];
}

/** Returns, for each instruction that has some, the cotangents of its leaves. */
function pulledBack(
  root: HloInstruction,
  { given, wrt, held }: Request,
): ReadonlyMap<HloInstruction, Cotangents> {
  const order = postOrder(root);
  const active = dependsOn(order, wrt, held);
  const tools: Tools = { isWanted: (it) => active.has(it), backward };
  const name = namer([...order, ...given.filter((it) => it?.opcode === 'parameter')]);
  const found = new Map<HloInstruction, Cotangents>();
  if (active.has(root)) found.set(root, given);

  for (const it of order.toReversed()) {
    const cotangents = found.get(it);
    if (cotangents === undefined) continue;
    for (const { to, leaf = 0, cotangent: part } of contributions(it, cotangents, tools)) {
      if (!active.has(to) || !isFloatShape(at(leafShapes(to.shape), leaf))) continue;
      const before = found.get(to) ?? leafShapes(to.shape).map(() => undefined);
      const summand = before[leaf];
      const flowing = name(part(), `gradient/${title(it)}`);
      const sum = summand === undefined ? flowing : add(summand, flowing);
      found.set(to, before.with(leaf, name(sum, `gradient/${title(to)}`)));
    }
  }
  return found;
}

/**
 * Returns the computation of the cotangents of a computation's parameters. Its parameters are those
 * of `body`, then the given cotangents of the result. Its root is a tuple of the wanted cotangents.
 */
export function backward(body: HloComputation, { given, wanted }: BackwardLeaves): HloComputation {
  const shapes = leafShapes(body.root.shape).filter((_, leaf) => given[leaf]);
  const added = shapes.map((shape, i) => parameter(body.parameters.length + i, shape));
  const left = [...added];
  const cotangents = given.map((isGiven) => (isGiven ? left.shift() : undefined));
  const firsts = firstLeaves(body.parameters.map(({ shape }) => shape));
  const wrt = body.parameters.filter((_, i) =>
    wanted.slice(firsts[i], firsts[i + 1]).some((isWanted) => isWanted),
  );
  const found = pulledBack(body.root, { given: cotangents, wrt, held: [] });
  const results = body.parameters.flatMap((it) =>
    leafShapes(it.shape).map((shape, leaf) => ({ shape, cotangent: found.get(it)?.[leaf] })),
  );
  const root = tuple(
    results
      .filter((_, leaf) => wanted[leaf])
      .map(({ shape, cotangent }) => cotangent ?? zerosOf(shape)),
  );
  return computation(`${body.name}_backward`, [...body.parameters, ...added], root);
}

/**
 * Returns the instructions of `order` whose value depends on `wrt`. An instruction that depends on
 * `wrt` only through an instruction in `held` is not among them.
 */
function dependsOn(
  order: readonly HloInstruction[],
  wrt: readonly HloInstruction[],
  held: readonly HloInstruction[],
): Set<HloInstruction> {
  const active = new Set(wrt);
  const constant = new Set(held);
  for (const it of order) {
    if (!constant.has(it) && it.operands.some((x) => active.has(x))) active.add(it);
  }
  return active;
}

function contributions(
  it: HloInstruction,
  cotangents: Cotangents,
  tools: Tools,
): readonly Contribution[] {
  const derivative: Derivative<never> = rules[it.opcode];
  if ('zero' in derivative || it.operands.length === 0) return [];
  if ('none' in derivative) throw noDerivative(it, derivative.none);
  if ('leaves' in derivative) {
    return (derivative.leaves as LeavesRule<never>)(it as never, cotangents, tools);
  }
  const [cotangent] = cotangents;
  if (!isArray(it.shape) || cotangent === undefined) {
    throw noDerivative(it, 'it is a tuple of results that depend on one another');
  }
  return (derivative.rule as Rule<never>)(it as never, cotangent);
}

function title(it: HloInstruction): string {
  return it.name ?? it.opcode;
}

function zeros(it: HloInstruction): HloInstruction {
  if (!isFloatShape(it.shape)) {
    throw noDerivative(it, `it is ${shapeText(it.shape)}, expected an array of f32 or bf16`);
  }
  return zerosOf(it.shape);
}
