import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import * as b from '../../src/hlo/build.ts';
import {
  type AllReduceFunction,
  type EvaluateInputs,
  evaluateComputation,
  evaluateReplicas,
} from '../../src/hlo/evaluate.ts';
import {
  binaryOpcodes,
  type HloInstruction,
  type HloModule,
  type Opcode,
  type Parameter,
  unaryOpcodes,
} from '../../src/hlo/instruction.ts';
import { postOrder, withOperands } from '../../src/hlo/traverse.ts';
import { windowDimension } from '../../src/hlo/window.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import { computedTypes, coreTypes, type Scalar } from '../../src/numerics/element-type.ts';
import { PodError } from '../../src/numerics/error.ts';
import {
  bytesOf,
  type Literal,
  literal,
  literalFrom,
  literalOfBytes,
  scalarAt,
  scalarsOf,
} from '../../src/numerics/literal.ts';
import { stream } from '../../src/numerics/random.ts';
import { type ArrayShape, arrayShape, shapeText } from '../../src/numerics/shape.ts';
import { castsNan } from '../hlo/casts-nan.ts';
import { arbitraryCollectives } from '../hlo/collective-cases.ts';
import { arbitraryModule, type Program, randomLiteral } from '../hlo/programs.ts';
import { type BenchOptions, benchTpu } from './bench-tpu.ts';

/** Outcome of a step on one core: the results of the program, and its outfeed. */
interface Outcome {
  readonly results: readonly Literal[];
  readonly outfeed: readonly Literal[];
}

/** Inputs of each core: the same parameters, and an infeed that differs from core to core. */
function replicasOf({ inputs }: Program, cores: number): EvaluateInputs[] {
  return Array.from({ length: cores }, (_, core) => ({
    parameters: inputs.parameters,
    infeed: (inputs.infeed ?? []).map((arrays, i) =>
      arrays.map((it, j) => (core === 0 ? it : randomLiteral(it.shape, stream(core, `${i}/${j}`)))),
    ),
  }));
}

/**
 * The order of an all-reduce on a Cloud TPU. A sum of f32 first adds the two cores of each chip, and
 * then the chips in order. Any other all-reduce combines the cores in order.
 */
const chipsThenSlice: AllReduceFunction = (values, body) => {
  const fold = (list: readonly Literal[]): Literal =>
    list.reduce((sum, value) =>
      combine(sum, value, (a, b) => scalarOf(evaluateComputation(body, [a, b]) as Literal)),
    );
  if (at(values, 0).shape.type !== 'f32' || body.root.opcode !== 'add') return fold(values);
  const chips = Array.from({ length: Math.ceil(values.length / 2) }, (_, chip) =>
    fold(values.slice(2 * chip, 2 * chip + 2)),
  );
  return fold(chips);
};

function combine(a: Literal, b: Literal, body: (a: Literal, b: Literal) => Scalar): Literal {
  const { type } = a.shape;
  const single = (it: Literal, i: number): Literal => literal(type, [], [scalarAt(it, i)]);
  return literalFrom(a.shape, (i) => body(single(a, i), single(b, i)));
}

function scalarOf(it: Literal): Scalar {
  return scalarAt(it, 0);
}

function expectedOf(module: HloModule, replicas: readonly EvaluateInputs[]): Outcome[] {
  const outcomes = evaluateReplicas(module, replicas, { allReduce: chipsThenSlice });
  return outcomes.map(({ values, outfeed }) => ({ results: values, outfeed: outfeed.flat() }));
}

function foundOf(
  executable: Executable,
  replicas: readonly EvaluateInputs[],
  options?: BenchOptions,
): Outcome[] {
  const tpu = benchTpu(executable, options);
  at(replicas, 0).parameters.forEach((it, index) => {
    tpu.cores.writeParameter(index, bytesOf(it).slice());
  });
  const feed = replicas.map(({ infeed }) => (infeed ?? []).flat().map((it) => bytesOf(it).slice()));
  const sent = tpu.step(feed);
  return replicas.map((_, core) => ({
    results: executable.results.map((id) => {
      const { shape, copies } = at(executable.buffers, id);
      return literalOfBytes(shape, tpu.cores.readBuffer(id, copies === 'shared' ? 0 : core));
    }),
    outfeed: executable.outfeed.map(({ shape }, i) =>
      literalOfBytes(shape, at(sent, i)[core] ?? at(at(sent, i), 0)),
    ),
  }));
}

