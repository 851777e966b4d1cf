import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Fault, grounds } from '../../src/fault/plan.ts';
import type { FaultOutcome } from '../../src/fault/verdict.ts';
import type { JudgedRun } from '../../src/run/judged.ts';
import { readRun } from '../../src/run/read.ts';
import { settings } from '../observe/recorded.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-judged-'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(settings));
  writeFileSync(join(folder, 'events.ndjson'), '');
});
afterEach(() => rmSync(folder, { recursive: true }));

const faults: readonly Fault[] = [
  { fault: 'kill', tpu: 3, at: { step: 5, phase: 'all-gather', bucket: 1, hop: 2 } },
  { fault: 'pause', tpu: 0, at: { during: 'loading', generation: 2 }, for: { ms: 5 } },
  { fault: 'link-down', link: [0, 1], both: true, at: { step: 1 } },
  { fault: 'disk-full', at: { afterMs: 10 } },
];
const time = fc.option(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((it) => it + 0),
  {
    nil: undefined,
  },
);
const text = fc.string({ unit: 'binary' });
const outcome: fc.Arbitrary<FaultOutcome> = fc.record({
  ...{ index: fc.nat(), fault: fc.constantFrom(...faults) },
  ...{ injectedMs: time, detectionMs: time, recoveryMs: time },
  blamed: fc.constantFrom(undefined, null, 0, 7),
});
const judged: fc.Arbitrary<JudgedRun> = fc.record({
  ...{ v: fc.constant(1 as const), ground: fc.constantFrom(...grounds), message: text },
  outcome: fc.constantFrom('done' as const, 'failed' as const),
  faults: fc.array(outcome, { maxLength: 4 }),
  verdicts: fc.array(fc.record({ expectation: text, holds: fc.boolean(), found: text }), {
    maxLength: 4,
  }),
});

function write(text: string): void {
  writeFileSync(join(folder, 'verdict.json'), text);
}

describe('verdict.json', () => {
  test('reads as it was written', () => {
    fc.assert(
      fc.property(judged, (it) => {
        write(JSON.stringify(it));
        expect(readRun(folder).judged).toEqual(it);
      }),
    );
  });

  test('may be missing, and is refused with its name if it is damaged or of another version', () => {
    expect(readRun(folder).judged).toBeUndefined();
    write('{');
    expect(() => readRun(folder)).toThrow(/verdict\.json: expected JSON/);
    write('{ "v": 2 }');
    expect(() => readRun(folder)).toThrow(/verdict\.json: expected version 1, found version 2/);
    const [fault] = faults;
    const base = { v: 1, ground: 'sim', outcome: 'done', message: '', verdicts: [] };
    write(JSON.stringify({ ...base, faults: [{ index: 0, fault: { ...fault, tpu: 'x' } }] }));
    expect(() => readRun(folder)).toThrow(/verdict\.json: damaged: faults\.0\.fault\.tpu: /);
  });
});
