import { crc32 } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import {
  emptyHeader,
  encodeFrame,
  type FrameHeader,
  FrameReader,
  type FrameSink,
  frameKinds,
  headerBytes,
  type Refusal,
} from '../../../cluster/net/frame.ts';
import { silentBeatsMax } from '../../../cluster/net/pump.ts';
import {
  crossings,
  frameSizes,
  queueName,
  segmentFrames,
  segmentSlot,
  windowFrames,
} from '../../../cluster/net/route.ts';
import type { Wire } from '../../../cluster/net/wire.ts';
import { emptyFrame, type Links } from '../../../src/fabric/link.ts';
import { serialSum } from '../../../src/fabric/serial-sum.ts';
import { chipsOf, flatTorus, podTorus, type Torus } from '../../../src/fabric/torus.ts';
import { assert, at } from '../../../src/numerics/assert.ts';
import { bits, makeVectors } from '../../fabric/slice.ts';
import type { Node, Process, Trouble } from './processes.ts';
import { closeNodes, connectProcesses, driveProcesses, makeProcess, oneEach } from './processes.ts';
import { segmentsHere } from './segments.ts';

/** Processes share memory on Linux only. */
const isLinux = process.platform === 'linux';

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
  const tensor = { ...emptyHeader(), kind: frameKinds.tensor, generation: 3, queue };
  const elements = 1_000_000;
  const { frameBytes } = frameSizes(torus, elements);
  const payload = new Uint8Array(frameBytes).map((_, i) => i * 31);

  const outgoing = at(crossings(hosting).out, 0);
  const piece = { bytes: 64, generation: 3 };
  /**
   * First frame that a peer sends on a connection. It tells the pump that the peer reads from this
   * connection.
   */
  const hearing = { ...tensor, kind: frameKinds.credit, queue: outgoing.queue };

  function receiver(): { process: Process; reader: FrameReader } {
    const process = makeProcess(hosting, elements, 3);
    const sink = process.pump.openIn(1, silentWire());
    if ('code' in sink) throw new Error(sink.text);
    return { process, reader: new FrameReader(sink) };
  }

  test('accepts only frames of its generation, of an incoming queue, of a valid size, with credit', () => {
    expect(receiver().reader.push(encodeFrame(tensor, payload))).toBeUndefined();
    const wrong: [string, Partial<typeof tensor>, Uint8Array][] = [
      ['generation', { generation: 2 }, payload],
      ['generation', { generation: 4 }, payload],
      ['queue', { queue: crossings(hosting).out[0]?.queue ?? -1 }, payload],
      ['queue', { queue: 0xffffffff }, payload],
      ['length', {}, new Uint8Array(frameBytes + 4)],
      ['length', {}, new Uint8Array(6)],
      ['length', {}, new Uint8Array(0)],
      ['order', { kind: frameKinds.credit as 6 }, new Uint8Array(0)],
    ];
    for (const [code, changes, bytes] of wrong) {
      const frame = encodeFrame({ ...tensor, ...changes }, bytes);
      expect(receiver().reader.push(frame), code).toMatchObject({ code });
    }
    const { reader } = receiver();
    for (let i = 0; i < windowFrames; i++)
      expect(reader.push(encodeFrame(tensor, payload))).toBeUndefined();
    expect(reader.push(encodeFrame(tensor, payload))).toMatchObject({ code: 'credit' });
  });

  test('reports a peer from which nothing has arrived for more than ten beats', () => {
    const { process, reader } = receiver();
    const beats = (count: number): readonly number[] =>
      Array.from({ length: count }, () => process.pump.beat(false)).flat();
    expect(beats(silentBeatsMax)).toEqual([]);
    expect(process.pump.beat(false)).toEqual([1]);
    const alive = { ...emptyHeader(), kind: frameKinds.alive, generation: 3 };
    expect(reader.push(encodeFrame(alive))).toBeUndefined();
    expect(beats(silentBeatsMax)).toEqual([]);
    expect(process.pump.beat(false)).toEqual([1]);
  });

  test('reports a peer without a connection only while an all-reduce waits', () => {
    const { pump } = makeProcess(hosting, elements, 3);
    const beats = (count: number, isWaiting: boolean): readonly number[] =>
      Array.from({ length: count }, () => pump.beat(isWaiting)).flat();
    expect(beats(3 * silentBeatsMax, false)).toEqual([]);
    expect(beats(silentBeatsMax, true)).toEqual([]);
    expect(pump.beat(true)).toEqual([1]);
  });

  test('tells its peers at each beat that it lives', () => {
    const { pump } = makeProcess(hosting, elements, 3);
    const sent: [string, number][] = [];
    const wire = (name: string): Wire => ({
      ...silentWire(),
      write: (head) => sent.push([name, Buffer.from(head).readUInt16LE(6)]) > 0,
    });
    pump.openIn(1, wire('in'));
    pump.openOut(1, wire('out'));
    sent.length = 0;
    pump.beat(false);
    expect(sent).toEqual([
      ['out', frameKinds.alive],
      ['in', frameKinds.alive],
    ]);
  });

  test('tells at each beat how many frames it has sent, while their release is not reported', () => {
    const { pump } = makeProcess(hosting, elements, 3);
    const sent: Buffer[] = [];
    const wire = { ...silentWire(), write: (head: Uint8Array) => sent.push(Buffer.from(head)) > 0 };
    const reader = new FrameReader(opened(pump.openOut(1, wire)));
    expect(reader.push(encodeFrame(hearing))).toBeUndefined();
    const out = pump.links(noLinks).out(outgoing.link, outgoing.colour);
    for (let i = 0; i < 2; i++) out.send({ ...emptyFrame(), ...piece });
    pump.start();
    const counts = (): readonly number[] => {
      sent.length = 0;
      pump.beat(false);
      const frames = sent.filter((head) => head.readUInt16LE(6) === frameKinds.sent);
      return frames.flatMap((head) => [head.readUInt32LE(20), head.readUInt32LE(32)]);
    };
    expect(counts()).toEqual([outgoing.queue, 2]);
    expect(reader.push(encodeFrame({ ...hearing, returned: 2 }))).toBeUndefined();
    expect(counts()).toEqual([]);
  });

  test('notices a lost frame, and one that arrived twice, although no other frame follows', () => {
    const sent = { ...tensor, kind: frameKinds.sent };
    for (const [returned, code] of [[1], [2, 'lost'], [0, 'lost']] as const) {
      const { reader } = receiver();
      expect(reader.push(encodeFrame(tensor, payload))).toBeUndefined();
      const refusal = reader.push(encodeFrame({ ...sent, returned }));
      expect(refusal?.code).toBe(code);
      if (code) expect(refusal?.text).toContain(`${returned} frames were sent, 1 arrived`);
    }
    const wrong: [string, Partial<typeof sent>, Uint8Array?][] = [
      ['generation', { generation: 2 }],
      ['queue', { queue: outgoing.queue }],
      ['length', {}, new Uint8Array(4)],
    ];
    for (const [code, changes, bytes = new Uint8Array(0)] of wrong) {
      const frame = encodeFrame({ ...sent, ...changes }, bytes);
      expect(receiver().reader.push(frame), code).toMatchObject({ code });
    }
  });

  test('names the link of a corrupt frame and delivers nothing of the frame', () => {
    const { reader } = receiver();
    const frame = encodeFrame(tensor, payload);
    frame[headerBytes + 70_000]! ^= 4;
    const refusal = reader.push(frame);
    expect(refusal?.code).toBe('payload-crc');
    expect(queueName(torus, refusal?.header?.queue ?? -1)).toMatch(/^chip\(2,0\)[+-]x$/);
  });

  test('serves neighbours only, and one connection of each once a frame has arrived on it', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    expect(pump.openOut(7, silentWire())).toMatchObject({ code: 'peer' });
    expect(pump.openIn(7, silentWire())).toMatchObject({ code: 'peer' });
    const reader = new FrameReader(opened(pump.openOut(1, silentWire())));
    expect(reader.push(encodeFrame(hearing))).toBeUndefined();
    expect(pump.openOut(1, silentWire())).toMatchObject({ code: 'peer' });
  });

  test('uses the newer of two connections of a peer unless a frame has arrived on the older', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    const [older, newer] = [countingWire(), countingWire()];
    const olderReader = new FrameReader(opened(pump.openOut(1, older)));
    const reader = new FrameReader(opened(pump.openOut(1, newer)));
    expect([older.ends, newer.ends]).toEqual([1, 0]);
    expect(olderReader.push(encodeFrame(hearing))).toMatchObject({ code: 'peer' });
    pump
      .links(noLinks)
      .out(outgoing.link, outgoing.colour)
      .send({ ...emptyFrame(), ...piece });
    pump.start();
    expect([older.bytes, newer.bytes]).toEqual([0, 0]);
    expect(reader.push(encodeFrame(hearing))).toBeUndefined();
    expect([older.bytes, newer.bytes]).toEqual([0, piece.bytes]);
    // `closedOut` returns true if the close of a connection loses no frames. The older connection
    // loses none, because the newer one has replaced it. The newer one may lose frames.
    expect([pump.closedOut(1, older), pump.closedOut(1, newer)]).toEqual([true, false]);
  });

  test('forgets a connection that closes before its first frame', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    const wire = silentWire();
    opened(pump.openOut(1, wire));
    expect(pump.closedOut(1, wire)).toBe(true);
    opened(pump.openOut(1, silentWire()));
  });

  test('refuses credit for frames that were not sent', () => {
    const { pump } = makeProcess(hosting, 64, 3);
    const reader = new FrameReader(opened(pump.openOut(1, silentWire())));
    const credit = { ...hearing, returned: 1 };
    expect(reader.push(encodeFrame(credit))).toMatchObject({ code: 'credit' });
  });

  describe('with traffic in both directions', () => {
    const coming = { ...tensor, queue: outgoing.reverse };
    const small = new Uint8Array(64);

    function bothWays() {
      const { pump } = makeProcess(hosting, elements, 3);
      const [sent, credits] = [countingWire(), countingWire()];
      const back = new FrameReader(opened(pump.openOut(1, sent)));
      expect(back.push(encodeFrame(hearing))).toBeUndefined();
      const reader = new FrameReader(opened(pump.openIn(1, credits)));
      pump.start();
      const links = pump.links(noLinks);
      const out = links.out(outgoing.link, outgoing.colour);
      const from = crossings(hosting).in.find((it) => it.queue === coming.queue);
      if (from === undefined) throw new Error(`no queue ${coming.queue} comes in`);
      expect(from.reverse).toBe(outgoing.queue);
      const send = (): void => {
        if (out.hasRoom()) out.send({ ...emptyFrame(), ...piece });
        pump.poke();
      };
      const take = (): void => {
        expect(reader.push(encodeFrame(coming, small))).toBeUndefined();
        links.in(from.link, from.colour).release();
        pump.poke();
      };
      return { reader, sent, credits, send, take };
    }

    test('learns from an incoming frame how many outgoing frames were released', () => {
      const { reader, sent, send } = bothWays();
      const come = (returned: number) => reader.push(encodeFrame({ ...coming, returned }, small));
      for (let i = 0; i < windowFrames + 4; i++) send();
      expect(sent.returned.length).toBe(windowFrames);
      expect(come(2)).toBeUndefined();
      expect(sent.returned.length).toBe(windowFrames + 2);
      // `returned` is the number of frames that the peer has released since the start. A frame with
      // a smaller `returned` than an earlier frame changes nothing.
      expect(come(1)).toBeUndefined();
      expect(sent.returned.length).toBe(windowFrames + 2);
      expect(come(windowFrames + 3)).toMatchObject({ code: 'credit' });
    });

    test('reports released frames in outgoing frames, or in a credit message if there are none', () => {
      const { sent, credits, send, take } = bothWays();
      // The pump has sent one credit frame, which reports that 0 frames were released. This frame
      // only tells the peer that the pump reads from the connection.
      expect(credits.returned).toEqual([0]);
      for (let i = 0; i < windowFrames - 1; i++) {
        take();
        send();
      }
      expect(sent.returned).toEqual(Array.from({ length: windowFrames - 1 }, (_, i) => i + 1));
      expect(credits.returned).toEqual([0]);
      for (let i = 0; i < windowFrames; i++) take();
      expect(credits.returned.length).toBe(2);
    });
  });

  test('stops sending to a peer that releases no frames', () => {
    const { pump } = makeProcess(hosting, elements, 3);
    const wire = countingWire();
    const reader = new FrameReader(opened(pump.openOut(1, wire)));
    expect(reader.push(encodeFrame(hearing))).toBeUndefined();
    const links = pump.links(noLinks);
    const queues = crossings(hosting).out.map(({ link, colour }) => links.out(link, colour));
    const frame = { ...emptyFrame(), bytes: frameBytes, generation: 3 };
    for (let i = 0; i < 100; i++) {
      for (const queue of queues) if (queue.hasRoom()) queue.send(frame);
      while (pump.step());
    }
    expect(queues.some((queue) => queue.hasRoom())).toBe(false);
    expect(wire.bytes).toBe(queues.length * windowFrames * frameBytes);
  });
});

