import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { StepTold, Straggler } from '../../../src/experiment/event.ts';
import { shell } from '../../cli/run-pod.ts';
import { requireCompiled } from '../compiled.ts';

beforeAll(requireCompiled);
const folder = mkdtempSync(join(tmpdir(), 'waits-'));
afterAll(() => rmSync(folder, { recursive: true }));

const slow = 2;
const [firstSlow, lastSlow] = [3, 12];
const longSlow = 13;
const longMs = 400;

/**
 * Writes a plan that pauses Cloud TPU `slow` once in each step from `firstSlow` to `longSlow`,
 * inside the all-reduce. The pause lasts `longMs` in step `longSlow`, and 30 ms in the other steps.
 */
function writePlan(path: string): void {
  const faults = Array.from({ length: longSlow - firstSlow + 1 }, (_, i) => ({
    ...{ fault: 'pause', tpu: slow, for: { ms: firstSlow + i === longSlow ? longMs : 30 } },
    at: { step: firstSlow + i, phase: 'reduce-scatter', bucket: 0, hop: 2 },
  }));
  const run = { tpus: 4, model: 'mlp', steps: 14, globalBatch: 64, evaluate: 64 };
  writeFileSync(path, JSON.stringify({ run, faults, expect: { outcome: 'done' } }));
}

test('a Cloud TPU that stands still inside the all-reduce is named, and its links', async () => {
  writePlan(join(folder, 'plan.yaml'));
  const words = 'chaos run plan.yaml --ground processes --run record';
  const { code, stdout } = await shell(`$pod ${words}`, { cwd: folder });
  expect({ code, stdout }).toMatchObject({ code: 0 });
  const lines = readFileSync(join(folder, 'record/events.ndjson'), 'utf8').trim().split('\n');
  const events = lines.map((line) => JSON.parse(line) as StepTold | Straggler);
  const steps = events.filter((it) => it.kind === 'step');
  // A Cloud TPU is a square of 2×2 chips. On each of its four sides two links enter it, one for
  // each chip on that side. Each Cloud TPU reports one wait for each of these eight links.
  for (const { tpuLinkWaitMs } of steps)
    expect(tpuLinkWaitMs?.map((waits) => waits.length)).toEqual([8, 8, 8, 8]);
  const slowSteps = steps.filter(({ step }) => step >= firstSlow && step <= lastSlow);
  const named = slowSteps.filter(({ slowest }) => slowest?.tpu === slow);
  expect(named.length).toBeGreaterThanOrEqual(0.6 * slowSteps.length);
  // The link with the longest wait must be one that leaves Cloud TPU 2. Cloud TPU 2 is at column 0
  // and row 1, so its chips have x = 0 or 1 and y = 2 or 3.
  for (const { timing } of named)
    expect(timing?.slowestLink?.link).toMatch(/^chip\([01],[23]\)[+-][xy]$/);
  expect(named.some(({ timing }) => timing?.slowestPhase === 'all-reduce')).toBe(true);
  // In step `longSlow`, other Cloud TPUs wait for Cloud TPU `slow`, so they measure most of its
  // pause as a wait. Cloud TPU `slow` must not measure its own pause as a wait.
  const long = steps.find(({ step }) => step === longSlow);
  expect(long?.slowest?.tpu).toBe(slow);
  expect(long?.timing?.slowestLink?.waitMs).toBeGreaterThan(0.6 * longMs);
  const own = long?.tpuLinkWaitMs?.[slow] ?? [];
  expect(own.reduce((sum, ms) => sum + ms, 0) / own.length).toBeLessThan(0.5 * longMs);
  const stragglers = events.filter((it) => it.kind === 'straggler');
  expect(stragglers.map(({ tpu }) => tpu)).toContain(slow);
}, 60_000);
