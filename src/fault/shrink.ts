import type { Grid } from '../fabric/torus.ts';
import type { Case, CaseRun } from './case.ts';
import { savesCheckpoint } from './check.ts';
import { hopsOf } from './hops.ts';
import {
  type Fault,
  faultKinds,
  isCollective,
  isLinkFault,
  needsCheckpoints,
  type Position,
  type StepPosition,
} from './plan.ts';

/** Result of {@link shrink}. */
export interface Shrunk {
  readonly smallest: Case;
  /** Number of cases that were tried. */
  readonly tries: number;
}

/** Largest number of cases that {@link shrink} tries. */
const triesMax = 2000;

/**
 * Makes a case simpler as long as it still breaks the same invariant. `breaks` is true of a case
 * that breaks this invariant, and must be true of `start`. The number of faults is reduced first,
 * then the number of Cloud TPUs, then the number of steps. After that, positions and parameters are
 * made simpler.
 */
export async function shrink(
  start: Case,
  breaks: (simpler: Case) => Promise<boolean>,
): Promise<Shrunk> {
  const tried = new Set<string>();
  let smallest = start;
  for (;;) {
    const next = await firstOf(simplerCases(smallest), tried, breaks);
    if (next === undefined) return { smallest, tries: tried.size };
    smallest = next;
  }
}

async function firstOf(
  cases: Iterable<Case>,
  tried: Set<string>,
  breaks: (simpler: Case) => Promise<boolean>,
): Promise<Case | undefined> {
  for (const it of cases) {
    if (tried.size >= triesMax) return undefined;
    const key = JSON.stringify(it);
    if (tried.has(key)) continue;
    tried.add(key);
    if (await breaks(it)) return it;
  }
  return undefined;
}

/**
 * Returns cases that are simpler than the given one, the simplest first. If the run of the case
 * must fail, no fault is left out and no fault changes its kind. Otherwise the run might not fail
 * any more.
 */
export function* simplerCases(it: Case): Generator<Case> {
  const isFixed = it.outcome === 'failed';
  if (!isFixed) yield* fewerFaults(it);
  yield* smallerSlices(it);
  yield* fewerSteps(it);
  for (const run of simplerRuns(it.run, isFixed)) {
    if (run.checkpointEvery === undefined && it.faults.some(needsCheckpoints)) continue;
    yield { ...it, run, faults: within(it.faults, run) };
  }
  if (!isFixed) yield* simplerFaults(it);
}

/**
 * Returns the size of a case as a list of numbers. The sizes of two cases are compared number by
 * number. At the first difference, the case with the smaller number is simpler.
 * {@link simplerCases} returns only simpler cases than the given one, so shrinking comes to an end.
 */
export function sizeOf({ run, faults }: Case): readonly number[] {
  const { topology, steps } = run;
  const details = faults.reduce((sum, fault) => sum + detailsOf(fault), detailsOfRun(run));
  return [faults.length, topology.columns * topology.rows, steps, details];
}

// ---------------------------------------------------------------------------------------- faults

function* fewerFaults(it: Case): Generator<Case> {
  const { faults } = it;
  const half = Math.floor(faults.length / 2);
  if (half > 0) yield { ...it, faults: faults.slice(0, half) };
  if (half > 0) yield { ...it, faults: faults.slice(half) };
  for (const index of faults.keys()) yield { ...it, faults: faults.toSpliced(index, 1) };
}

function* simplerFaults(it: Case): Generator<Case> {
  for (const [index, fault] of it.faults.entries()) {
    for (const simpler of simplerFault(fault, it.run.topology)) {
      if (!isReached(simpler.at, it.run)) continue;
      yield { ...it, faults: it.faults.with(index, simpler) };
    }
  }
}

function* simplerFault(fault: Fault, grid: Grid): Generator<Fault> {
  yield* simplerKinds(fault, grid);
  for (const at of simplerPositions(fault.at)) yield { ...fault, at };
  if ('tpu' in fault) for (const tpu of smaller(fault.tpu, 0)) yield { ...fault, tpu };
  if (fault.fault === 'lose-row') for (const row of smaller(fault.row, 0)) yield { ...fault, row };
  if (fault.fault === 'lose-column') {
    for (const column of smaller(fault.column, 0)) yield { ...fault, column };
  }
  if (fault.fault === 'slow') {
    for (const factor of smaller(fault.factor, 2)) yield { ...fault, factor };
  }
  if (fault.fault === 'flip-bit')
    for (const bit of smaller(fault.bit ?? 0, 0)) yield { ...fault, bit };
  if ('for' in fault && fault.for?.ms !== undefined) {
    for (const ms of smaller(fault.for.ms, 1)) yield { ...fault, for: { ms } };
  }
  if ('for' in fault && fault.for?.steps !== undefined) {
    for (const steps of smaller(fault.for.steps, 1)) yield { ...fault, for: { steps } };
  }
}

