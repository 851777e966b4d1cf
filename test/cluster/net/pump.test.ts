import { afterEach, describe, expect, test } from 'vitest';
import { serialSum } from '../../../src/fabric/serial-sum.ts';
import { chipsOf, flatTorus, podTorus, type Torus } from '../../../src/fabric/torus.ts';
import { bits, makeVectors } from '../../fabric/slice.ts';
import type { Node, Process, Trouble } from './processes.ts';
import { closeNodes, connectProcesses, driveProcesses, makeProcess, oneEach } from './processes.ts';

const cases: { name: string; torus: Torus; processOf: number[]; elements: number }[] = [
  { name: '2 Cloud TPUs', torus: podTorus({ columns: 2, rows: 1 }), processOf: [0, 1], elements: 5003 },
  { name: '4 Cloud TPUs', torus: podTorus({ columns: 2, rows: 2 }), processOf: [0, 1, 2, 3], elements: 300_000 },
  { name: '4 Cloud TPUs in 2 processes', torus: podTorus({ columns: 2, rows: 2 }), processOf: [1, 0, 1, 1], elements: 70_001 },
  { name: '4 ranks on a ring', torus: flatTorus(4, 1), processOf: oneEach(flatTorus(4, 1)), elements: 1_000_003 },
  { name: '6 ranks', torus: flatTorus(3, 2), processOf: oneEach(flatTorus(3, 2)), elements: 17 },
];

describe.each(['unix', 'ws'] as const)('all-reduce between processes over %s', (over) => {
  let nodes: Node[] = [];
  afterEach(() => closeNodes(nodes));

  test.each(cases)('$name: the bits of serialSum', async ({ torus, processOf, elements }) => {
    const troubles: Trouble[] = [];
    const processes = [...new Set(processOf)].map((self) =>
      makeProcess({ torus, processOf, self }, elements, 3),
    );
    nodes = await connectProcesses(processes, over, 3, (it) => troubles.push(it));
    expect(nodes.flatMap((node) => node.clients.map((it) => it.over))).toContain(over);
    for (let run = 0; run < 2; run++) {
      const vectors = makeVectors(torus, elements, run + 7);
      fill(processes, vectors);
      await driveProcesses(processes, () => troubles.length > 0);
      expect(troubles).toEqual([]);
      const expected = bits(serialSum(torus, vectors));
      for (const process of processes) {
        for (const worker of process.workers.keys()) {
          const sum = process.vector(chipsOf(torus, worker)[0] ?? -1);
          expect(Buffer.compare(bytes(bits(sum)), bytes(expected))).toBe(0);
        }
      }
    }
  });
});

function fill(processes: readonly Process[], vectors: readonly Float32Array[]): void {
  for (const process of processes) {
    for (const worker of process.workers.keys()) {
      for (const chip of chipsOf(process.hosting.torus, worker)) {
        process.vector(chip).set(vectors[chip] ?? []);
      }
    }
  }
}

function bytes(words: Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}
