import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { passes } from '../../src/compiler/passes.ts';
import { type CompileOptions, compileWith } from '../../src/compiler/pipeline.ts';
import { type EvaluateInputs, evaluate, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloModule, Opcode } from '../../src/hlo/instruction.ts';
import { verify } from '../../src/hlo/verify.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type Literal, valuesOf } from '../../src/numerics/literal.ts';
import { stream } from '../../src/numerics/random.ts';
import {
  arbitraryModule,
  type Program,
  type ProgramOptions,
  randomLiteral,
} from '../hlo/programs.ts';
import { interpret, sumByChip } from './interpret.ts';
import { keepLoops } from './loops.ts';

describe('every pass keeps the results of a module to the bit', () => {
  for (const pass of passes({ supports: keepLoops().supports, bucketBytes: 64 })) {
    test(`${pass.number} ${pass.name}`, () => {
      fc.assert(
        fc.property(arbitraryModule(), ({ module, inputs }) => {
          const after = supported(() => pass.run(module));
          verify(after);
          expect(observed(evaluate(after, inputs))).toEqual(observed(evaluate(module, inputs)));
        }),
        { numRuns: 150 },
      );
    });
  }
});

test("an executable computes the module's results with the code generator's rules for loops", () => {
  fc.assert(
    fc.property(arbitraryModule(), (program) => {
      const loops = keepLoops({ supports, inPlace });
      expectSame(program.module, replicas(program, 2), { cores: 2, bucketBytes: 64 }, loops);
    }),
    { numRuns: 150 },
  );
});

describe("an executable computes the module's results", () => {
  const cases: readonly (readonly [string, ProgramOptions])[] = [
    ['any opcode', {}],
    [
      'dots and convolutions',
      {
        opcodes: ['dot', 'convolution', 'add', 'transpose', 'reshape', 'infeed', 'outfeed'],
        types: ['f32', 'bf16'],
      },
    ],
    [
      'f32 with all-reduce',
      { types: ['f32'], opcodes: [...plainOpcodes(), 'all-reduce', 'dot', 'infeed', 'outfeed'] },
    ],
  ];
  for (const [name, options] of cases) {
    for (const cores of [1, 4]) {
      test(`${name}, ${cores} cores`, () => {
        fc.assert(
          fc.property(arbitraryModule(options), (program) => {
            expectSame(program.module, replicas(program, cores), { cores, bucketBytes: 64 });
          }),
          { numRuns: 150 },
        );
      });
    }
  }
});

function plainOpcodes(): Opcode[] {
  return [
    'add',
    'multiply',
    'maximum',
    'select',
    'compare',
    'broadcast',
    'reduce',
    'slice',
    'reshape',
    'iota',
  ];
}

/** Compiles and runs a module. Expects the results and outfeed of `evaluate` on every core. */
function expectSame(
  module: HloModule,
  cores: readonly EvaluateInputs[],
  options: CompileOptions,
  loops = keepLoops(),
): void {
  const executable = supported(() => compileWith(loops, module, options));
  const found = interpret(executable, loops.kept, cores);
  const expected = evaluateReplicas(module, cores, { allReduce: sumByChip });
  expected.forEach(({ values, outfeed }, core) => {
    expect((found.results[core] ?? []).map(bits)).toEqual(values.map(bits));
    expect((found.outfeed[core] ?? []).map(bits)).toEqual(outfeed.flat().map(bits));
  });
}

/** Inputs of each core: the same parameters, and infeeds that differ from core to core. */
function replicas({ inputs }: Program, cores: number): EvaluateInputs[] {
  return Array.from({ length: cores }, (_, core) => ({
    parameters: inputs.parameters,
    infeed: (inputs.infeed ?? []).map((entry) =>
      entry.map((it, i) => (core === 0 ? it : randomLiteral(it.shape, stream(core, `${i}`)))),
    ),
  }));
}

/**
 * Returns the result of `work`. Skips the random program of the test if the compiler throws
 * `unsupported-program`.
 */
function supported<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    fc.pre(!(error instanceof PodError && error.code === 'unsupported-program'));
    throw error;
  }
}

function observed({ values, outfeed }: ReturnType<typeof evaluate>): unknown {
  return { values: values.map(bits), outfeed: outfeed.map((sent) => sent.map(bits)) };
}

/** A literal as text, in which −0 and +0 differ. */
function bits(it: Literal): string {
  const values = valuesOf(it).map((x) => (Object.is(x, -0) ? '-0' : `${x}`));
  return `${it.shape.type}[${it.shape.dims.join(',')}] ${values.join(' ')}`;
}