/**
 * Returns the results and the outfeed as text, in which −0 and +0 differ and all NaNs are equal.
 */
function bitsOf({ results, outfeed }: Outcome): string[] {
  return [...results, ...outfeed].map((it) => {
    const values = scalarsOf(it).map((value) => (Object.is(value, -0) ? '-0' : String(value)));
    return `${shapeText(it.shape)} ${values.join(' ')}`;
  });
}

/**
 * The only reason why the compiler may refuse a program: a parameter, equal on all cores, takes a
 * value which differs between cores.
 */
const refusal = /differs between cores and cannot replace parameter/;

/** Returns the compiled program, or undefined if the compiler rightly refuses it. */
function compiled(module: HloModule, cores: number): Executable | undefined {
  try {
    return compile(module, { cores, replicas: cores });
  } catch (error) {
    if (error instanceof PodError && refusal.test(error.message)) return undefined;
    throw error;
  }
}

function checkEqual(program: Program, cores: number, options?: BenchOptions): void {
  const executable = compiled(program.module, cores);
  fc.pre(executable !== undefined);
  const replicas = replicasOf(program, cores);
  fc.pre(!castsNan(program.module, replicas, { allReduce: chipsThenSlice }));
  const expected = expectedOf(program.module, replicas);
  expect(foundOf(executable!, replicas, options).map(bitsOf)).toEqual(expected.map(bitsOf));
}

/**
 * Returns a program that computes the same, but takes some of its parameters from an infeed. The
 * values of these parameters can then differ between cores. `mask` selects these parameters. If
 * `summed` is true, the f32 results are also summed by an all-reduce. The given program must have
 * no infeed or outfeed.
 */
function fed({ module, inputs }: Program, mask: number, summed: boolean): Program {
  const { parameters, root } = module.entry;
  const isFed = (it: Parameter): boolean => ((mask >> (it.index % 30)) & 1) === 1;
  const fedOnes = parameters.filter(isFed);
  if (fedOnes.length === 0) return { module, inputs };
  const feed = b.getTupleElement(
    b.infeed(b.afterAll(), { type: 'tuple', elements: fedOnes.map((it) => it.shape) }),
    0,
  );
  const kept = parameters.filter((it) => !isFed(it)).map((it, i) => ({ ...it, index: i }));
  const replace = (it: Parameter): HloInstruction => {
    if (isFed(it)) return b.getTupleElement(feed, fedOnes.indexOf(it));
    return at(kept, parameters.slice(0, it.index).filter((other) => !isFed(other)).length);
  };
  const replaced = new Map<HloInstruction, HloInstruction>();
  for (const it of postOrder(root)) {
    const operands = it.operands.map((operand) => replaced.get(operand)!);
    replaced.set(it, it.opcode === 'parameter' ? replace(it) : withOperands(it, operands));
  }
  const rewritten = replaced.get(root)!;
  const outputs = root.opcode === 'tuple' ? rewritten.operands : [rewritten];
  const results = outputs.map((it) => (summed && it.shape.type === 'f32' ? b.allReduce(it) : it));
  const literals = (wanted: boolean): Literal[] =>
    parameters.filter((it) => isFed(it) === wanted).map((it) => at(inputs.parameters, it.index));
  return {
    module: b.module('fed', kept, b.tuple(results)),
    inputs: { parameters: literals(false), infeed: [literals(true)] },
  };
}

const cores = fc.constantFrom(1, 2, 4, 8);
const others: readonly Opcode[] = [
  'compare',
  'select',
  'clamp',
  'convert',
  'bitcast-convert',
  'reduce-precision',
  'broadcast',
  'reshape',
  'transpose',
  'slice',
  'pad',
  'concatenate',
  'reverse',
  'iota',
  'dot',
  'convolution',
  'reduce',
  'reduce-window',
  'select-and-scatter',
  'rng-bit-generator',
  'all-reduce',
  'fusion',
];
const pure = [...unaryOpcodes, ...binaryOpcodes, ...others].filter((it) => it !== 'all-reduce');

