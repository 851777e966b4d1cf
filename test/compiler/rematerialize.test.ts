import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { compile } from '../../src/compiler/compile.ts';
import { rematerialize } from '../../src/compiler/passes/rematerialize.ts';
import { type CompileOptions, compileWith } from '../../src/compiler/pipeline.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { type Literal, scalarsOf } from '../../src/numerics/literal.ts';
import { stream } from '../../src/numerics/random.ts';
import { type ArrayShape, arrayShape } from '../../src/numerics/shape.ts';
import { arbitraryModule, randomLiteral } from '../hlo/programs.ts';
import { interpret } from './interpret.ts';
import { keepLoops } from './loops.ts';

const mib = 2 ** 20;

/**
 * A program with the shape of a network: a chain of `layers` matmuls of [1024, 1024], each followed by
 * a function of its elements, and then a chain back, which reads the results of all layers again.
 */
function chain(layers: number): HloModule {
  const shape = arrayShape('f32', [1024, 1024]);
  const [x, w] = [b.parameter(0, shape), b.parameter(1, shape)];
  const saved: HloInstruction[] = [];
  let it: HloInstruction = x;
  for (let layer = 0; layer < layers; layer++) {
    const product = b.matmul(it, w);
    // Each layer has two values in memory that the way back reads: a product, and a function of it.
    it = b.tanh(product);
    saved.push(b.multiply(product, it));
  }
  for (const value of saved.toReversed()) it = b.add(b.matmul(it, w), value);
  return b.module('chain', [x, w], it);
}

/**
 * A program like {@link chain} of small matrices, whose layers are drawn: matmuls, functions with one
 * or two results, and values that the way back reads.
 */
function randomChain(kinds: readonly number[]): HloModule {
  const shape = arrayShape('f32', [8, 8]);
  const [x, w, u] = [0, 1, 2].map((i) => b.parameter(i, shape));
  const saved: HloInstruction[] = [];
  let it: HloInstruction = x!;
  for (const kind of kinds) {
    const from = it;
    it = b.tanh(kind % 2 === 0 ? b.matmul(from, w!) : b.multiply(from, u!));
    if (kind === 1) saved.push(from, it);
    if (kind === 2) saved.push(b.multiply(it, b.matmul(u!, w!)));
    if (kind === 3) [saved[saved.length], it] = [b.subtract(it, u!), b.matmul(b.sin(it), w!)];
    if (kind === 4) saved.push(it);
    it = b.matmul(it, w!);
  }
  for (const value of saved.toReversed()) it = b.tanh(b.add(b.matmul(it, w!), value));
  return b.module('chain', [x!, w!, u!], it);
}

function compiled(module: HloModule, options: Partial<CompileOptions> = {}): Executable {
  return compile(module, { cores: 1, ...options });
}

/** Returns the elements as text, in which −0 and +0 differ and all NaNs are equal. */
function textOf(it: Literal): string {
  return scalarsOf(it)
    .map((value) => (Object.is(value, -0) ? '-0' : String(value)))
    .join(' ');
}

