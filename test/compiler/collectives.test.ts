import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { canonicalize } from '../../src/compiler/passes/canonicalize.ts';
import { compileWith } from '../../src/compiler/pipeline.ts';
import * as b from '../../src/hlo/build.ts';
import { allToAll } from '../../src/hlo/build-collective.ts';
import { evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloModule } from '../../src/hlo/instruction.ts';
import { verify } from '../../src/hlo/verify.ts';
import { bytesOf } from '../../src/numerics/literal.ts';
import { arbitraryCollectives } from '../hlo/collective-cases.ts';
import { interpret } from './interpret.ts';
import { keepLoops } from './loops.ts';

const replicas = 8;
const inputs = Array.from({ length: replicas }, () => ({ parameters: [] }));

test('canonical collectives have the results of the collectives', () => {
  fc.assert(
    fc.property(arbitraryCollectives(replicas), (module) => {
      const after = canonicalize(module, { replicas });
      verify(after);
      expect(resultsOf(after)).toEqual(resultsOf(module));
    }),
    { numRuns: 300 },
  );
});

test('an executable exchanges rows so that collectives have the results of evaluateReplicas', () => {
  fc.assert(
    fc.property(arbitraryCollectives(replicas), (module) => {
      const loops = keepLoops({ supports, inPlace });
      const executable = compileWith(loops, module, { cores: replicas, replicas });
      const { results } = interpret(executable, loops.kept, inputs);
      expect(results.map((all) => all.map(bytesOf))).toEqual(resultsOf(module));
    }),
    { numRuns: 300 },
  );
});

test('an all-to-all of all replicas needs their number', () => {
  const x = b.full('f32', [8], 1);
  const module = b.module('m', [], allToAll(x, { dimension: 0 }));
  expect(() => canonicalize(module)).toThrow(
    /^all-to-all: expected groups, because the number of replicas is not known$/,
  );
  expect(() => canonicalize(module, { replicas })).not.toThrow();
});

/** Returns the bytes of each result of each replica. */
function resultsOf(module: HloModule): Uint8Array[][] {
  const runs = evaluateReplicas(module, inputs);
  return runs.map(({ values }) => values.map((it) => bytesOf(it)));
}
