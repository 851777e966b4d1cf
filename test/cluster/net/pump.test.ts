import { afterEach, describe, expect, test } from 'vitest';
import { encodeFrame, FrameReader, frameKinds, headerBytes } from '../../../cluster/net/frame.ts';
import {
  crossings,
  frameBytesMax,
  processLinks,
  queueName,
  windowBytes,
} from '../../../cluster/net/route.ts';
import type { Wire } from '../../../cluster/net/wire.ts';
import { Doorbell } from '../../../src/fabric/doorbell.ts';
import { serialSum } from '../../../src/fabric/serial-sum.ts';
import { chipsOf, flatTorus, podTorus, type Torus } from '../../../src/fabric/torus.ts';
import { bits, makeVectors } from '../../fabric/slice.ts';
import type { Node, Process, Trouble } from './processes.ts';
import { closeNodes, connectProcesses, driveProcesses, makeProcess, oneEach } from './processes.ts';

const cases: { name: string; torus: Torus; processOf: number[]; elements: number }[] = [
  {
    name: '2 Cloud TPUs',
    torus: podTorus({ columns: 2, rows: 1 }),
    processOf: [0, 1],
    elements: 5003,
  },
  {
    name: '4 Cloud TPUs',
    torus: podTorus({ columns: 2, rows: 2 }),
    processOf: [0, 1, 2, 3],
    elements: 140_000,
  },
  {
    name: '4 Cloud TPUs in 2 processes',
    torus: podTorus({ columns: 2, rows: 2 }),
    processOf: [1, 0, 1, 1],
    elements: 70_001,
  },
  {
    name: '4 ranks on a ring',
    torus: flatTorus(4, 1),
    processOf: oneEach(flatTorus(4, 1)),
    elements: 600_003,
  },
  { name: '6 ranks', torus: flatTorus(3, 2), processOf: oneEach(flatTorus(3, 2)), elements: 17 },
];

describe('a pump', () => {
  const torus = podTorus({ columns: 2, rows: 1 });
  const hosting = { torus, processOf: [0, 1], self: 0 };
  const incoming = crossings(hosting).in[0];
  const queue = incoming?.queue ?? -1;
  const tensor = { kind: frameKinds.tensor, epoch: 3, collective: 0, sequence: 0, queue, code: 0 };
  const payload = new Uint8Array(frameBytesMax).map((_, i) => i * 31);

  function receiver(): { process: Process; reader: FrameReader } {
    const process = makeProcess(hosting, 4096, 3);
    const sink = process.pump.openIn(1, silentWire());
    if ('code' in sink) throw new Error(sink.text);
    return { process, reader: new FrameReader(sink) };
  }

  test('takes frames of its membership, from their own links, of their size, with credit', () => {
    expect(receiver().reader.push(encodeFrame(tensor, payload))).toBeUndefined();
    const wrong: [string, Partial<typeof tensor>, Uint8Array][] = [
      ['epoch', { epoch: 2 }, payload],
      ['epoch', { epoch: 4 }, payload],
      ['queue', { queue: crossings(hosting).out[0]?.queue ?? -1 }, payload],
      ['queue', { queue: 0xffffffff }, payload],
      ['length', {}, new Uint8Array(frameBytesMax + 4)],
      ['length', {}, new Uint8Array(6)],
      ['length', {}, new Uint8Array(0)],
      ['order', { kind: frameKinds.credit as 6 }, new Uint8Array(0)],
    ];
    for (const [code, changes, bytes] of wrong) {
      const frame = encodeFrame({ ...tensor, ...changes }, bytes);
      expect(receiver().reader.push(frame), code).toMatchObject({ code });
    }
    const { reader } = receiver();
    const fits = windowBytes / frameBytesMax;
    for (let i = 0; i < fits; i++)
      expect(reader.push(encodeFrame(tensor, payload))).toBeUndefined();
    expect(reader.push(encodeFrame(tensor, payload))).toMatchObject({ code: 'credit' });
  });

  test('names the link of a corrupt frame, and delivers nothing of it', () => {
    const { reader } = receiver();
    const frame = encodeFrame(tensor, payload);
    frame[headerBytes + 70_000]! ^= 4;
    const refusal = reader.push(frame);
    expect(refusal?.code).toBe('payload-crc');
    expect(queueName(torus, refusal?.header?.queue ?? -1)).toMatch(/^chip\(2,0\)[+-]x$/);
  });

  test('serves one connection a peer, and neighbours only', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    expect(pump.openOut(7, silentWire())).toMatchObject({ code: 'peer' });
    expect(pump.openIn(7, silentWire())).toMatchObject({ code: 'peer' });
    expect(pump.openOut(1, silentWire())).not.toHaveProperty('code');
    expect(pump.openOut(1, silentWire())).toMatchObject({ code: 'peer' });
  });

  test('refuses credit for what was not sent', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    const sink = pump.openOut(1, silentWire());
    if ('code' in sink) throw new Error(sink.text);
    const out = crossings(hosting).out[0]?.queue ?? -1;
    const credit = { ...tensor, kind: frameKinds.credit, queue: out, sequence: 1 };
    expect(new FrameReader(sink).push(encodeFrame(credit))).toMatchObject({ code: 'credit' });
  });

  test('stops sending to one that gives nothing back', () => {
    const { pump, memory, layout } = makeProcess(hosting, 64, 3);
    let sent = 0;
    const wire: Wire = {
      ...silentWire(),
      write(_, it) {
        sent += it?.length ?? 0;
        return true;
      },
    };
    pump.openOut(1, wire);
    const links = processLinks(memory, layout, hosting, new Doorbell(memory, layout, 0));
    const queues = crossings(hosting).out.map(({ link, colour }) => links.out(link, colour));
    const frame = { address: 0, bytes: frameBytesMax, epoch: 3, collective: 0, sequence: 0 };
    for (let i = 0; i < 100; i++) {
      for (const queue of queues) if (queue.hasRoom()) queue.send(frame);
      while (pump.step());
    }
    expect(queues.some((queue) => queue.hasRoom())).toBe(false);
    expect(sent).toBe(queues.length * windowBytes);
  });
});

test.each(['unix', 'ws'] as const)(
  'a connection of an earlier epoch is refused over %s',
  async (over) => {
    const torus = podTorus({ columns: 2, rows: 1 });
    const processes = [0, 1].map((self) => makeProcess({ torus, processOf: [0, 1], self }, 64, 4));
    const troubles: Trouble[] = [];
    const nodes = await connectProcesses(processes, over, 4, (it) => troubles.push(it), 3);
    try {
      while (troubles.length < 4) await new Promise((resolve) => setTimeout(resolve, 5));
      const refused = troubles.filter((it) => it.end === 'in').map((it) => it.refusal);
      expect(refused).toMatchObject([{ code: 'epoch' }, { code: 'epoch' }]);
    } finally {
      await closeNodes(nodes);
    }
  },
);

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

function silentWire(): Wire {
  return { write: () => true, waiting: 0, end: () => undefined };
}

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
