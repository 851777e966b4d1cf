import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jobsKept } from '../../../cluster/master/job-metrics.ts';
import { Metrics } from '../../../cluster/master/metrics.ts';
import { RunState } from '../../../cluster/master/run-state.ts';
import type { PodStatus, ProcessPod } from '../../../cluster/process/pod.ts';
import type { StepTold } from '../../../src/experiment/event.ts';
import type { RunFact } from '../../../src/run/event.ts';
import { RunStream } from '../../../src/run/stream.ts';
import { facts } from '../../run/facts.ts';
import { type Family, keyOf, parseExposition, problemsOf } from './exposition.ts';

/** Returns a pod of 2x1 Cloud TPUs, of which the second has not joined. */
function podWith(linkBytes: () => Record<string, number>): ProcessPod {
  const member = { pid: 1, host: null, hostname: null };
  const status: PodStatus = {
    ...{ phase: 'ready', generation: 3, spares: 1 },
    tpus: [
      { tpu: 0, state: 'joined', ...member },
      { tpu: 1, state: 'absent', ...member },
    ],
  };
  const topology = { columns: 2, rows: 1 };
  return { topology, linkBytes, status: () => status } as unknown as ProcessPod;
}

/** Begins a job in `metrics`. Returns a function that tells `metrics` facts of the job's run. */
async function jobOf(metrics: Metrics, job: string): Promise<(...facts: RunFact[]) => void> {
  const stream = new RunStream([await metrics.begin(job)]);
  return (...all) => {
    for (const it of all) stream.tell(it);
  };
}

async function read(metrics: Metrics): Promise<Family[]> {
  return parseExposition(await metrics.text());
}

/**
 * Returns the value of each sample of the metric `name`. The key of a sample consists of the values
 * of its labels, without the label `job`.
 */
function valuesIn(families: readonly Family[], name: string): Record<string, number> {
  const samples = families.flatMap((it) => it.samples).filter((it) => it.name === name);
  return Object.fromEntries(
    samples.map(({ labels: { job: _, ...labels }, value }) => [
      Object.values(labels).join(' '),
      value,
    ]),
  );
}

const started = {
  ...{ kind: 'started', tpus: 2, steps: 9, hbmBytesPerCore: 4096 },
  config: { globalBatch: 16, topology: { columns: 2, rows: 1 } },
} as unknown as RunFact;
const step = {
  ...{ kind: 'step', step: 1, wallMs: 100, imagesPerSecond: 160, loss: 2 },
  phaseMs: { infeed: 1, compute: 50, 'all-reduce': 30, update: 1, outfeed: 1, commit: 17 },
  slowest: { tpu: 1, ownMs: 80, othersMs: 20 },
  timing: { slowestPhase: 'compute', slowestSince: 1, waitMs: 60, causedMs: 60 },
  tpuPhaseMs: [
    [1, 20, 60, 1, 1],
    [1, 80, 1, 1, 1],
  ],
  // Each Cloud TPU has four waits, one for the link into each of its four chips. The links of waits
  // 0 and 2 have the direction +x, those of waits 1 and 3 the direction −x.
  tpuLinkWaitMs: [
    [10, 20, 30, 40],
    [0, 1, 2, Number.NaN],
  ],
} as unknown as StepTold;
const note = (event: string, tpu: number | null, elapsedMs = 0) =>
  ({ kind: 'note', note: { event, tpu, elapsedMs } }) as unknown as RunFact;