describe('a Cloud TPU computes the bits of evaluate', () => {
  test('for values that differ from core to core, and for their sums over all cores', () => {
    const options = { opcodes: pure, choicesMax: 32, elementsMax: 32 };
    fc.assert(
      fc.property(
        arbitraryModule(options),
        fc.nat(),
        fc.boolean(),
        cores,
        (program, mask, summed, count) => {
          checkEqual(fed(program, mask, summed), count);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('for matmuls with one result for all cores, for each core, or for each chip', () => {
    const opcodes: readonly Opcode[] = ['dot', 'convolution', 'dot', 'transpose', 'reshape'];
    const options = { opcodes, choicesMax: 24, elementsMax: 64, types: ['f32'] as const };
    fc.assert(
      fc.property(
        arbitraryModule(options),
        fc.nat(),
        fc.boolean(),
        cores,
        (it, mask, summed, count) => {
          checkEqual(fed(it, mask, summed), count);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('for random programs of all opcodes on 1 to 8 cores, each core with its own infeed', () => {
    fc.assert(
      fc.property(arbitraryModule({ choicesMax: 40, elementsMax: 32 }), cores, (program, count) => {
        checkEqual(program, count);
      }),
      { numRuns: 100 },
    );
  });

  test.each([...unaryOpcodes, ...binaryOpcodes, ...others])('for programs of %s', (opcode) => {
    const opcodes: readonly Opcode[] = [opcode, opcode, 'infeed', 'outfeed'];
    fc.assert(
      fc.property(
        arbitraryModule({ opcodes, choicesMax: 24, elementsMax: 32 }),
        cores,
        (program, count) => {
          checkEqual(program, count);
        },
      ),
      { numRuns: 8 },
    );
  });

  const otherTypes = computedTypes.filter((type) => !coreTypes.includes(type));
  test.each(otherTypes)('for programs of %s, which plain code runs', (type) => {
    const opcodes = pure.filter((it) => !['dot', 'convolution'].includes(it));
    const options = { opcodes, types: [type], choicesMax: 32, elementsMax: 32 };
    fc.assert(
      fc.property(arbitraryModule(options), fc.nat(), cores, (program, mask, count) => {
        checkEqual(fed(program, mask, false), count);
      }),
      { numRuns: 12 },
    );
  });

  test('for windows that overlap in padding, and for a sum of a value and its all-reduce', () => {
    const [x, y, z] = [[1], [2], []].map((dims, i) => b.parameter(i, arrayShape('f32', dims)));
    const window = windowDimension({ size: 2, stride: 1, padLow: 1, padHigh: 1 });
    const scattered = b.selectAndScatter(
      x!,
      y!,
      z!,
      [window],
      b.greaterOrEqual('f32'),
      b.adder('f32'),
    );
    const twice = b.add(z!, z!);
    const dot = { lhsBatch: [], rhsBatch: [], lhsContracting: [0], rhsContracting: [0] };
    const root = b.tuple([b.add(twice, b.allReduce(twice)), b.dot(x!, x!, dot), scattered]);
    const module = b.module('once', [x!, y!, z!], root, [{ output: 2, parameter: 0 }]);
    const parameters = [x!, y!, z!].map((it, i) =>
      randomLiteral(it.shape as ArrayShape, stream(i, 'x'), false),
    );
    checkEqual({ module, inputs: { parameters } }, 2);
  });

  test('for collectives in random groups of cores', () => {
    fc.assert(
      fc.property(arbitraryCollectives(8), (module) => {
        checkEqual({ module, inputs: { parameters: [] } }, 8);
      }),
      { numRuns: 100 },
    );
  });

  test('with the systolic MXU', () => {
    const opcodes: readonly Opcode[] = ['dot', 'convolution', 'infeed', 'add', 'all-reduce'];
    fc.assert(
      fc.property(arbitraryModule({ opcodes, choicesMax: 20, elementsMax: 16 }), (program) => {
        checkEqual(program, 2, { fidelity: 'systolic' });
      }),
      { numRuns: 3 },
    );
  });
});
