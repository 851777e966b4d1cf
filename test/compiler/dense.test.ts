import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { compileWith } from '../../src/compiler/pipeline.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import { at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { valuesOf } from '../../src/numerics/literal.ts';
import { stream } from '../../src/numerics/random.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { randomLiteral } from '../hlo/programs.ts';
import { interpret, sumByChip } from './interpret.ts';
import { keepLoops } from './loops.ts';

/*
 * Tests of programs in which most values have several users and many values are results. They
 * exercise sharing between fused loops, loops with several outputs, updates in place, and buckets.
 */

const square = arrayShape('f32', [4, 4]);

/** Functions that compute a [4, 4] array from two [4, 4] arrays. */
const makers: readonly ((x: HloInstruction, y: HloInstruction) => HloInstruction)[] = [
  b.add,
  b.multiply,
  (x, y) => b.select(b.compare('GT', x, y), y, x),
  (x) => b.maximum(x, b.full('f32', [4, 4], 0)),
  (x) => b.abs(x),
  (x, y) => b.matmul(x, y),
  (x, y) => b.subtract(x, b.broadcast(b.reduceSum(y, [0]), [4, 4], [1])),
  (x, y) => b.multiply(b.broadcast(b.reduceMax(x, [1]), [4, 4], [0]), y),
  (x) => b.transpose(x, [1, 0]),
  (x, y) => b.add(b.reshape(b.negate(b.reshape(x, [16])), [4, 4]), y),
  (x) => b.allReduce(x),
  (x, y) => b.concatenate([b.slice(x, [0, 0], [2, 4]), b.slice(y, [1, 0], [3, 4])], 0),
];

const program = fc
  .array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.boolean()), { minLength: 1, maxLength: 24 })
  .map((choices): HloModule => {
    const parameters = [0, 1, 2].map((i) => b.parameter(i, square, `p${i}`));
    const fed = b.infeed(b.afterAll(), square);
    const pool: HloInstruction[] = [...parameters, b.getTupleElement(fed, 0)];
    const results: HloInstruction[] = [];
    for (const [maker, x, y, isResult] of choices) {
      const made = at(makers, maker % makers.length)(near(pool, x), near(pool, y));
      pool.push(made);
      if (isResult) results.push(made);
    }
    const last = at(pool, pool.length - 1);
    const summed = [...results, last].map((it, i) =>
      i < parameters.length ? b.allReduce(it) : it,
    );
    const aliases = summed.slice(0, 3).map((_, i) => ({ output: i, parameter: (i + 1) % 3 }));
    const token = b.outfeed(last, b.getTupleElement(fed, 1));
    return b.module('dense', parameters, b.tuple([...summed, token]), aliases);
  });

/** Returns one of the last six instructions of `pool`. `choice` is a random number, from 0 up. */
function near(pool: readonly HloInstruction[], choice: number): HloInstruction {
  return at(pool, pool.length - 1 - (choice % Math.min(pool.length, 6)));
}

test('compiled programs with many users and many results have the bits of evaluate', () => {
  let severalTargets = 0;
  fc.assert(
    fc.property(program, fc.constantFrom(1, 4), fc.boolean(), (module, cores, plain) => {
      const loops = plain ? keepLoops() : keepLoops({ supports, inPlace });
      const executable = compileOrSkip(() =>
        compileWith(loops, module, { cores, bucketBytes: 100 }),
      );
      const units = executable.instructions.filter((it) => it.unit === 'vpu');
      severalTargets += units.filter(({ targets }) => targets.length > 1).length;
      const inputs = Array.from({ length: cores }, (_, core) => ({
        parameters: [0, 1, 2].map((i) => randomLiteral(square, stream(i, 'p'), false)),
        infeed: [[randomLiteral(square, stream(core, 'fed'), false)]],
      }));
      const expected = evaluateReplicas(module, inputs, { allReduce: sumByChip });
      const found = interpret(executable, loops.kept, inputs);
      expected.forEach(({ values, outfeed }, core) => {
        expect(found.results[core]?.map(valuesOf)).toEqual(values.map(valuesOf));
        expect(found.outfeed[core]?.map(valuesOf)).toEqual(outfeed.flat().map(valuesOf));
      });
    }),
    { numRuns: 300 },
  );
  expect(severalTargets).toBeGreaterThan(50);
});

function compileOrSkip<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    fc.pre(!(error instanceof PodError && error.code === 'unsupported-program'));
    throw error;
  }
}
