import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Collectives, type ExchangeInMemory } from '../../src/fabric/collectives.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import { layOutFabric, resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { laneCount, laneDirection, partLength } from '../../src/fabric/part.ts';
import { planExchange } from '../../src/fabric/plan-exchange.ts';
import {
  axisOf,
  chipCount,
  chipsOf,
  flatTorus,
  linkCount,
  linkNumber,
  neighbour,
  podTorus,
  position,
  type Torus,
} from '../../src/fabric/torus.ts';
import type { ExchangePattern } from '../../src/isa/executable.ts';
import { arbitraryGroups } from '../hlo/collective-cases.ts';

/** An exchange that runs in one thread. */
interface Case {
  readonly torus: Torus;
  /** Replicas of a worker. */
  readonly cores: number;
  readonly pattern: ExchangePattern;
  readonly rowWords: number;
  readonly frameElements: number;
  readonly sharesTarget: boolean;
}

const tori = fc.oneof(
  fc
    .record({ columns: fc.integer({ min: 1, max: 3 }), rows: fc.integer({ min: 1, max: 2 }) })
    .map((it) => ({ torus: podTorus(it), cores: 8 })),
  fc
    .tuple(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 2 }),
    )
    .map(([width, height, cores]) => ({ torus: flatTorus(width, height), cores })),
);

const cases: fc.Arbitrary<Case> = tori.chain(({ torus, cores }) =>
  fc.record({
    torus: fc.constant(torus),
    cores: fc.constant(cores),
    pattern: patternsAmong(torus.workers * cores),
    rowWords: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 200 })),
    frameElements: fc.integer({ min: 1, max: 64 }),
    sharesTarget: fc.constant(false),
  }),
);

/** Patterns between `replicas` replicas, in groups of at most `membersMax` if it is given. */
function patternsAmong(
  replicas: number,
  membersMax: number = replicas,
): fc.Arbitrary<ExchangePattern> {
  const all = Array.from({ length: replicas }, (_, r) => r);
  const pairs = fc
    .tuple(fc.shuffledSubarray(all), fc.shuffledSubarray(all))
    .map(([from, to]) => from.slice(0, to.length).map((r, i) => [r, to[i]!] as const));
  return fc.oneof(
    fc.record({
      kind: fc.constantFrom('all-gather', 'all-to-all', 'collective-broadcast'),
      groups: arbitraryGroups(replicas, membersMax),
    }),
    fc.record({ kind: fc.constant('collective-permute'), pairs }),
  );
}

