import { compile } from '../../src/compiler/compile.ts';
import * as b from '../../src/hlo/build.ts';
import { type EvaluateInputs, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import { bytesOf, type Literal, literal } from '../../src/numerics/literal.ts';
import { arrayShape, isArray } from '../../src/numerics/shape.ts';

/** Number of weights of the programs of {@link mixing}. */
const weightCount = 6;
const modulus = 251;

/**
 * Returns a program whose weights, small whole numbers, depend at each step on the results of all
 * collectives of `collectives` on all replicas. Sums of the weights are exact in f32, so the order
 * of the last sum does not matter.
 */
export function mixing(collectives: HloModule): HloModule {
  const weights = b.parameter(0, arrayShape('f32', [weightCount]), 'weights');
  const { root } = collectives.entry;
  const parts = root.operands.map((result, i) => b.multiply(folded(result), of(i + 1)));
  const mixed = parts.reduce<HloInstruction>((sum, part) => b.add(sum, part), of(0));
  const sum = b.allReduce(b.remainder(mixed, of(modulus)));
  const next = b.remainder(b.add(b.multiply(weights, of(3)), sum), of(modulus));
  const { module } = b;
  const aliases = [{ output: 0, parameter: 0 }];
  return { ...module('mixing', [weights], b.tuple([next])), aliases };
}

function of(value: number): HloInstruction {
  return b.full('f32', [weightCount], value);
}

/** Returns a whole number from 0 to 250 for each weight, which depends on all elements of an array. */
function folded(result: HloInstruction): HloInstruction {
  if (!isArray(result.shape)) throw new Error('a collective of arrays');
  const count = result.shape.dims.reduce((product, n) => product * n, 1);
  const flat = b.convert(b.reshape(result, [count]), 'f32');
  const whole = b.select(b.isFinite(flat), b.roundNearestEven(flat), b.full('f32', [count], 17));
  const small = b.remainder(b.abs(whole), b.full('f32', [count], modulus));
  const places = b.convert(b.iota(arrayShape('s32', [weightCount, count]), 1), 'f32');
  const rows = b.convert(b.iota(arrayShape('s32', [weightCount, count]), 0), 'f32');
  const factors = b.add(b.multiply(places, b.full('f32', [weightCount, count], 7)), rows);
  const weighted = b.multiply(
    b.broadcast(small, [weightCount, count], [1]),
    b.remainder(factors, b.full('f32', [weightCount, count], 13)),
  );
  return b.remainder(b.reduceSum(weighted, [1]), of(modulus));
}

/** Compiles a program of {@link mixing} for a slice of `replicas` replicas. */
export function compiled(module: HloModule, replicas: number): Executable {
  return compile(module, { cores: 8, replicas, keepPrevious: true });
}

/** The weights with which a run begins. */
export const initialWeights: Literal = literal('f32', [weightCount], [1, 2, 3, 5, 8, 13]);

/** Returns the bytes of the weights after each of `steps` steps, computed by `evaluateReplicas`. */
export function expectedWeights(module: HloModule, replicas: number, steps: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  let weights = initialWeights;
  for (let step = 0; step < steps; step++) {
    const inputs: EvaluateInputs[] = Array.from({ length: replicas }, () => {
      return { parameters: [weights] };
    });
    const runs = evaluateReplicas(module, inputs);
    weights = at(at(runs, 0).values, 0);
    found.push(bytesOf(weights).slice());
  }
  return found;
}