describe.skipIf(!isLinux)('a pump that shares memory', () => {
  const torus = podTorus({ columns: 2, rows: 1 });
  const hosting = { torus, processOf: [0, 1] };
  const [sending, receiving] = [
    { ...hosting, self: 0 },
    { ...hosting, self: 1 },
  ];
  const elements = 100_000;
  const generation = 3;
  const { frameBytes } = frameSizes(torus, elements);
  const crossing = at(crossings(sending).out, 0);
  const credit = { ...emptyHeader(), kind: frameKinds.credit, generation, queue: crossing.queue };
  const mapped = { ...emptyHeader(), kind: frameKinds.mapped, generation, sequence: 1 };
  const tensor = { ...emptyHeader(), kind: frameKinds.tensor, generation, queue: crossing.queue };
  const refuses = (reader: FrameReader, record: Uint8Array): unknown => reader.push(record)?.code;

  /**
   * Makes two connected pumps. Returns them, the wires to which they write, and the frame readers
   * of both ends.
   */
  function makePair(shares: readonly [boolean, boolean] = [true, true]) {
    const sender = makeProcess(sending, elements, generation, shares[0]);
    const receiver = makeProcess(receiving, elements, generation, shares[1]);
    const [out, back] = [localWire(), localWire()];
    const atSender = new FrameReader(opened(sender.pump.openOut(1, out)));
    const atReceiver = new FrameReader(opened(receiver.pump.openIn(0, back)));
    closing.push(
      () => sender.pump.close(),
      () => receiver.pump.close(),
    );
    return { sender, receiver, out, back, atSender, atReceiver };
  }

  const closing: (() => void)[] = [];
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });

  /**
   * Makes two connected pumps. The sender has offered a segment of shared memory, and the receiver
   * has mapped it.
   */
  function makeSharing() {
    const pair = makePair();
    const { sender, out, back, atSender, atReceiver } = pair;
    expect(out.records.length).toBe(1);
    expect(atReceiver.push(at(out.records.splice(0), 0))).toBeUndefined();
    // The receiver has answered with two frames. The first says that the receiver reads from the
    // connection. The second says that the receiver has mapped the segment.
    for (const record of back.records.splice(0)) expect(atSender.push(record)).toBeUndefined();
    sender.pump.start();
    const link = sender.pump.links(noLinks).out(crossing.link, crossing.colour);
    const address = sender.vector(0).byteOffset;
    const send = (bytes: number, sequence: number): Buffer[] => {
      link.send({ ...emptyFrame(), generation, address, bytes, sequence });
      sender.pump.poke();
      return out.records.splice(0);
    };
    return { ...pair, link, send };
  }

  test('sends headers alone, and the receiver finds the payloads in shared memory', () => {
    const { sender, receiver, atReceiver, atSender, back, link, send } = makeSharing();
    const memory = Buffer.from(receiver.vector(4).buffer);
    const taking = receiver.pump.links(noLinks).in(crossing.link, crossing.colour);
    receiver.pump.start();
    const frame = emptyFrame();
    for (let i = 0; i < 20; i++) {
      const bytes = i % 3 === 0 ? frameBytes : 64 * (i + 1);
      const payload = Buffer.alloc(bytes, i + 1);
      Buffer.from(sender.vector(0).buffer, sender.vector(0).byteOffset, bytes).set(payload);
      const records = send(bytes, i);
      expect(records.map(({ length }) => length)).toEqual([headerBytes]);
      expect(link.isReleased(i + 1)).toBe(true);
      expect(atReceiver.push(at(records, 0))).toBeUndefined();
      expect(taking.peek(frame)).toBe(true);
      expect(frame).toMatchObject({ bytes, sequence: i, crc: crc32(payload) });
      expect(memory.compare(payload, 0, bytes, frame.address, frame.address + bytes)).toBe(0);
      taking.release();
      receiver.pump.poke();
      for (const record of back.records.splice(0)) expect(atSender.push(record)).toBeUndefined();
    }
  });

  test('has only as many frames under way as the segment has slots, and refuses more', () => {
    const { atReceiver, out, send } = makeSharing();
    for (let i = 0; i < segmentFrames; i++) {
      expect(atReceiver.push(at(send(64, i), 0))).toBeUndefined();
    }
    expect(send(64, segmentFrames)).toEqual([]);
    expect(out.records).toEqual([]);
    const header = { ...tensor, kind: frameKinds.shared };
    expect(refuses(atReceiver, headerOf(header, 64))).toBe('credit');
  });

  test('refuses a frame whose payload changed in shared memory, by its CRC', () => {
    const { sender, receiver, atReceiver, send } = makeSharing();
    const memory = Buffer.from(sender.vector(0).buffer);
    const [first] = send(frameBytes, 0);
    const place = sender.layout.segments.out[0]!;
    expect(segmentSlot(place, sender.sizes, crossing.queue, 0)).toBe(place.address);
    memory[place.address + frameBytes - 1]! ^= 1;
    expect(atReceiver.push(first!)).toMatchObject({
      code: 'payload-crc',
      header: { queue: crossing.queue },
    });
    expect(receiver.pump.links(noLinks).in(crossing.link, crossing.colour).isEmpty()).toBe(true);
  });

  test('offers a new segment on a newer connection', () => {
    const { sender, out } = makePair();
    const newer = localWire();
    opened(sender.pump.openOut(1, newer));
    const receiver = makeProcess(receiving, elements, generation, true);
    closing.push(() => receiver.pump.close());
    const reader = new FrameReader(opened(receiver.pump.openIn(0, localWire())));
    expect(out.records.length).toBe(1);
    expect(reader.push(at(newer.records, 0))).toBeUndefined();
  });

  test('keeps no segment open after it is mapped, and none mapped after closing', () => {
    const before = segmentsHere();
    const { sender, receiver, atSender, atReceiver, out, back } = makePair();
    expect(segmentsHere()).toEqual({ open: before.open + 1, mapped: before.mapped + 1 });
    expect(atReceiver.push(at(out.records, 0))).toBeUndefined();
    expect(segmentsHere()).toEqual({ open: before.open + 1, mapped: before.mapped + 2 });
    for (const record of back.records) expect(atSender.push(record)).toBeUndefined();
    expect(segmentsHere()).toEqual({ open: before.open, mapped: before.mapped + 2 });
    sender.pump.close();
    receiver.pump.close();
    expect(segmentsHere()).toEqual(before);

    const refused = makePair();
    expect(refused.atSender.push(encodeFrame({ ...mapped, sequence: 0 }))).toBeUndefined();
    expect(segmentsHere()).toEqual(before);
  });

  test('sends payloads through the socket when the other end does not map the segment', () => {
    const { sender, out, atSender } = makePair();
    out.records.splice(0);
    expect(atSender.push(encodeFrame(credit))).toBeUndefined();
    expect(atSender.push(encodeFrame({ ...mapped, sequence: 0 }))).toBeUndefined();
    sender.pump.start();
    const link = sender.pump.links(noLinks).out(crossing.link, crossing.colour);
    const address = sender.vector(0).byteOffset;
    link.send({ ...emptyFrame(), generation, address, bytes: 64 });
    sender.pump.poke();
    expect(out.records.map(({ length }) => length)).toEqual([headerBytes + 64]);
  });

  test('refuses shared frames without an offer, a second offer, and offers of another host', () => {
    const plain = makePair([false, true]);
    expect(plain.out.records).toEqual([]);
    expect(refuses(plain.atSender, encodeFrame(mapped))).toBe('order');
    const header = { ...tensor, kind: frameKinds.shared };
    expect(refuses(plain.atReceiver, headerOf(header, 64))).toBe('order');

    const offer = at(makePair().out.records, 0);
    const twice = makePair();
    expect(twice.atReceiver.push(at(twice.out.records, 0))).toBeUndefined();
    expect(refuses(twice.atReceiver, offer)).toBe('order');
    expect(refuses(makePair([true, false]).atReceiver, offer)).toBe('order');

    const answered = makeSharing();
    expect(refuses(answered.atSender, encodeFrame(mapped))).toBe('order');

    const far = makeProcess(receiving, elements, generation, true);
    expect(refuses(new FrameReader(opened(far.pump.openIn(0, silentWire()))), offer)).toBe('order');
    const stale = Buffer.from(offer.subarray(headerBytes));
    const record = encodeFrame({ ...mapped, kind: frameKinds.segment, generation: 2 }, stale);
    expect(refuses(makePair().atReceiver, record)).toBe('generation');
  });
});

