import { add, full, scalar } from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { PodError } from '../numerics/error.ts';
import { isArray, shapeText } from '../numerics/shape.ts';
import { namer } from './name.ts';
import { arrayOf, type Contribution, type Derivative, noDerivative, type Rule } from './rule.ts';
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
  const order = postOrder(loss);
  const active = dependsOn(order, wrt, held);
  const name = namer(order);
  const cotangents = new Map<HloInstruction, HloInstruction>();
  if (active.has(loss)) cotangents.set(loss, scalar('f32', 1));

  for (const it of order.toReversed()) {
    const cotangent = cotangents.get(it);
    if (cotangent === undefined) continue;
    for (const { to, cotangent: part } of contributions(it, cotangent)) {
      if (!active.has(to) || !isFloat(to)) continue;
      const before = cotangents.get(to);
      const flowing = name(part(), `gradient/${title(it)}`);
      const sum = before === undefined ? flowing : add(before, flowing);
      cotangents.set(to, name(sum, `gradient/${title(to)}`));
    }
  }
  return wrt.map((it) => cotangents.get(it) ?? zeros(it));
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

function contributions(it: HloInstruction, cotangent: HloInstruction): readonly Contribution[] {
  const derivative: Derivative<never> = rules[it.opcode];
  if ('zero' in derivative || it.operands.length === 0) return [];
  if ('none' in derivative) throw noDerivative(it, derivative.none);
  return (derivative.rule as Rule<never>)(it as never, cotangent);
}

/**
 * True for floating-point arrays. Integers, preds, tokens and tuples as a whole have no cotangent.
 */
function isFloat({ shape }: HloInstruction): boolean {
  return shape.type === 'f32' || shape.type === 'bf16';
}

function title(it: HloInstruction): string {
  return it.name ?? it.opcode;
}

function zeros(it: HloInstruction): HloInstruction {
  if (!isArray(it.shape) || !isFloat(it)) {
    throw noDerivative(it, `it is ${shapeText(it.shape)}, expected an array of f32 or bf16`);
  }
  const { type, dims } = arrayOf(it);
  return full(type, dims, 0);
}