describe('the metrics of a job', () => {
  test('count steps, phases of each Cloud TPU, faults, recoveries and checkpoints', async () => {
    const metrics = new Metrics();
    const tell = await jobOf(metrics, 'job-1');
    tell(started, step, { ...step, step: 2 });
    tell({ kind: 'straggler', step: 2, inARow: 3, tpu: 1, ownMs: 80, othersMs: 20 });
    tell(note('lost', 1), note('replaced', 1), note('resumed', null, 1500));
    tell({ kind: 'checkpoint', step: 2, name: 'a', bytes: 1, wallMs: 20 });
    tell({ kind: 'checkpoint-failed', step: 2, reason: 'full' });
    const families = await read(metrics);
    const values = (name: string) => valuesIn(families, name);
    expect(values('pod_steps_total')).toEqual({ '': 2 });
    expect(values('pod_images_total')).toEqual({ '': 32 });
    expect(values('pod_step_seconds_sum')).toEqual({ '': 0.2 });
    expect(values('pod_tpu_phase_seconds_total')).toMatchObject({
      ...{ '0 compute': 0.04, '1 compute': 0.16, '0 all-reduce': 0.12, '1 all-reduce': 0.002 },
    });
    expect(values('pod_phase_seconds_count')).toMatchObject({ compute: 4, commit: 2 });
    expect(values('pod_tpu_slowest_steps_total')).toEqual({ 0: 0, 1: 2 });
    expect(values('pod_tpu_caused_wait_seconds_total')).toEqual({ 0: 0, 1: 0.12 });
    expect(values('pod_stragglers_total')).toEqual({ 0: 0, 1: 1 });
    expect(values('pod_tpu_losses_total')).toEqual({ 0: 0, 1: 1 });
    expect(values('pod_recoveries_total')).toEqual({ '': 1 });
    expect(values('pod_recovery_stages_total')).toEqual({ lost: 1, replaced: 1, resumed: 1 });
    expect(values('pod_recovery_seconds_sum')).toEqual({ '': 1.5 });
    expect(values('pod_checkpoints_total')).toEqual({ saved: 1, failed: 1, refused: 0 });
    expect(values('pod_hbm_bytes_per_core')).toEqual({ '': 4096 });
    // While Cloud TPU 0 waits, it waits for Cloud TPU 1. So the metric counts the waits of Cloud
    // TPU 0 for Cloud TPU 1. The factor 2 is the number of steps.
    expect(values('pod_link_wait_seconds_total')).toEqual({
      ...{ '1 +x': (2 * (10 + 30)) / 1000, '1 -x': (2 * (20 + 40)) / 1000 },
      ...{ '0 +x': (2 * 2) / 1000, '0 -x': (2 * 1) / 1000 },
    });
  });

  test('count the bytes of links by Cloud TPU and direction, up to the end of the job', async () => {
    const metrics = new Metrics();
    const state = new RunState('pod', metrics, { ready() {}, lost() {} }, true);
    // The chips of Cloud TPU 1 of a 2x1 slice have x = 2 and 3.
    const sent = { 'chip(0,0)+x': 5, 'chip(1,1)+x': 6, 'chip(2,0)+x': 7, 'chip(3,1)-y': 8 };
    const pod = podWith(() => ({ ...sent }));
    state.begin('job-1');
    await metrics.begin('job-1');
    state.gathering(pod);
    const scrape = async () => valuesIn(parseExposition((await state.metrics()).text), linkBytes);
    const linkBytes = 'pod_link_bytes_total';
    expect(await scrape()).toEqual({ '0 +x': 11, '1 +x': 7, '1 -y': 8 });
    sent['chip(0,0)+x'] = 105;
    expect(await scrape()).toMatchObject({ '0 +x': 111 });
    sent['chip(0,0)+x'] = 205;
    state.pod(undefined);
    expect(await scrape()).toEqual({ '0 +x': 211, '1 +x': 7, '1 -y': 8 });
  });

  test('have gauges only while the job runs, also for each Cloud TPU', async () => {
    const metrics = new Metrics();
    const state = new RunState('pod', metrics, { ready() {}, lost() {} }, false);
    const tell = await jobOf(metrics, 'pod');
    tell(started, step);
    state.gathering(podWith(() => ({})));
    const text = async () => (await state.metrics()).text;
    expect(valuesIn(parseExposition(await text()), 'pod_tpu_up')).toEqual({ 0: 1, 1: 0 });
    expect(await text()).toMatch(/^pod_membership_generation\{job="pod"\} 3$/m);
    state.pod(undefined);
    expect(await text()).not.toMatch(/^pod_(tpu_up|loss|membership_generation|spare_workers)\{/m);
    expect(await text()).toMatch(/^pod_steps_total\{job="pod"\} 1$/m);
  });

  test('of old jobs are removed, so that a master of many jobs does not grow', async () => {
    const metrics = new Metrics();
    for (let i = 1; i <= jobsKept + 3; i++) {
      const tell = await jobOf(metrics, `job-${i}`);
      tell(started, step, note('lost', 0), note('resumed', null));
    }
    const jobs = (await read(metrics)).flatMap((it) =>
      it.samples.map(({ labels }) => labels['job']),
    );
    const kept = Array.from({ length: jobsKept }, (_, i) => `job-${i + 4}`);
    expect([...new Set(jobs)].filter((it) => it !== undefined).sort()).toEqual(kept);
  });
});

describe('the queue', () => {
  test('has gauges of waiting and running jobs, and counts how jobs end', async () => {
    const metrics = new Metrics();
    const ended = metrics.addQueue(
      () =>
        [
          ...[{ state: 'queued' }, { state: 'queued' }, { state: 'running' }, { state: 'done' }],
        ] as const,
    );
    for (const state of ['done', 'failed', 'done'] as const) ended(state);
    const families = await read(metrics);
    expect(valuesIn(families, 'pod_jobs_queued')).toEqual({ '': 2 });
    expect(valuesIn(families, 'pod_jobs_running')).toEqual({ '': 1 });
    expect(valuesIn(families, 'pod_jobs_ended_total')).toEqual({
      done: 2,
      failed: 1,
      cancelled: 0,
    });
  });
});

test('the process has its build, processor time, memory and start', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const families = await read(new Metrics());
  const value = (name: string): number => Object.values(valuesIn(families, name))[0] ?? Number.NaN;
  expect(valuesIn(families, 'pod_build_info')).toEqual({ [`${version} ${process.version}`]: 1 });
  expect(value('process_cpu_seconds_total')).toBeGreaterThan(0.01);
  expect(value('process_resident_memory_bytes')).toBeGreaterThan(1e7);
  expect(Math.abs(value('process_start_time_seconds') - Date.now() / 1000)).toBeLessThan(3600);
  expect(value('nodejs_eventloop_busy_seconds_total')).toBeGreaterThan(0);
});

