import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { planExchanges } from '../../cluster/runtime/collectives.ts';
import { openThreadPod, type ThreadPodOptions } from '../../cluster/threads/pool.ts';
import { frameElementsMax } from '../../src/fabric/part.ts';
import { type ExchangePlans, planExchange } from '../../src/fabric/plan-exchange.ts';
import { podTorus, type Topology } from '../../src/fabric/torus.ts';
import type { Fault } from '../../src/fault/plan.ts';
import type { HloModule } from '../../src/hlo/instruction.ts';
import { bytesOf } from '../../src/numerics/literal.ts';
import type { Note } from '../../src/pod/master/action.ts';
import { arbitraryCollectives, kinds, moduleOf } from '../hlo/collective-cases.ts';
import { requireCompiled } from './compiled.ts';
import { compiled, expectedWeights, initialWeights, mixing } from './mixing.ts';

beforeAll(requireCompiled);

const steps = 3;

describe('collectives of a pod of threads give the bits of evaluateReplicas', () => {
  test.each([
    [{ columns: 1, rows: 1 }, 6],
    [{ columns: 2, rows: 1 }, 4],
    [{ columns: 1, rows: 3 }, 2],
    [{ columns: 3, rows: 2 }, 2],
    [{ columns: 4, rows: 4 }, 1],
  ])('on %o Cloud TPUs', async (topology, count) => {
    const replicas = 8 * topology.columns * topology.rows;
    for (const module of modulesFor(replicas, count)) {
      const { weights } = await run(topology, module);
      expect(weights).toEqual(expectedWeights(module, replicas, steps));
    }
  });

  test.each(kinds)('after a Cloud TPU is lost in the middle of an %s', async (kind) => {
    const half = Array.from({ length: 16 }, (_, i) => 2 * i);
    const groups = [half, half.map((replica) => replica + 1)];
    const common = { type: 'bf16', size: 5, dimension: 1, body: 'subtract', seed: 21 } as const;
    const module = mixing(moduleOf([{ ...common, kind, groups }], 32));
    const expected = expectedWeights(module, 32, steps);
    const bucket = compiled(module, 32).buckets.length;
    const at = { step: 2, phase: 'all-gather', bucket, hop: 5 } as const;
    const faults: Fault[] = [{ fault: 'throw', tpu: 2, at }];
    const { weights, notes } = await run({ columns: 2, rows: 2 }, module, { faults });
    expect(weights).toEqual(expected);
    expect(notes.map(({ event }) => event)).toEqual(['lost', 'replaced', 'restored', 'resumed']);
  });
});

test('rows that all replicas of a Cloud TPU share are sent to it once', () => {
  const torus = podTorus({ columns: 2, rows: 1 });
  const one = { type: 'f32', size: 8, dimension: 0, body: 'add', seed: 3 } as const;
  const module = moduleOf([{ ...one, kind: 'all-gather', groups: [] }], 16);
  const executable = compiled(module, 16);
  const { pattern, rowBytes } = executable.exchanges[0]!;
  const of = { torus, cores: 8, pattern, rowWords: rowBytes / 4, frameElements: frameElementsMax };
  const lengthOf = (sharesTarget: boolean): number =>
    planExchange({ ...of, sharesTarget }).hops.length;
  const [[found]] = planExchanges({ torus, executables: [executable] }) as [[ExchangePlans]];
  expect(found.hops.length).toBe(lengthOf(true));
  expect(found.hops.length).toBeLessThan(lengthOf(false));
});

/** Returns random modules, always the same ones. */
function modulesFor(replicas: number, count: number): HloModule[] {
  const all = fc.sample(arbitraryCollectives(replicas), { numRuns: count, seed: 7 * replicas });
  return all.map(mixing);
}

/** Runs a program of {@link mixing}. Returns the weights after each step, and the pod's notes. */
async function run(
  topology: Topology,
  module: HloModule,
  options: Partial<ThreadPodOptions> = {},
): Promise<{ readonly weights: Uint8Array[]; readonly notes: readonly Note[] }> {
  const notes: Note[] = [];
  const executable = compiled(module, 8 * topology.columns * topology.rows);
  const pod = await openThreadPod({
    ...{ topology, mxu: 'fast', recovery: 'replace', onNote: (note) => notes.push(note) },
    programs: [{ executable, digested: 1 }],
    ...options,
  });
  try {
    await pod.writeParameters(0, [bytesOf(initialWeights)]);
    const weights: Uint8Array[] = [];
    for (let step = 0; step < steps; step++) {
      await pod.step(0);
      weights.push((await pod.readParameters(0))[0]!.slice());
    }
    return { weights, notes };
  } finally {
    await pod.close();
  }
}
