import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import { cse } from '../../src/compiler/passes/cse.ts';
import { variesByCore } from '../../src/compiler/sharing.ts';
import * as b from '../../src/hlo/build.ts';
import { call, scalarMap, whileLoop } from '../../src/hlo/build-control.ts';
import { partitionId, replicaId } from '../../src/hlo/build-random.ts';
import { evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { at } from '../../src/numerics/assert.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { benchTpu } from '../chip/bench-tpu.ts';
import { difference } from './same.ts';

const u32 = arrayShape('u32', []);

/** Prints and reads a module without parameters, and runs what was read on three replicas. */
function run(root: HloInstruction): number[][] {
  const module = b.module('m', [], root);
  const read = parse(print(module));
  expect(difference(read, module)).toBeUndefined();
  const results = evaluateReplicas(
    read,
    [0, 1, 2].map(() => ({ parameters: [] })),
  );
  return results.map(({ values }) => values.flatMap(valuesOf));
}

/** A loop that adds the number of the replica three times. */
function inLoop(): HloInstruction {
  const [p, q] = [0, 1].map(() => b.parameter(0, u32));
  const below = b.computation('below', [p!], b.compare('LT', p!, b.scalar('u32', 5)));
  const body = b.computation('more', [q!], b.add(b.add(q!, replicaId()), b.scalar('u32', 2)));
  return whileLoop(b.scalar('u32', 0), below, body);
}

function inReduction(): HloInstruction {
  const [p, q] = [0, 1].map((i) => b.parameter(i, u32));
  const body = b.computation('join', [p!, q!], b.add(b.add(p!, q!), replicaId()));
  return b.reduce(b.constant(literal('u32', [2], [1, 2])), b.scalar('u32', 0), [0], body);
}

function inMap(): HloInstruction {
  const p = b.parameter(0, u32);
  const body = b.computation('shift', [p], b.add(p, replicaId()));
  return scalarMap([b.constant(literal('u32', [2], [3, 5]))], body);
}

describe('replica-id', () => {
  test('is the number of the replica, also in a called computation', () => {
    const body = b.computation('own', [], replicaId());
    expect(run(b.tuple([replicaId(), call(body, [])]))).toEqual([
      [0, 0],
      [1, 1],
      [2, 2],
    ]);
  });

  test('is the number of the replica in a loop, in a reduction and in a map', () => {
    expect(run(inLoop())).toEqual([[6], [6], [8]]);
    expect(run(inReduction())).toEqual([[3], [5], [7]]);
    expect(run(inMap())).toEqual([
      [3, 5],
      [4, 6],
      [5, 7],
    ]);
  });

  test('differs between cores, and equal ones are joined', () => {
    const twice = b.module('m', [], b.add(replicaId(), replicaId()));
    expect(variesByCore([twice.entry.root])).toContain(twice.entry.root);
    const { operands } = cse(twice).entry.root;
    expect(operands[0]).toBe(operands[1]);
  });

  test.each([
    ['a loop', inLoop(), 'more of while'],
    ['a reduction', inReduction(), 'join of reduce'],
    ['a map', inMap(), 'shift of map'],
  ])('in %s is refused by the compiler, because plain code runs it', (_, root, place) => {
    const module: HloModule = b.module('m', [], root);
    expect(() => compile(module, { cores: 8 })).toThrow(
      `expected each replica-id in the entry computation, found that the computation ${place} has one`,
    );
  });

  test('on the cores of a Cloud TPU is the number of each core in the slice', () => {
    const root = b.tuple([replicaId(), b.add(replicaId(), b.scalar('u32', 1000))]);
    const executable = compile(b.module('m', [], root), { cores: 8 });
    const { cores, step } = benchTpu(executable, { firstReplica: 24 });
    const numbers = (): number[][] =>
      executable.results.map((id) =>
        Array.from({ length: 8 }, (_, core) =>
          at(new Uint32Array(cores.readBuffer(id, core).buffer), 0),
        ),
      );
    for (let i = 0; i < 2; i++) {
      step(Array.from({ length: 8 }, () => []));
      expect(numbers()).toEqual([
        [24, 25, 26, 27, 28, 29, 30, 31],
        [1024, 1025, 1026, 1027, 1028, 1029, 1030, 1031],
      ]);
    }
  });
});

describe('partition-id', () => {
  test('is 0 on every replica', () => {
    expect(run(partitionId())).toEqual([[0], [0], [0]]);
  });

  test('is printed as XLA prints it, and compiles to a constant', () => {
    const module = b.module('m', [], partitionId());
    expect(print(module)).toContain('ROOT %partition-id.0 = u32[] partition-id()\n');
    const { instructions, constants } = compile(module, { cores: 8 });
    expect(instructions.filter(({ unit }) => unit === 'plain')).toEqual([]);
    expect(constants.map(({ data }) => [...data])).toEqual([[0, 0, 0, 0]]);
  });
});

test.each(['replica-id', 'partition-id'])(
  '%s with an operand or of another type is refused',
  (it) => {
    const text = `HloModule m
ENTRY %main (p: u32[]) -> u32[] {
  %p = u32[] parameter(0)
  ROOT %r = u32[] ${it}(%p)
}`;
    expect(() => parse(text)).toThrow(`${it}(u32[]): expected 0 operands`);
    expect(() =>
      parse(text.replace('ROOT %r = u32[]', 'ROOT %r = s32[]').replace('(%p)', '()')),
    ).toThrow('expected u32[], found s32[]');
  },
);