/** Arbitrary facts of a run of at most eight Cloud TPUs. Times can be negative: clocks may jump. */
const someFacts: fc.Arbitrary<readonly RunFact[]> = fc.array(
  fc
    .tuple(
      fc.oneof(facts.started, facts.step, facts.note, facts.checkpoint, facts.resumed),
      fc.nat(7),
    )
    .map(([fact, tpu]): RunFact => {
      switch (fact.kind) {
        case 'started':
          return { ...fact, tpus: tpu + 1 };
        case 'step':
          return { ...fact, ...(fact.slowest && { slowest: { ...fact.slowest, tpu } }) };
        case 'note':
          return { ...fact, note: { ...fact.note, tpu } };
        default:
          return fact;
      }
    }),
  { maxLength: 6 },
);

test('whatever a run tells, promtool would accept the metrics, and no counter falls', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(someFacts, { maxLength: jobsKept }), async (runs) => {
      const metrics = new Metrics();
      metrics.addQueue(() => []);
      let before = new Map<string, number>();
      for (const [i, run] of runs.entries()) {
        const tell = await jobOf(metrics, `job "${i}"\\\n`);
        for (const fact of run) {
          tell(fact);
          const families = await read(metrics);
          expect(problemsOf(families)).toEqual([]);
          before = noneFell(before, families);
        }
      }
    }),
    { numRuns: 30 },
  );
});

/**
 * Checks that no counter and no count of a histogram is below its value in `before`. Returns the
 * new values, for the next check.
 */
function noneFell(before: ReadonlyMap<string, number>, families: readonly Family[]) {
  const rising = families.filter(({ type }) => type !== 'gauge').flatMap(({ samples }) => samples);
  const now = new Map(rising.map((it) => [keyOf(it), it.value]));
  for (const [series, value] of before) {
    expect([series, now.has(series)]).toEqual([series, true]);
    expect([series, now.get(series)]).toEqual([series, Math.max(value, now.get(series) ?? 0)]);
  }
  return now;
}

describe('the checks of the text format', () => {
  const counter = '# HELP a_total A.\n# TYPE a_total counter\n';
  test.each([
    ['no newline', `${counter}a_total 1`],
    ['no HELP', '# TYPE a_total counter\na_total 1\n'],
    ['no TYPE', '# HELP a_total A.\na_total 1\n'],
    ['HELP alone', '# HELP a_total A.\n'],
    ['another type', '# HELP a A.\n# TYPE a number\na 1\n'],
    ['a sample of another family', `${counter}b 1\n`],
    ['a family in two parts', `${counter}a_total 1\n${counter}a_total{b="c"} 1\n`],
    ['a value that is no number', `${counter}a_total one\n`],
    ['a label without quotes', `${counter}a_total{b=c} 1\n`],
    ['a label twice', `${counter}a_total{b="c",b="d"} 1\n`],
    ['an escape that does not exist', `${counter}a_total{b="\\t"} 1\n`],
  ])('refuse %s', (_, text) => {
    expect(() => parseExposition(text)).toThrow();
  });

  const histogram = (buckets: string, count: number): string =>
    `# HELP h_seconds H.\n# TYPE h_seconds histogram\n${buckets}h_seconds_sum 1\nh_seconds_count ${count}\n`;
  const bucket = (le: string, value: number): string => `h_seconds_bucket{le="${le}"} ${value}\n`;
  test.each([
    ['a counter without _total', '# HELP a A.\n# TYPE a counter\na 1\n', '_total'],
    ['a gauge with _total', '# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n', '_total'],
    ['no help', '# HELP a \n# TYPE a gauge\na 1\n', 'help'],
    ['milliseconds', '# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n', 'unit'],
    ['a series twice', `${counter}a_total 1\na_total 2\n`, 'twice'],
    ['no +Inf', histogram(bucket('1', 1), 1), '+Inf'],
    ['buckets that fall', histogram(bucket('1', 2) + bucket('+Inf', 1), 1), 'cumulative'],
    ['another count', histogram(bucket('1', 1) + bucket('+Inf', 1), 2), '_count'],
  ])('find %s', (_, text, said) => {
    expect(problemsOf(parseExposition(text)).join()).toContain(said);
  });

  test('find nothing wrong with a right histogram', () => {
    const right = histogram(bucket('0.5', 1) + bucket('+Inf', 2), 2);
    expect(problemsOf(parseExposition(right))).toEqual([]);
  });
});
