import { existsSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { assaults } from '../../../scripts/fuzz-assaults.ts';
import { fuzzPod } from '../../../scripts/fuzz-pod.ts';
import { requireCompiled } from '../compiled.ts';

beforeAll(requireCompiled);

test.runIf(existsSync('/proc/self/net/unix'))(
  '2,000 hostile inputs over sockets do not disturb a pod that trains',
  async () => {
    const { inputs, counts, steps, compared, wrongs } = await fuzzPod({
      ...{ inputs: 2000, seed: 7, lines: 16 },
    });
    expect(wrongs).toEqual([]);
    expect(inputs).toBeGreaterThanOrEqual(2000);
    expect(Object.keys(counts).sort()).toEqual(assaults.map(({ name }) => name).sort());
    expect(compared).toBeGreaterThan(steps);
  },
  120_000,
);
