import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allocate, type Block } from '../../src/compiler/allocate.ts';
import { paddedBytes } from '../../src/compiler/hbm.ts';
import { compileWith } from '../../src/compiler/pipeline.ts';
import { add, matmul, module, multiply, parameter, tuple } from '../../src/hlo/build.ts';
import type { Buffer, Executable, Instruction } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { arbitraryModule } from '../hlo/programs.ts';
import { keepLoops } from './loops.ts';

describe('allocate', () => {
  const block = fc
    .record({ bytes: fc.nat(300), start: fc.nat(20), length: fc.nat(10) })
    .map(({ bytes, start, length }): Block => ({ bytes, start, end: start + length }));

  test('gives blocks aligned places inside the extent that do not overlap while in use', () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 30 }), (blocks) => {
        const { offsets, extent } = allocate(blocks, 64);
        blocks.forEach((a, i) => {
          expect(at(offsets, i) % 64).toBe(0);
          expect(at(offsets, i) + a.bytes).toBeLessThanOrEqual(extent);
          blocks.slice(0, i).forEach((b, j) => {
            const together = a.start <= b.end && b.start <= a.end;
            const apart =
              at(offsets, i) + a.bytes <= at(offsets, j) ||
              at(offsets, j) + b.bytes <= at(offsets, i);
            expect(!together || apart || a.bytes === 0 || b.bytes === 0).toBe(true);
          });
        });
      }),
    );
  });

  test('gives blocks that are never in use at the same time one place', () => {
    const blocks = [0, 1, 2].map((i) => ({ bytes: 64, start: 2 * i, end: 2 * i + 1 }));
    expect(allocate(blocks, 64)).toEqual({ offsets: [0, 0, 0], extent: 64 });
  });
});

test('arrays are padded to tiles in HBM', () => {
  const bytes = (type: 'f32' | 'bf16' | 'pred', ...dims: number[]): number =>
    paddedBytes(arrayShape(type, dims));
  expect(bytes('f32')).toBe(512);
  expect(bytes('f32', 10)).toBe(512);
  expect(bytes('f32', 3, 3)).toBe(4 * 512);
  expect(bytes('f32', 9, 128)).toBe(16 * 512);
  expect(bytes('f32', 8, 129)).toBe(8 * 1024);
  expect(bytes('f32', 5, 1, 64)).toBe(5 * 512);
  expect(bytes('bf16', 1, 128)).toBe(512);
  expect(bytes('bf16', 16, 128)).toBe(4096);
  expect(bytes('pred', 8, 128)).toBe(1024);
  expect(bytes('f32', 0, 4)).toBe(0);
});

test('live buffers overlap neither in the arena nor in HBM', () => {
  fc.assert(
    fc.property(arbitraryModule(), fc.constantFrom(1, 2, 8), ({ module: it }, cores) => {
      const executable = compileOrSkip(() => compileWith(keepLoops(), it, { cores }));
      expect(overlaps(executable, 'arena')).toEqual([]);
      expect(overlaps(executable, 'hbm')).toEqual([]);
      expectReport(executable);
    }),
    { numRuns: 300 },
  );
});

test('a parameter is updated in place if no later instruction reads it', () => {
  const shape = arrayShape('f32', [8, 8]);
  const w = parameter(0, shape, 'w');
  const updated = add(multiply(w, w), w);
  const program = module('update', [w], tuple([updated]), [{ output: 0, parameter: 0 }]);
  const { instructions, results, parameters } = compileWith(keepLoops(), program, { cores: 8 });
  expect(instructions.map(({ unit }) => unit)).toEqual(['vpu']);
  expect(results).toEqual(parameters);
});