describe('a second computation of values', () => {
  test('keeps every bit of the results of random programs', () => {
    fc.assert(
      fc.property(arbitraryModule(), ({ module: given, inputs }) => {
        const module = { ...given, aliases: [] };
        const loops = keepLoops({ supports, inPlace });
        const options = { cores: 1, replicas: 1, remat: 'always' } as const;
        const { results } = interpret(compileWith(loops, module, options), loops.kept, [inputs]);
        expect(results[0]!.map(textOf)).toEqual(evaluate(module, inputs).values.map(textOf));
      }),
      { numRuns: 150 },
    );
  });

  test('keeps every bit of the results of random chains, of which many are computed again', () => {
    let recomputed = 0;
    fc.assert(
      fc.property(fc.array(fc.nat(5), { minLength: 4, maxLength: 24 }), fc.nat(), (kinds, seed) => {
        let last = randomChain(kinds);
        const loops = keepLoops({ supports, inPlace });
        const listener = (_: unknown, after: HloModule): void => {
          last = after;
        };
        compileWith(loops, last, { cores: 1, listener });
        const after = rematerialize(last, 0);
        verify(after.module);
        recomputed += after.recomputed;
        const parameters = last.entry.parameters.map(({ shape }, i) =>
          randomLiteral(shape as ArrayShape, stream(seed, `${i}`), false),
        );
        const results = (it: HloModule): string[] =>
          evaluate(it, { parameters }).values.map(textOf);
        expect(results(after.module)).toEqual(results(last));
      }),
      { numRuns: 150 },
    );
    expect(recomputed).toBeGreaterThan(50);
  });

  test('of one of two results of a loop needs only the sources of this result', () => {
    const shape = arrayShape('f32', [8, 8]);
    const [x, w] = [b.parameter(0, shape), b.parameter(1, shape)];
    const [a, c] = [b.matmul(x, w), b.matmul(w, x)];
    const loop = (
      name: string,
      make: (xs: HloInstruction[]) => HloInstruction,
      of: HloInstruction[],
    ) => {
      const parameters = of.map((_, i) => b.parameter(i, shape));
      return b.fusion('loop', of, b.computation(name, parameters, make(parameters)));
    };
    const both = loop('both', ([p, q]) => b.tuple([b.negate(p!), b.tanh(q!)]), [c, a]);
    const second = b.getTupleElement(both, 1);
    const between = [b.matmul(b.getTupleElement(both, 0), second)];
    for (let i = 0; i < 5; i++) between.push(b.matmul(between[i]!, w));
    const sum = loop('sum', (all) => all.reduce((y, z) => b.add(y, z)), between);
    const late = loop('late', ([p, q, r]) => b.add(b.multiply(p!, q!), r!), [sum, second, a]);
    const module = b.module('two', [x, w], b.tuple([late]));
    const after = rematerialize(module, 0);
    expect(after.recomputed).toBe(1);
    const again = postOrder(after.module.entry.root).find(
      (it) => it.opcode === 'fusion' && it.body.name === 'both_again',
    );
    expect(again!.operands).toHaveLength(1);
    const parameters = [0, 1].map((i) => randomLiteral(shape, stream(i, 'x'), false));
    const results = (it: HloModule): string[] => evaluate(it, { parameters }).values.map(textOf);
    expect(results(after.module)).toEqual(results(module));
  });

  test('saves HBM in a chain whose values are read on the way back', () => {
    const module = chain(8);
    const [never, always] = (['never', 'always'] as const).map(
      (remat) => compiled(module, { remat }).hbm.peak,
    );
    expect(never! / mib).toBeGreaterThan(60);
    expect(always! / never!).toBeLessThan(0.7);
  });

  test('makes a program fit that would not fit, and not more than it needs', () => {
    const module = chain(8);
    const peak = compiled(module, { remat: 'never' }).hbm.peak;
    const least = compiled(module, { remat: 'always' }).hbm.peak;
    const hbmLimitBytes = peak - 8 * mib;
    const passes: string[] = [];
    const fits = compiled(module, {
      hbmLimitBytes,
      listener: ({ does }) => passes.push(does),
    });
    expect(fits.hbm.peak).toBeLessThanOrEqual(hbmLimitBytes);
    expect(fits.hbm.peak).toBeGreaterThan(least);
    expect(passes.at(-1)).toMatch(/^computes (one value|\d values) a second time, to save HBM$/);
    expect(() => compiled(module, { hbmLimitBytes, remat: 'never' })).toThrow('Ran out of HBM');
    expect(() => compiled(module, { hbmLimitBytes: least - mib })).toThrow('Ran out of HBM');
  });

  test('does nothing to a program that fits', () => {
    const module = chain(3);
    const passes: string[] = [];
    const auto = compiled(module, { listener: ({ name }) => passes.push(name) });
    expect(passes).not.toContain('rematerialize');
    expect(auto).toEqual(compiled(module, { remat: 'never' }));
  });
});
