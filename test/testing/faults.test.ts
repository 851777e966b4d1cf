import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Fault,
  faultKinds,
  grounds,
  memories,
  type Position,
  workerPhases,
} from '../../src/fault/plan.ts';
import { checkPlan } from '../../src/fault/read.ts';
import { supported } from '../../src/fault/support.ts';
import * as faults from '../../src/testing/faults.ts';

const index = fc.nat(63);
const milliseconds = fc.integer({ min: 1, max: 10_000 });
const link: fc.Arbitrary<faults.Link> = fc.constantFrom('chip(3,1)+x', 'chip(0,0)-y', [
  0, 1,
] as const);
const both = fc.record({ both: fc.boolean() }, { requiredKeys: [] });
const frames = fc.record(
  { share: fc.constantFrom(0.25, 1), both: fc.boolean() },
  { requiredKeys: [] },
);
const delays = fc.record(
  { ms: milliseconds, jitterMs: milliseconds, both: fc.boolean() },
  { requiredKeys: ['ms'] },
);
const flips = fc.record({ in: fc.constantFrom(...memories), bit: index }, { requiredKeys: ['in'] });
const position: fc.Arbitrary<Position> = fc.oneof(
  fc.record({ step: fc.integer({ min: 1, max: 99 }), phase: fc.constantFrom(...workerPhases) }),
  fc.record({
    during: fc.constant('loading' as const),
    generation: fc.integer({ min: 1, max: 9 }),
  }),
);

/**
 * A fault as a function of the library makes it, and the fields of the same fault in a plan file.
 * The position of the fault is missing in both.
 */
type Made = readonly [faults.Unplaced<faults.PlacedFault>, Readonly<Record<string, unknown>>];

/** For each function of the library that makes faults: arbitrary faults that it makes. */
const builders: Readonly<Record<string, fc.Arbitrary<Made>>> = {
  kill: index.map((tpu) => [faults.kill(tpu), { fault: 'kill', tpu }]),
  exit: index.map((tpu) => [faults.exit(tpu), { fault: 'exit', tpu }]),
  throwError: index.map((tpu) => [faults.throwError(tpu), { fault: 'throw', tpu }]),
  outOfMemory: index.map((tpu) => [faults.outOfMemory(tpu), { fault: 'out-of-memory', tpu }]),
  hang: index.map((tpu) => [faults.hang(tpu), { fault: 'hang', tpu }]),
  pause: of(index, milliseconds, (tpu, ms) => [
    faults.pause(tpu, { ms }),
    { fault: 'pause', tpu, for: { ms } },
  ]),
  slow: of(index, fc.constantFrom(1.5, 2, 10), (tpu, factor) => [
    faults.slow(tpu, { factor }),
    { fault: 'slow', tpu, factor },
  ]),
  clockJump: of(index, fc.integer({ min: -9999, max: 9999 }), (tpu, ms) => [
    faults.clockJump(tpu, { ms }),
    { fault: 'clock-jump', tpu, ms },
  ]),
  flipBit: of(index, flips, (tpu, flip) => [
    faults.flipBit(tpu, flip),
    { fault: 'flip-bit', tpu, ...flip },
  ]),
  loseRow: index.map((row) => [faults.loseRow(row), { fault: 'lose-row', row }]),
  loseColumn: index.map((column) => [faults.loseColumn(column), { fault: 'lose-column', column }]),
  partition: index.map((tpu) => [
    faults.partition([tpu], [tpu + 1, tpu + 2], [99]),
    { fault: 'partition', groups: [[tpu], [tpu + 1, tpu + 2], [99]] },
  ]),
  killMaster: fc.constant([faults.killMaster(), { fault: 'master-kill' }]),
  pauseMaster: milliseconds.map((ms) => [
    faults.pauseMaster({ ms }),
    { fault: 'master-pause', for: { ms } },
  ]),
  cutOffMaster: milliseconds.map((ms) => [
    faults.cutOffMaster({ ms }),
    { fault: 'master-cut-off', for: { ms } },
  ]),
  secondMaster: fc.constant([faults.secondMaster(), { fault: 'second-master' }]),
  fillDisk: fc.constant([faults.fillDisk(), { fault: 'disk-full' }]),
  slowDisk: milliseconds.map((ms) => [faults.slowDisk({ ms }), { fault: 'slow-disk', ms }]),
  tearWrite: fc.constant([faults.tearWrite(), { fault: 'torn-write' }]),
  loseRename: fc.constant([faults.loseRename(), { fault: 'lost-rename' }]),
  damageCheckpoint: fc.constant([faults.damageCheckpoint(), { fault: 'unreadable-checkpoint' }]),
  cutLink: ofLink('link-down', faults.cutLink, both),
  resetLink: ofLink('reset', faults.resetLink, both),
  delayLink: ofLink('delay', faults.delayLink, delays),
  limitLink: ofLink('bandwidth', faults.limitLink, fc.record({ bytesPerSecond: milliseconds })),
  loseFrames: ofLink('lose', faults.loseFrames, frames),
  duplicateFrames: ofLink('duplicate', faults.duplicateFrames, frames),
  reorderFrames: ofLink('reorder', faults.reorderFrames, frames),
  truncateFrames: ofLink('truncate', faults.truncateFrames, frames),
  corruptFrames: ofLink('corrupt', faults.corruptFrames, frames),
};