/** Returns the header of a frame without the payload, which consists of `bytes` zeros. */
function headerOf(header: Omit<FrameHeader, 'bytes'>, bytes: number): Buffer {
  return encodeFrame(header, new Uint8Array(bytes)).subarray(0, headerBytes);
}

test.each(['unix', 'ws'] as const)(
  'a connection of an earlier generation is refused over %s',
  async (over) => {
    const torus = podTorus({ columns: 2, rows: 1 });
    const processes = [0, 1].map((self) => makeProcess({ torus, processOf: [0, 1], self }, 64, 4));
    const troubles: Trouble[] = [];
    const nodes = await connectProcesses(processes, over, 4, (it) => troubles.push(it), 3);
    try {
      while (troubles.length < 4) await new Promise((resolve) => setTimeout(resolve, 5));
      const refused = troubles.filter((it) => it.end === 'in').map((it) => it.refusal);
      expect(refused).toMatchObject([{ code: 'generation' }, { code: 'generation' }]);
    } finally {
      await closeNodes(nodes);
    }
  },
);

const ways = [
  { over: 'ws', shares: true, way: 'ws, which shares no memory' },
  { over: 'unix', shares: false, way: 'unix' },
  { over: 'unix', shares: true, way: 'unix and shared memory' },
] as const;