/**
 * Returns a `kill` in place of a fault that ends, pauses or slows one worker. In place of the loss
 * of a row or column, returns a `kill` of the first Cloud TPU in the row or column.
 */
function* simplerKinds(fault: Fault, { columns }: Grid): Generator<Fault> {
  switch (fault.fault) {
    case 'exit':
    case 'throw':
    case 'out-of-memory':
    case 'hang':
      yield { ...fault, fault: 'kill' };
      return;
    case 'pause':
    case 'slow':
      yield { fault: 'kill', tpu: fault.tpu, at: fault.at };
      return;
    case 'lose-row':
      yield { fault: 'kill', tpu: fault.row * columns, at: fault.at };
      return;
    case 'lose-column':
      yield { fault: 'kill', tpu: fault.column, at: fault.at };
      return;
    default:
      return;
  }
}

function* simplerPositions(at: Position): Generator<Position> {
  if ('afterMs' in at) return;
  if ('during' in at) {
    const { generation = 1, during } = at;
    for (const simpler of smaller(generation, 1)) yield { during, generation: simpler };
    return;
  }
  const { step, phase, bucket = 0, hop = 0 } = at;
  if (phase !== undefined && phase !== 'evaluate') yield { step };
  for (const simpler of smaller(step, 1)) yield { ...at, step: simpler };
  if (phase === undefined || !isCollective(phase)) return;
  for (const simpler of smaller(hop, 0)) yield { ...at, hop: simpler };
  for (const simpler of smaller(bucket, 0)) yield { ...at, bucket: simpler };
}

/**
 * Returns up to three whole numbers from `least` to `value` - 1: the smallest, one in the middle
 * and the largest.
 */
function smaller(value: number, least: number): readonly number[] {
  const all = [least, Math.floor((least + value) / 2), value - 1];
  return [...new Set(all)].filter((it) => it >= least && it < value);
}

// ------------------------------------------------------------------------------------------- run

function* smallerSlices(it: Case): Generator<Case> {
  const { columns, rows } = it.run.topology;
  const widths = smaller(columns, leastLength);
  const heights = smaller(rows, leastLength);
  const grids: readonly Grid[] = [
    ...widths.flatMap((c) => heights.map((r) => ({ columns: c, rows: r }))),
    ...widths.map((c) => ({ columns: c, rows })),
    ...heights.map((r) => ({ columns, rows: r })),
  ];
  for (const topology of grids) {
    const run = { ...it.run, topology };
    const faults = it.faults.map((fault) => moved(fault, it.run.topology, topology));
    yield { ...it, run, faults: within(faults, run) };
  }
}

/**
 * Smallest number of rows and of columns. If one of 2×2 Cloud TPUs has wrong weights, the other
 * three are still a majority.
 */
const leastLength = 2;

/**
 * Moves a fault from one grid to a smaller one. The row and the column of the fault are taken
 * modulo the number of rows and of columns of the smaller grid.
 */
function moved(fault: Fault, from: Grid, to: Grid): Fault {
  const place = (tpu: number): number =>
    (Math.floor(tpu / from.columns) % to.rows) * to.columns + ((tpu % from.columns) % to.columns);
  if (isLinkFault(fault)) return { ...fault, link: movedLink(fault.link, from, to, place) };
  switch (fault.fault) {
    case 'lose-row':
      return { ...fault, row: fault.row % to.rows };
    case 'lose-column':
      return { ...fault, column: fault.column % to.columns };
    case 'partition': {
      const cutOff = [...new Set(fault.groups.slice(1).flat().map(place))];
      const all = Array.from({ length: to.columns * to.rows }, (_, tpu) => tpu);
      return { ...fault, groups: [all.filter((tpu) => !cutOff.includes(tpu)), cutOff] };
    }
    default:
      return 'tpu' in fault ? { ...fault, tpu: place(fault.tpu) } : fault;
  }
}

/**
 * Moves a link between two neighbours to a smaller grid. A link along a row stays along a row, and
 * a link along a column stays along a column.
 */
function movedLink(
  link: string | readonly [number, number],
  { columns }: Grid,
  to: Grid,
  place: (tpu: number) => number,
): readonly [number, number] {
  const [start, end] = typeof link === 'string' ? [0, 1] : link;
  const first = place(start);
  const x = first % to.columns;
  const isInRow = Math.floor(start / columns) === Math.floor(end / columns);
  if (isInRow) return [first, first - x + ((x + 1) % to.columns)];
  return [first, (first + to.columns) % (to.columns * to.rows)];
}