function of<A, B>(a: fc.Arbitrary<A>, b: fc.Arbitrary<B>, make: (a: A, b: B) => Made) {
  return fc.tuple(a, b).map(([first, second]) => make(first, second));
}

function ofLink<O extends object>(
  fault: string,
  build: (link: faults.Link, options: O) => faults.Unplaced<faults.PlacedFault>,
  options: fc.Arbitrary<O>,
): fc.Arbitrary<Made> {
  return of(link, options, (it, given) => [build(it, given), { fault, link: it, ...given }]);
}

function builder(name: string): fc.Arbitrary<Made> {
  const found = builders[name];
  if (found === undefined) throw new Error(`no builder ${name}`);
  return found;
}

/** Returns the kind of the faults that a builder makes. */
function kindOf(name: string): string {
  const [made] = fc.sample(builder(name), { numRuns: 1, seed: 1 });
  return String(made?.[1]['fault']);
}

describe('the builders of faults', () => {
  test('are all tested here', () => {
    const exported = Object.entries(faults).filter(([, value]) => typeof value === 'function');
    expect(Object.keys(builders).sort()).toEqual(exported.map(([name]) => name).sort());
  });

  test.each(Object.keys(builders))('%s makes faults that a plan file may have', (name) => {
    fc.assert(
      fc.property(builder(name), position, ([unplaced, fields], at) => {
        const plan = checkPlan({ faults: [{ ...fields, at }] }, () => name);
        expect(unplaced.at(at).fault).toEqual(plan.faults[0]);
      }),
      { numRuns: 50 },
    );
  });

  test('make each kind of fault that some kind of pod can inject', () => {
    const made = new Set(Object.keys(builders).map(kindOf));
    const missing = faultKinds.filter((kind) => !made.has(kind));
    const injectable = missing.filter((kind) => {
      // No builder makes faults of the kind `kind`, so this fault is made by hand. `supported`
      // reads different fields for different kinds. The fault has all fields that it may read.
      const fields = { tpu: 0, ms: 1, for: { ms: 1 }, core: 0, row: 0, column: 0 };
      const fault = { fault: kind, ...fields, at: { step: 1 } } as unknown as Fault;
      return grounds.some((ground) => supported(fault, ground) === true);
    });
    expect(injectable).toEqual([]);
  });

  test('make kinds that differ', () => {
    const kinds = Object.keys(builders).map(kindOf);
    expect(new Set(kinds).size).toBe(kinds.length);
  });

  test('give a fault an end, and leave the fault without an end as it is', () => {
    const endless = faults.slow(6, { factor: 2 }).at({ step: 8 });
    const ended = endless.for({ steps: 4 });
    expect(ended.fault).toEqual({
      ...{ fault: 'slow', tpu: 6, factor: 2 },
      ...{ at: { step: 8 }, for: { steps: 4 } },
    });
    expect('for' in endless.fault).toBe(false);
  });
});
