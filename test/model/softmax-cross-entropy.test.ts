import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import { module, parameter, tuple } from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { softmaxCrossEntropy } from '../../src/model/softmax-cross-entropy.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

interface Outcome {
  readonly loss: number;
  readonly correct: number;
  readonly samples: number;
  readonly gradient: readonly number[];
}

function run(rows: readonly (readonly number[])[], labels: readonly number[]): Outcome {
  const dims = [rows.length, rows[0]!.length];
  const x = parameter(0, arrayShape('f32', dims));
  const y = parameter(1, arrayShape('s32', [rows.length]));
  const it = softmaxCrossEntropy(x, y);
  const [byLogits] = gradient(it.loss, [x], it.held);
  const program = module('loss', [x, y], tuple([it.loss, it.correct, it.samples, byLogits!]));
  const parameters = [literal('f32', dims, rows.flat()), literal('s32', [rows.length], labels)];
  const [loss, correct, samples, derivative] = evaluate(program, { parameters }).values.map(
    valuesOf,
  );
  return { loss: loss![0]!, correct: correct![0]!, samples: samples![0]!, gradient: derivative! };
}

const batches = fc.integer({ min: 1, max: 6 }).chain((classes) =>
  fc.array(
    fc.tuple(
      fc.array(fc.float({ min: -100, max: 100, noNaN: true }), {
        minLength: classes,
        maxLength: classes,
      }),
      fc.integer({ min: -1, max: classes - 1 }),
    ),
    { minLength: 1, maxLength: 5 },
  ),
);

describe('softmax cross-entropy', () => {
  test('equals its definition in f64, and its derivative is softmax − one-hot', () => {
    fc.assert(
      fc.property(batches, (samples) => {
        const rows = samples.map(([row]) => row);
        const labels = samples.map(([, label]) => label);
        let loss = 0;
        const derivative = samples.flatMap(([row, label]) => {
          const largest = Math.max(...row);
          const sum = row.reduce((total, x) => total + Math.exp(x - largest), 0);
          if (label < 0) return row.map(() => 0);
          loss += Math.log(sum) + largest - row[label]!;
          return row.map((x, i) => Math.exp(x - largest) / sum - Number(i === label));
        });
        const found = run(rows, labels);
        expect(Math.abs(found.loss - loss)).toBeLessThanOrEqual(1e-5 * Math.max(1, loss));
        expect(found.samples).toBe(labels.filter((label) => label >= 0).length);
        found.gradient.forEach((x, i) => {
          expect(Math.abs(x - derivative[i]!)).toBeLessThan(1e-5);
        });
        const right = samples.filter(
          ([row, label]) => row.indexOf(Math.max(...row)) === label,
        ).length;
        expect(found.correct).toBe(right);
      }),
    );
  });

  test('does not overflow', () => {
    const { loss, gradient: derivative } = run([[3e38, -3e38, 0]], [0]);
    expect(loss).toBe(0);
    expect(derivative.map((x) => x + 0)).toEqual([0, 0, 0]);
  });

  test('counts an answer as right only if its logit is the first of the largest', () => {
    expect(run([[1, 2, 2]], [1]).correct).toBe(1);
    expect(run([[1, 2, 2]], [2]).correct).toBe(0);
  });

  test('counts no right answer for a NaN logit, and the loss is NaN', () => {
    const { loss, correct } = run([[Number.NaN, 1]], [1]);
    expect(correct).toBe(0);
    expect(loss).toBeNaN();
  });
});
