import type { Grid } from '../fabric/torus.ts';
import { at } from '../numerics/assert.ts';
import type { Random } from '../numerics/generator.ts';
import { fromKeys } from './from-keys.ts';
import {
  type Duration,
  diskFaults,
  endingFaults,
  type Fault,
  type FaultKind,
  faultKinds,
  type LinkFault,
  type LinkFaultKind,
  linkFaults,
  type Memory,
  masterFaults,
  memories,
  type Position,
} from './plan.ts';

/** Random choices, all from one sequence of random numbers. */
export class Draws {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Returns a whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.#random() * (most - least + 1));
  }

  /** Returns one of the values. */
  pick<T>(values: readonly T[]): T {
    return at(values, Math.floor(this.#random() * values.length));
  }

  /** Returns true with the given probability. */
  chance(probability: number): boolean {
    return this.#random() < probability;
  }
}

/** Where a fault is injected: the slice, the Cloud TPU that the fault hits, and the position. */
export interface Place {
  readonly grid: Grid;
  readonly tpu: number;
  readonly at: Position;
}

/** Returns a fault at a place, with parameters that are drawn at random. */
type Draw = (place: Place, draws: Draws) => Fault;

/** A kind of fault that can be drawn. The fault `flip-bit` is a kind of its own for each memory. */
export interface DrawableKind {
  readonly name: string;
  /** True for a fault of the master or of its disk. */
  readonly isOfMaster: boolean;
  readonly draw: Draw;
}

/** Returns the name of the {@link DrawableKind} of a fault. */
export function kindNameOf(fault: Fault): string {
  return fault.fault === 'flip-bit' ? `flip-bit in ${fault.in}` : fault.fault;
}

const table: Readonly<Record<Exclude<FaultKind, 'flip-bit'>, Draw>> = {
  ...fromKeys(endingFaults, (fault) => ({ tpu, at }) => ({ fault, tpu, at })),
  pause: ({ tpu, at }, draws) => ({ fault: 'pause', tpu, at, for: { ms: draws.whole(1, 4000) } }),
  slow: drawSlow,
  'clock-jump': ({ tpu, at }, draws) => {
    return { fault: 'clock-jump', tpu, at, ms: draws.whole(-5000, 5000) };
  },
  'stuck-cell': ({ tpu, at }, draws) => {
    const cell = { core: draws.whole(0, 7), row: draws.whole(0, 127), column: draws.whole(0, 127) };
    return { fault: 'stuck-cell', tpu, at, for: { steps: 1 }, ...cell };
  },
  ...fromKeys(['join-twice', 'wrong-version'], (fault) => ({ tpu, at }) => ({ fault, tpu, at })),
  'join-late': ({ tpu, at }, draws) => {
    return { fault: 'join-late', tpu, at, ms: draws.whole(1, 4000) };
  },
  ...fromKeys(linkFaults, (fault) => (place, draws) => drawLinkFault(fault, place, draws)),
  'disk-full': ({ at }, draws) => ({ fault: 'disk-full', at, for: drawTime(draws) }),
  'slow-disk': ({ at }, draws) => {
    return { fault: 'slow-disk', at, ms: draws.whole(1, 200), for: drawTime(draws) };
  },
  ...fromKeys(['torn-write', 'lost-rename', 'unreadable-checkpoint'], (fault) => ({ at }) => {
    return { fault, at };
  }),
  ...fromKeys(['master-kill', 'second-master'], (fault) => ({ at }) => ({ fault, at })),
  ...fromKeys(['master-pause', 'master-cut-off'], (fault) => ({ at }, draws) => {
    return { fault, at, for: drawTime(draws) };
  }),
  'lose-row': ({ grid, tpu, at }) => {
    return { fault: 'lose-row', row: Math.floor(tpu / grid.columns), at };
  },
  'lose-column': ({ grid, tpu, at }) => {
    return { fault: 'lose-column', column: tpu % grid.columns, at };
  },
  partition: drawPartition,
};

const kindsOfMaster: readonly FaultKind[] = [...diskFaults, ...masterFaults];

/** All kinds of faults, in the order of {@link faultKinds}. */
export const drawableKinds: readonly DrawableKind[] = faultKinds.flatMap(
  (kind): readonly DrawableKind[] =>
    kind === 'flip-bit'
      ? memories.map((memory) => {
          return { name: `flip-bit in ${memory}`, isOfMaster: false, draw: drawFlip(memory) };
        })
      : [{ name: kind, isOfMaster: kindsOfMaster.includes(kind), draw: table[kind] }],
);

/**
 * Draws how long a fault of the master or of its disk lasts. Half of these times are so short that
 * the fault may end in the same step.
 */
function drawTime(draws: Draws): Duration {
  return { ms: draws.chance(0.5) ? draws.whole(1, 10) : draws.whole(1, 4000) };
}

function drawFlip(memory: Memory): Draw {
  return ({ tpu, at }, draws) => {
    return { fault: 'flip-bit', tpu, at, in: memory, bit: draws.whole(0, 31) };
  };
}

/**
 * Draws a fault `slow`. It makes the Cloud TPU either a little slower for the rest of the run, or
 * much slower for one to three steps.
 */
function drawSlow({ tpu, at }: Place, draws: Draws): Fault {
  if (draws.chance(0.3)) return { fault: 'slow', tpu, at, factor: draws.whole(2, 3) };
  const factor = draws.pick([2, 5, 20, 100, 400]);
  return { fault: 'slow', tpu, at, factor, for: { steps: draws.whole(1, 3) } };
}

/**
 * Draws a fault of the links from a Cloud TPU to one of two neighbours: the next one in its row, or
 * the next one in its column. In a grid of one row or one column there is only one neighbour.
 */
function drawLinkFault(fault: LinkFaultKind, { grid, tpu, at }: Place, draws: Draws): Fault {
  const { columns, rows } = grid;
  const x = tpu % columns;
  const isInRow = columns > 1 && (rows === 1 || draws.chance(0.5));
  const next = isInRow ? tpu - x + ((x + 1) % columns) : (tpu + columns) % (columns * rows);
  return {
    ...{ fault, link: [tpu, next], at },
    ...(draws.chance(0.3) && { both: true }),
    ...drawExtent(fault, draws),
  };
}

/**
 * Draws how long a fault of a link lasts and how strong it is. Most faults that damage frames get
 * no duration. Such a fault damages only one frame.
 */
function drawExtent(fault: LinkFaultKind, draws: Draws): Partial<LinkFault> {
  switch (fault) {
    case 'reset':
      return {};
    case 'link-down':
      return { for: { ms: draws.whole(1, 2000) } };
    case 'delay': {
      const [ms, jitterMs] = [draws.whole(1, 50), draws.whole(1, 20)];
      return { for: { ms: draws.whole(1, 2000) }, ms, jitterMs };
    }
    case 'bandwidth':
      return { for: { ms: draws.whole(1, 2000) }, bytesPerSecond: 1000 * draws.whole(10, 1000) };
    default: {
      if (draws.chance(0.7)) return {};
      const share = draws.pick([0.01, 0.1, 0.5, 1]);
      return { for: { ms: draws.whole(1, damageMsMax) }, share };
    }
  }
}

/**
 * Longest time, in ms, for which the search lets a link damage frames. During this time every step
 * fails and may cost a Cloud TPU its worker. In a longer time, a Cloud TPU could lose more workers
 * than a run survives.
 */
export const damageMsMax = 200;

/** A partition that cuts off one Cloud TPU from all others and from the master. */
function drawPartition({ grid, tpu, at }: Place, draws: Draws): Fault {
  const all = Array.from({ length: grid.columns * grid.rows }, (_, other) => other);
  const groups = [all.filter((other) => other !== tpu), [tpu]];
  return { fault: 'partition', at, groups, for: { ms: draws.whole(1, 2000) } };
}