function* fewerSteps(it: Case): Generator<Case> {
  for (const steps of smaller(it.run.steps, 1)) {
    const run = { ...it.run, steps };
    yield { ...it, run, faults: within(it.faults, run) };
  }
}

/**
 * Moves faults to positions that exist in the run. If the step, batch, bucket or hop of a fault
 * does not exist, it is replaced by the last one that exists.
 */
function within(faults: readonly Fault[], run: CaseRun): readonly Fault[] {
  return faults.map((fault) =>
    'step' in fault.at ? { ...fault, at: positionWithin(fault.at, run) } : fault,
  );
}

function positionWithin(at: StepPosition, run: CaseRun): StepPosition {
  const { phase } = at;
  const last = phase === 'evaluate' ? run.batches : run.steps;
  const nearest = Math.min(at.step, last);
  const step = phase === 'checkpoint' ? checkpointBefore(nearest, run) : nearest;
  if (phase === undefined || !isCollective(phase)) return { ...at, step };
  const hop = Math.min(at.hop ?? 0, hopsOf(phase, run.topology) - 1);
  return { ...at, step, hop, bucket: run.model === 'mlp' ? 0 : (at.bucket ?? 0) };
}

/**
 * Returns the given step if the run saves a checkpoint after it. Otherwise returns the last step
 * before it with a checkpoint, or the last step of the run if there is none before.
 */
function checkpointBefore(step: number, { steps, checkpointEvery: every = 1 }: CaseRun): number {
  if (savesCheckpoint(step, steps, every)) return step;
  return step - (step % every) || steps;
}

/** False for a position in the phase `checkpoint` of a step after which no checkpoint is saved. */
function isReached(at: Position, { steps, checkpointEvery: every = 1 }: CaseRun): boolean {
  if (!('step' in at) || at.phase !== 'checkpoint') return true;
  return savesCheckpoint(at.step, steps, every);
}

function* simplerRuns(run: CaseRun, isFixed: boolean): Generator<CaseRun> {
  const { checkpointEvery, keep, ...withoutCheckpoints } = run;
  if (checkpointEvery !== undefined) yield withoutCheckpoints;
  if (!isFixed && run.recovery !== 'replace') yield { ...run, recovery: 'replace' };
  if (run.model !== 'mlp') yield { ...run, model: 'mlp' };
  for (const batches of smaller(run.batches, 1)) yield { ...run, batches };
  for (const seed of smaller(run.seed, 0)) yield { ...run, seed };
  for (const every of smaller(checkpointEvery ?? 0, 1)) yield { ...run, checkpointEvery: every };
  for (const fewer of smaller(keep ?? 0, 1)) yield { ...run, keep: fewer };
}

// ------------------------------------------------------------------------------------------ size

function detailsOfRun(run: CaseRun): number {
  const { checkpointEvery, keep = 0, recovery, model, batches, seed } = run;
  return (
    (checkpointEvery === undefined ? 0 : 1 + checkpointEvery + keep) +
    (recovery === 'replace' ? 0 : 1) +
    // `mlp` has only bucket 0, so a change to `mlp` also makes the positions of faults simpler.
    (model === 'mlp' ? 0 : 1) +
    batches +
    seed
  );
}

/**
 * Returns the size of a fault's details as one number. The kind of the fault counts most. Its
 * position and its parameters count less.
 */
function detailsOf(fault: Fault): number {
  return 1e6 * rankOf(fault) + detailsOfPosition(fault.at) + parametersOf(fault);
}

/** Returns the rank of a fault's kind. The kind `kill` comes first and is the simplest. */
function rankOf({ fault }: Fault): number {
  return faultKinds.indexOf(fault);
}

function detailsOfPosition(at: Position): number {
  if ('afterMs' in at) return at.afterMs;
  if ('during' in at) return at.generation ?? 1;
  const { step, phase, bucket = 0, hop = 0 } = at;
  return step + (phase === undefined ? 0 : 1) + bucket + hop;
}

function parametersOf(fault: Fault): number {
  const target =
    ('tpu' in fault ? fault.tpu : 0) +
    ('row' in fault ? fault.row : 0) +
    ('column' in fault ? fault.column : 0);
  const duration = 'for' in fault ? (fault.for?.ms ?? 0) + (fault.for?.steps ?? 0) : 0;
  const strength = ('factor' in fault ? fault.factor : 0) + ('bit' in fault ? (fault.bit ?? 0) : 0);
  return target + duration + strength;
}