test('a parameter that is also a result is saved before it is overwritten', () => {
  const shape = arrayShape('f32', [4]);
  const [a, b] = [parameter(0, shape, 'a'), parameter(1, shape, 'b')];
  const swap = [
    { output: 0, parameter: 0 },
    { output: 1, parameter: 1 },
  ];
  const program = module('swap', [a, b], tuple([b, a]), swap);
  const { instructions } = compileWith(keepLoops(), program, { cores: 8 });
  expect(instructions.map(({ unit }) => unit)).toEqual(['copy', 'copy', 'copy', 'copy']);
});

test('a program too large for HBM is refused with a message that names the largest buffers', () => {
  const big = parameter(0, arrayShape('f32', [1024, 1024]), 'big');
  const program = module('large', [big], tuple([matmul(big, big)]));
  const options = { cores: 8, hbmLimitBytes: 6 * 2 ** 20 };
  const refusal = errorOf(() => compileWith(keepLoops(), program, options));
  expect(refusal.code).toBe('out-of-hbm');
  expect(refusal.message).toMatch(
    /^Ran out of HBM: the program needs 8\.\d\d MiB of 6\.00 MiB a core; largest.* big f32\[1024,1024\] 4\.00 MiB/,
  );
  expect(refusal.message).not.toContain('\n');
});

/** Returns a text for each pair of buffers that share bytes while both are in use. */
function overlaps(executable: Executable, memory: 'arena' | 'hbm'): string[] {
  const uses = usesOf(executable);
  const bad: string[] = [];
  uses.forEach((a, i) => {
    for (const b of uses.slice(0, i)) {
      const [first, second] = a.start <= b.start ? [a, b] : [b, a];
      const touch = spans(a, memory).some((x) => spans(b, memory).some((y) => meet(x, y)));
      if (!touch || second.start > first.end) continue;
      if (second.start === first.end && handsOver(executable, first, second)) continue;
      bad.push(`${a.it.name} [${a.start},${a.end}] and ${b.it.name} [${b.start},${b.end}]`);
    }
  });
  return bad;

  function spans({ it }: Use, where: 'arena' | 'hbm'): readonly (readonly [number, number])[] {
    if (where === 'hbm') return [[it.hbmOffset, it.hbmOffset + it.hbmBytes]];
    const count = { shared: 1, core: executable.cores, chip: Math.ceil(executable.cores / 2) };
    return Array.from({ length: count[it.copies] }, (_, copy) => {
      const start = it.offset + copy * it.stride;
      return [start, start + it.bytes];
    });
  }
}

function meet(a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] < b[1] && b[0] < a[1];
}