describe('an exchange', () => {
  test('gives each replica the rows of the definition, in any order of workers', () => {
    fc.assert(
      fc.property(cases, fc.infiniteStream(fc.nat()), (of, order) => {
        const run = start(of);
        run.drive((count) => (order.next().value ?? 0) % count);
        expect(run.received()).toEqual(expectedRows(of));
        expect(run.sentBytes()).toEqual(expectedBytes(of));
      }),
      { numRuns: 150 },
    );
  });

  test('gives the same rows a second time, when others were sent before', () => {
    fc.assert(
      fc.property(cases, (of) => {
        const run = start(of);
        run.drive(inTurn());
        run.startAgain();
        run.drive(inTurn());
        expect(run.received()).toEqual(expectedRows(of));
      }),
      { numRuns: 30 },
    );
  });

  test('sends each row once to a worker whose replicas share it', () => {
    const of: Case = {
      ...{ torus: podTorus({ columns: 2, rows: 2 }), cores: 8, rowWords: 40, frameElements: 16 },
      pattern: { kind: 'all-gather', groups: [] },
      sharesTarget: true,
    };
    const run = start(of);
    run.drive(inTurn());
    const all = expectedRows({ ...of, sharesTarget: false });
    expect(run.received()).toEqual(all.map((rows, r) => (r % 8 === 0 ? rows : [])));
    expect(run.sentBytes()).toEqual(expectedBytes(of));
  });

  test('gives the rows of the definition on every topology up to 8×8 Cloud TPUs', () => {
    for (let columns = 1; columns <= 8; columns++) {
      for (let rows = 1; rows <= 8; rows++) {
        const torus = podTorus({ columns, rows });
        const patterns = patternsAmong(8 * columns * rows, 8);
        const [pattern] = fc.sample(patterns, { numRuns: 1, seed: 8 * columns + rows });
        const sizes = { rowWords: 5 + columns, frameElements: 65536, sharesTarget: false };
        const of = { torus, cores: 8, pattern: pattern!, ...sizes };
        const run = start(of);
        run.drive(inTurn());
        expect(run.received()).toEqual(expectedRows(of));
        expect(run.sentBytes()).toEqual(expectedBytes(of));
      }
    }
  });

  test('names the replica that does not exist', () => {
    const torus = podTorus({ columns: 1, rows: 1 });
    const pattern = { kind: 'collective-permute', pairs: [[0, 8]] } as const;
    const of = { torus, cores: 8, pattern, rowWords: 4, frameElements: 16, sharesTarget: false };
    expect(() => planExchange(of)).toThrow('collective-permute: expected replicas 0 to 7, found 8');
  });

  test('of too many hops is refused', () => {
    const torus = podTorus({ columns: 8, rows: 8 });
    const pattern = { kind: 'all-to-all', groups: [] } as const;
    const of = { torus, cores: 8, pattern, rowWords: 16, frameElements: 16, sharesTarget: false };
    expect(() => planExchange(of)).toThrow(/^all-to-all of 64 Cloud TPUs: expected at most/);
  });
});

/** Word `word` of row `row` that a replica sends. */
function wordOf(replica: number, row: number, word: number): number {
  return (replica + 1) * 1_000_003 + row * 1009 + word;
}

/** Number of rows that a replica sends and receives. */
function rowCounts({ pattern, torus, cores }: Case): { sent: number; received: number } {
  if (pattern.kind === 'collective-permute') return { sent: 1, received: 1 };
  const members = pattern.groups[0]?.length ?? torus.workers * cores;
  return {
    sent: pattern.kind === 'all-to-all' ? members : 1,
    received: pattern.kind === 'collective-broadcast' ? 1 : members,
  };
}

/** For each replica and each row that it receives: the replica that sends it, and its index there. */
function origins({ pattern, torus, cores }: Case): (readonly [number, number] | undefined)[][] {
  const count = torus.workers * cores;
  const all = Array.from({ length: count }, (_, r) => r);
  return all.map((replica) => {
    if (pattern.kind === 'collective-permute') {
      const pair = pattern.pairs.find(([, target]) => target === replica);
      return [pair && [pair[0], 0]];
    }
    const groups = pattern.groups.length > 0 ? pattern.groups : [all];
    const members = groups.find((group) => group.includes(replica))!;
    const own = members.indexOf(replica);
    if (pattern.kind === 'collective-broadcast') return [[members[0]!, 0]];
    return members.map((from) => [from, pattern.kind === 'all-to-all' ? own : 0] as const);
  });
}

function expectedRows(of: Case): number[][] {
  return origins(of).map((rows) =>
    rows.flatMap((origin) =>
      Array.from({ length: of.rowWords }, (_, word) =>
        origin === undefined ? 0 : wordOf(origin[0], origin[1], word),
      ),
    ),
  );
}

/**
 * Returns the bytes that cross each link. A lane of a row goes along its first axis and then along
 * its second; on a way that it has to several replicas it crosses a link once.
 */