describe.each(ways.filter((it) => isLinux || !it.shares))(
  'all-reduce between processes over $way',
  ({ over, shares }) => {
    let nodes: Node[] = [];
    afterEach(() => closeNodes(nodes));

    test.each(cases)('$name: gives serialSum', async ({ torus, processOf, elements }) => {
      const troubles: Trouble[] = [];
      const processes = [...new Set(processOf)].map((self) =>
        makeProcess({ torus, processOf, self }, elements, 3, shares),
      );
      nodes = await connectProcesses(processes, over, 3, (it) => troubles.push(it));
      expect(nodes.flatMap((node) => node.clients.map((it) => it.over))).toContain(over);
      // Processes that share memory send payloads through sockets only until the receiver has
      // mapped the shared memory, in run 0. Other processes send payloads through sockets in each
      // run.
      for (let run = 0; run < 3; run++) {
        const before = nodes.map(({ written }) => written.bytes);
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
        const went = nodes.map(({ written }, i) => written.bytes - (before[i] ?? 0));
        if (shares && over === 'unix') {
          if (run > 0) expect(went).toEqual(nodes.map(() => 0));
        } else expect(Math.min(...went)).toBeGreaterThan(0);
      }
    });
  },
);

function silentWire(): Wire {
  return { write: () => true, waiting: 0, end: () => undefined };
}