interface Use {
  readonly it: Buffer;
  readonly id: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Returns when each buffer is in use: from its first write (`start`) to its last read (`end`). Both
 * are indices of instructions.
 */
function usesOf(executable: Executable): Use[] {
  const { buffers, instructions, parameters, constants, results } = executable;
  const fixed = [...parameters, ...constants.map(({ buffer }) => buffer)];
  const length = instructions.length;
  const touches = (id: number): number[] =>
    instructions.flatMap((each, i) => (operands(executable, each).flat().includes(id) ? [i] : []));
  const uses = buffers.flatMap((it, id): Use[] => {
    if (it.kind === 'program' || it.bytes === 0 || isInBucket(executable, it)) return [];
    const aliased = fixed.includes(id) && isOverwritten(executable, id);
    const kept = !aliased && (fixed.includes(id) || results.includes(id));
    const isView = results.includes(id) && !fixed.includes(id) && touches(id).length === 0;
    if (isView) return [];
    const when = [...touches(id), ...(fixed.includes(id) ? [-1] : []), ...(kept ? [length] : [])];
    return when.length === 0 ? [] : [{ it, id, start: Math.min(...when), end: Math.max(...when) }];
  });
  return uses.map((use) => (isLastAtResult(executable, uses, use) ? { ...use, end: length } : use));
}

/**
 * True if the given buffer is a part of a bucket. A bucket is the buffer with all gradients that
 * one all-reduce sums. The checks look at whole buckets, not at their parts.
 */
function isInBucket({ buffers, buckets }: Executable, it: Buffer): boolean {
  return buckets.some(({ buffer }) => {
    const all = at(buffers, buffer);
    const end = all.hbmOffset + Math.max(all.hbmBytes, 1);
    const isInside = it.hbmOffset >= all.hbmOffset && it.hbmOffset < end;
    return it !== all && it.kind === 'gradient' && isInside;
  });
}

/**
 * True if the buffer of `use` must stay unchanged to the end of the program, because a result of
 * the program is a view of this buffer. A view is a buffer that no instruction writes. It has the
 * same bytes as another buffer, for example in order to give them another shape. If several buffers
 * use these bytes one after another, the view belongs to the last of them. Parts of buckets do not
 * count as views.
 */
function isLastAtResult(executable: Executable, uses: readonly Use[], use: Use): boolean {
  const { buffers, results } = executable;
  const here = (it: Buffer): boolean => it.offset === use.it.offset && it.bytes === use.it.bytes;
  const known = uses.map(({ id }) => id);
  const viewed = results.some((id) => {
    const it = at(buffers, id);
    return !known.includes(id) && !isInBucket(executable, it) && here(it);
  });
  return viewed && !uses.some((other) => here(other.it) && other.start > use.start);
}

/**
 * True if the parameter `id` is overwritten with its new value: the parameter is also a result, and
 * the buffer of the new value has the same place and size.
 */
function isOverwritten({ buffers, results }: Executable, id: number): boolean {
  const it = at(buffers, id);
  return (
    results.includes(id) &&
    buffers.some((other, i) => i !== id && other.bytes === it.bytes && other.offset === it.offset)
  );
}

/** The buffers that an instruction reads, and the buffers that it writes. */
function operands(executable: Executable, it: Instruction): [number[], number[]] {
  switch (it.unit) {
    case 'infeed':
      return [[], [it.target]];
    case 'outfeed':
      return [[it.source], []];
    case 'mxu':
      return [[it.lhs, it.rhs], [it.target]];
    case 'vpu':
      return [[...it.sources], [...it.targets]];
    case 'copy':
    case 'chip-sum':
      return [[it.source], [it.target]];
    case 'plain':
      return [it.sources.map(({ buffer }) => buffer), [...it.targets]];
    case 'rng':
      return [[it.state], [it.newState, it.bits]];
    case 'exchange': {
      const { source, target } = at(executable.exchanges, it.exchange);
      return [[source], [target]];
    }
    default: {
      const { buffer } = at(executable.buckets, it.bucket);
      return [[buffer], [buffer]];
    }
  }
}

/**
 * True if one instruction reads the buffer of `first`, writes the buffer of `second`, and both
 * buffers have the same place and size. The instruction must be a fused loop or a random number
 * generator, because only these two kinds of instructions may overwrite their input.
 */
function handsOver(executable: Executable, first: Use, second: Use): boolean {
  const it = executable.instructions[second.start];
  if (it === undefined) return false;
  const [reads, writes] = operands(executable, it);
  const same = first.it.offset === second.it.offset && first.it.bytes === second.it.bytes;
  const loops = it.unit === 'vpu' || it.unit === 'rng';
  return loops && same && reads.includes(first.id) && writes.includes(second.id);
}

/** Checks that the HBM report adds up, and that all buffers lie inside the arena and HBM. */
function expectReport({ hbm, buffers, arenaBytes }: Executable): void {
  const sum = Object.values(hbm.byKind).reduce((total, bytes) => total + bytes, 0);
  expect(sum).toBe(hbm.peak);
  for (const { offset, bytes, hbmOffset, hbmBytes } of buffers) {
    expect(offset + bytes).toBeLessThanOrEqual(arenaBytes);
    expect(hbmOffset + hbmBytes).toBeLessThanOrEqual(hbm.limit);
  }
}

function compileOrSkip<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    fc.pre(!(error instanceof PodError && error.code === 'unsupported-program'));
    throw error;
  }
}

function errorOf(work: () => unknown): PodError {
  try {
    work();
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
