import { computation, getTupleElement, parameter, tuple } from '../hlo/build.ts';
import { conditional, optBarrier, scalarMap } from '../hlo/build-control.ts';
import type {
  Call,
  Conditional,
  HloComputation,
  HloInstruction,
  OptBarrier,
  ScalarMap,
} from '../hlo/instruction.ts';
import { inlined } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { leafShapes, tupleShape } from '../numerics/shape.ts';
import { isFloatShape, zerosOf } from './leaves.ts';
import { type Contribution, type Cotangents, operand, type Tools } from './rule.ts';

/**
 * Returns the cotangents of the operands of a call: the backward computation of the called one,
 * inlined.
 */
export function callRule(it: Call, cotangents: Cotangents, tools: Tools): Contribution[] {
  const targets = it.operands.flatMap((to) => targetsOf(to, tools));
  const wanted = targets.map(({ isWanted }) => isWanted);
  const backward = tools.backward(it.body, { given: cotangents.map(isGiven), wanted });
  const results = inlined(backward, [...it.operands, ...cotangents.filter(isGiven)]).operands;
  return toTargets(targets, (n) => at(results, n));
}

/**
 * Returns the cotangents of the operands of a conditional: a conditional of the backward
 * computations of the branches. The cotangents of the operands of all other branches are zeros.
 */
export function conditionalRule(
  it: Conditional,
  cotangents: Cotangents,
  tools: Tools,
): Contribution[] {
  const [selector, ...operands] = it.operands;
  const targets = operands.map((to) => targetsOf(to, tools));
  if (!targets.flat().some(({ isWanted }) => isWanted)) return [];
  const given = cotangents.filter(isGiven);
  const branches = it.branches.map((branch, n) => {
    const wanted = at(targets, n).map(({ isWanted }) => isWanted);
    const own = tools.backward(branch, { given: cotangents.map(isGiven), wanted });
    return backwardBranch(own, { targets, n });
  });
  const inputs = operands.map((x) => tuple([x, ...given]));
  const result = conditional(selector!, branches, inputs);
  return toTargets(targets.flat(), (n) => getTupleElement(result, n));
}

/**
 * Returns the branch of a backward conditional. It takes one tuple: the operand of branch n and the
 * cotangents. It returns the cotangents of the operands of all branches.
 */
function backwardBranch(
  own: HloComputation,
  { targets, n }: { readonly targets: readonly Target[][]; readonly n: number },
): HloComputation {
  const whole = parameter(0, tupleShape(own.parameters.map(({ shape }) => shape)));
  const elements = own.parameters.map((_, i) => getTupleElement(whole, i));
  const results = inlined(own, elements).operands;
  const all = targets.flatMap((list, branch) => {
    const wanted = list.filter(({ isWanted }) => isWanted);
    return branch === n ? results : wanted.map(({ to, leaf }) => zerosOf(shapeOf(to, leaf)));
  });
  return computation(own.name, [whole], tuple(all));
}

/**
 * Returns the cotangents of a barrier's operand: the cotangents of its result, behind a barrier.
 */
export function optBarrierRule(it: OptBarrier, cotangents: Cotangents): Contribution[] {
  const to = operand(it, 0);
  const all = optBarrier(tuple(cotangents.filter(isGiven)));
  const leaves = cotangents.flatMap((ct, leaf) => (isGiven(ct) ? [leaf] : []));
  return leaves.map((leaf, n) => ({ to, leaf, cotangent: () => getTupleElement(all, n) }));
}

/** Returns the cotangents of the operands of a map: maps of the derivatives of its computation. */
export function scalarMapRule(
  it: ScalarMap,
  [ct]: Cotangents,
  { backward }: Tools,
): Contribution[] {
  if (ct === undefined) return [];
  return it.operands.map((to, i) => ({
    to,
    cotangent: () => {
      const wanted = it.operands.map((_, n) => n === i);
      const { name, parameters, root } = backward(it.body, { given: [true], wanted });
      return scalarMap([...it.operands, ct], computation(name, parameters, at(root.operands, 0)));
    },
  }));
}

/** A leaf of an operand, and whether its cotangent is wanted. */
interface Target {
  readonly to: HloInstruction;
  readonly leaf: number;
  readonly isWanted: boolean;
}

function targetsOf(to: HloInstruction, { isWanted }: Tools): Target[] {
  const isActive = isWanted(to);
  return leafShapes(to.shape).map((shape, leaf) => ({
    to,
    leaf,
    isWanted: isActive && isFloatShape(shape),
  }));
}

function toTargets(
  targets: readonly Target[],
  resultOf: (n: number) => HloInstruction,
): Contribution[] {
  const wanted = targets.filter(({ isWanted }) => isWanted);
  return wanted.map(({ to, leaf }, n) => ({ to, leaf, cotangent: () => resultOf(n) }));
}

function shapeOf(it: HloInstruction, leaf: number): ReturnType<typeof leafShapes>[number] {
  return at(leafShapes(it.shape), leaf);
}

/** True if a leaf has a cotangent. */
export function isGiven(ct: HloInstruction | undefined): ct is HloInstruction {
  return ct !== undefined;
}