function expectedBytes(of: Case): Float64Array {
  const { torus, cores, rowWords } = of;
  const bytes = new Float64Array(linkCount(torus));
  const perChip = (cores * torus.workers) / chipCount(torus);
  const chipOf = (r: number): number =>
    chipsOf(torus, Math.floor(r / cores))[Math.floor((r % cores) / perChip)]!;
  for (let lane = 0; lane < laneCount; lane++) {
    const crossed = new Set<string>();
    origins(of).forEach((rows, replica) => {
      if (of.sharesTarget && replica % cores !== 0) return;
      for (const origin of rows) {
        if (origin === undefined) continue;
        let chip = chipOf(origin[0]);
        for (const turn of [0, 1] as const) {
          const direction = laneDirection(lane, turn);
          const axis = axisOf(direction);
          while (position(torus, chip, axis) !== position(torus, chipOf(replica), axis)) {
            crossed.add(`${origin} ${linkNumber(chip, direction)}`);
            chip = neighbour(torus, chip, direction);
          }
        }
      }
    });
    for (const key of crossed) {
      bytes[Number(key.split(' ')[1])]! += 4 * partLength(rowWords, laneCount, lane);
    }
  }
  return bytes;
}

interface Running {
  drive(choose: (count: number) => number): void;
  /** Overwrites what was received, and starts the exchange again. */
  startAgain(): void;
  received(): number[][];
  sentBytes(): Float64Array;
}

function start(of: Case): Running {
  const { torus, cores, rowWords } = of;
  const plans = planExchange(of);
  const counts = rowCounts(of);
  const layout = layOutFabric(torus, 1024);
  let end = layout.base + layout.bytes;
  const take = (bytes: number): number => {
    const address = end;
    end += bytes;
    return address;
  };
  const chips = chipCount(torus) / torus.workers;
  const strides = { source: counts.sent * rowWords * 4, target: counts.received * rowWords * 4 };
  const places = Array.from({ length: torus.workers }, () => ({
    source: { address: take(cores * strides.source), stride: strides.source },
    target: {
      address: take(cores * strides.target),
      stride: of.sharesTarget ? 0 : strides.target,
    },
    transit: { address: take(chips * plans.transitBytes), stride: plans.transitBytes },
  }));
  const memory = new WebAssembly.Memory({
    ...{ initial: Math.ceil(end / 65536), maximum: 65536, shared: true },
  });
  resetFabric(memory, layout);
  const words = new Int32Array(memory.buffer);
  const replicasAChip = cores / chips;
  const workers = places.map((place, worker) => {
    const doorbell = new Doorbell(memory, layout, worker);
    const links = memoryLinks(memory, layout, torus, doorbell);
    const collectives: ExchangeInMemory[] = [{ plans, place, replicasAChip }];
    const kernels = sumKernels(memory);
    return new Collectives({
      ...{ torus, worker, generation: 1, kernels, links, doorbell, collectives, now: () => 0 },
    });
  });
  places.forEach(({ source }, worker) => {
    for (let i = 0; i < cores * counts.sent * rowWords; i++) {
      const row = Math.floor(i / rowWords);
      const replica = worker * cores + Math.floor(row / counts.sent);
      words[source.address / 4 + i] = wordOf(replica, row % counts.sent, i % rowWords);
    }
  });
  const startAll = (): void => {
    for (const { target } of places) {
      words.fill(0, target.address / 4, (target.address + cores * strides.target) / 4);
    }
    for (const worker of workers) worker.start(0);
  };
  startAll();
  return {
    drive: (choose) => {
      for (let idle = 0; !workers.every((it) => it.isDone(0)); idle++) {
        if (workers[choose(workers.length)]!.progress()) idle = 0;
        if (idle > 1000 * workers.length) throw new Error('the exchange stands still');
      }
    },
    startAgain: startAll,
    received: () =>
      places.flatMap(({ target }) =>
        Array.from({ length: cores }, (_, core) => {
          if (of.sharesTarget && core > 0) return [];
          const from = (target.address + core * strides.target) / 4;
          return [...words.subarray(from, from + strides.target / 4)];
        }),
      ),
    sentBytes: () => sentBytes(memory, layout),
  };
}

function inTurn(): (count: number) => number {
  let turn = 0;
  return (count) => turn++ % count;
}
