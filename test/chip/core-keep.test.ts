import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { setAfter } from '../../src/chip/core.ts';
import { type CompileOptions, compile } from '../../src/compiler/compile.ts';
import type { HloModule } from '../../src/hlo/instruction.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { arbitraryModule, type Program } from '../hlo/programs.ts';
import { type BenchTpu, benchTpu } from './bench-tpu.ts';

const cores = 2;
const steps = 3;

function compiled(module: HloModule, options: Partial<CompileOptions>): Executable {
  try {
    return compile(module, { cores, ...options });
  } catch (error) {
    fc.pre(!(error instanceof PodError && error.code === 'unsupported-program'));
    throw error;
  }
}

const programs = arbitraryModule({ choicesMax: 30, elementsMax: 32 });

describe('a program that keeps the parameters from before a step', () => {
  test('has the bits of a program that updates in place, even if each step runs twice', () => {
    let updated = 0;
    fc.assert(
      fc.property(programs, (program) => {
        const plain = compiled(program.module, {});
        const kept = compiled(program.module, { keepPrevious: true });
        updated += kept.parameters.filter((id, i) => id !== at(kept.next!, i)).length;
        const [expected, found] = [started(plain, program), started(kept, program)];
        const feed = feedOf(program);
        for (let step = 0; step < steps; step++) {
          const before = parametersOf(found);
          found.step(feed);
          found.cores.select(setAfter(step));
          expect(parametersOf(found)).toEqual(before);
          expect(found.step(feed)).toEqual(expected.step(feed));
          expect(found.cores.present).toBe(setAfter(step + 1));
          expect(parametersOf(found)).toEqual(parametersOf(expected));
        }
      }),
      { numRuns: 150 },
    );
    expect(updated).toBeGreaterThan(50);
  });

  test('takes as much HBM as a program that updates in place', () => {
    fc.assert(
      fc.property(programs, (program) => {
        const plain = compiled(program.module, {});
        const kept = compiled(program.module, { keepPrevious: true });
        expect(kept.hbm).toEqual(plain.hbm);
        kept.parameters.forEach((id, i) => {
          const next = at(kept.buffers, at(kept.next!, i));
          expect(next.hbmOffset).toBe(at(kept.buffers, id).hbmOffset);
        });
      }),
      { numRuns: 60 },
    );
  });
});

function started(executable: Executable, { inputs }: Program): BenchTpu {
  const tpu = benchTpu(executable);
  inputs.parameters.forEach(({ data }, index) => {
    tpu.cores.writeParameter(index, new Uint8Array(data.buffer).slice());
  });
  return tpu;
}

function parametersOf({ cores: it }: BenchTpu): Uint8Array[] {
  return it.executable.parameters.map((_, index) => it.readParameter(index));
}

function feedOf({ inputs }: Program): Uint8Array[][] {
  const elements = (inputs.infeed ?? []).flat().map(({ data }) => new Uint8Array(data.buffer));
  return Array.from({ length: cores }, () => elements);
}