/** Returns a wire to a process on this host. The wire keeps all frames that are written to it. */
function localWire(): Wire & { readonly records: Buffer[] } {
  const records: Buffer[] = [];
  return {
    ...{ isLocal: true, records, waiting: 0, end: () => undefined },
    write(head, payload) {
      records.push(Buffer.concat([head, payload ?? noBytes]));
      return true;
    },
  };
}

const noBytes = new Uint8Array(0);

/**
 * Returns a wire that counts payload bytes (`bytes`) and calls of `end` (`ends`). The header of
 * each written frame has a number of released incoming frames. The wire adds this number to the
 * list `returned`.
 */
function countingWire(): Wire & { bytes: number; ends: number; readonly returned: number[] } {
  return {
    ...{ bytes: 0, ends: 0, waiting: 0, returned: [] },
    write(head, payload) {
      this.returned.push(Buffer.from(head).readUInt32LE(32));
      this.bytes += payload?.length ?? 0;
      return true;
    },
    end() {
      this.ends++;
    },
  };
}

function opened(sink: FrameSink | Refusal): FrameSink {
  if ('code' in sink) throw new Error(sink.text);
  return sink;
}

const noLinks: Links = {
  out: () => assert(false, 'a link within the process') as never,
  in: () => assert(false, 'a link within the process') as never,
};

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
