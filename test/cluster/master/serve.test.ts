import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../cluster/limits.ts';
import { pieceBytesMax } from '../../../cluster/master/job-log.ts';
import { hasEnded, type Job, numberOf } from '../../../cluster/master/jobs.ts';
import { JobServer, wordsBytesMax } from '../../../cluster/master/serve.ts';
import { PodError } from '../../../src/numerics/error.ts';
import {
  afterPowerLoss,
  allSurvives,
  type MemoryDirectory,
  Stopped,
  type Survival,
} from '../../experiment/checkpoint/memory-files.ts';
import { checkWords, FakeRunner, type Pod, reportOf, startServer } from './fake-runner.ts';
import { MemoryJobFiles } from './memory-job-files.ts';

/** Returns a clock that advances by 1 ms at each reading. */
function clock(): () => number {
  let ms = 1_700_000_000_000;
  return () => ++ms;
}

async function start(root?: MemoryDirectory): Promise<Pod & { readonly files: MemoryJobFiles }> {
  const files = new MemoryJobFiles(root);
  return { files, ...(await startServer('data', files, clock())) };
}

const statesOf = (server: JobServer): string[] =>
  server.list().map((job) => `${job.id} ${describeState(job)}`);

function describeState(job: Job): string {
  return job.state === 'running' && job.isCancelling ? 'cancelling' : job.state;
}

// --------------------------------------------------------------------------------- against a model

type Action =
  | { readonly kind: 'submit' | 'done' | 'fail' | 'mistake' | 'step' | 'stop' | 'kill' | 'power' }
  | { readonly kind: 'cancel'; readonly job: number };

const simple = (...kinds: Exclude<Action['kind'], 'cancel'>[]): fc.Arbitrary<Action> =>
  fc.constantFrom(...kinds.map((kind) => ({ kind })));

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 4, arbitrary: simple('submit') },
  { weight: 3, arbitrary: simple('done', 'fail', 'step') },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('cancel'), job: fc.nat(12) }) },
  { weight: 2, arbitrary: simple('stop', 'kill', 'power', 'mistake') },
);

/** Model of a job server: the states of all jobs, in order of submission. */
class Model {
  readonly states: string[] = [];

  /** Index of the running job, or −1 if no job runs. */
  get running(): number {
    return this.states.findIndex((it) => it === 'running' || it === 'cancelling');
  }

  /** Starts the next queued job if none runs. */
  settle(): void {
    const next = this.states.indexOf('queued');
    if (this.running < 0 && next >= 0) this.states[next] = 'running';
  }

  /**
   * Ends the running job with `state`. A job that is being cancelled gets the state `cancelled`
   * instead, unless `state` is `done`.
   */
  end(state: string): void {
    const { running } = this;
    const isLate = state !== 'done' && this.states[running] === 'cancelling';
    this.states[running] = isLate ? 'cancelled' : state;
    this.settle();
  }

  cancel(job: number): void {
    if (this.states[job] === 'queued') this.states[job] = 'cancelled';
    if (this.states[job] === 'running') this.states[job] = 'cancelling';
    this.settle();
  }

  restart(): void {
    if (this.states[this.running] === 'cancelling') this.end('cancelled');
    this.settle();
  }
}

async function act(pod: Awaited<ReturnType<typeof start>>, model: Model, action: Action) {
  const { server, runner, files } = pod;
  const isRunning = model.running >= 0;
  switch (action.kind) {
    case 'submit':
      server.submit(['--steps', String(model.states.length)]);
      await turn();
      model.states.push('queued');
      model.settle();
      return pod;
    case 'cancel': {
      const id = `job-${action.job + 1}`;
      const state = model.states[action.job];
      if (state === undefined || /done|failed|cancelled/.test(state)) {
        const code = state === undefined ? 'no-such-job' : 'job-ended';
        expect(() => server.cancel(id)).toThrow(expect.objectContaining({ code }));
      } else server.cancel(id);
      await turn();
      model.cancel(action.job);
      return pod;
    }
    case 'done':
      if (isRunning) {
        await runner.done();
        model.end('done');
      }
      return pod;
    case 'fail':
      if (isRunning) {
        await runner.fail(new PodError('diverged', 'step 3:\n it diverged'));
        model.end('failed');
      }
      return pod;
    case 'step':
      if (isRunning) {
        if (model.states[model.running] === 'cancelling') model.end('cancelled');
        await runner.step();
      }
      return pod;
    case 'mistake': {
      if (!isRunning) return pod;
      const ended = expect(server.ended).rejects.toThrow('ours');
      await runner.fail(new Error('ours'));
      await ended;
      model.end('failed');
      return await start(files.root);
    }
    case 'stop': {
      const stopped = server.stop();
      if (isRunning) await runner.step();
      await stopped;
      model.restart();
      return await start(files.root);
    }
    case 'kill':
    case 'power': {
      const synced: Survival = { names: () => 'synced', bytes: 'synced' };
      const survival = action.kind === 'kill' ? allSurvives : synced;
      model.restart();
      return await start(afterPowerLoss(files.root, survival));
    }
  }
}

test('in any sequence of events no job is lost, run out of order, or run again after its end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const model = new Model();
      let pod = await start();
      for (const action of actions) {
        pod = await act(pod, model, action);
        const { server, runner } = pod;
        expect(statesOf(server)).toEqual(model.states.map((state, i) => `job-${i + 1} ${state}`));
        const { running } = model;
        expect(runner.job?.id).toBe(running < 0 ? undefined : `job-${running + 1}`);
        expect(runner.job?.words).toEqual(running < 0 ? undefined : ['--steps', String(running)]);
        const numbers = runner.begun.map((id) => numberOf(id)!);
        expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
        for (const { id, state } of server.list()) {
          expect(server.report(id)).toEqual(state === 'done' ? reportOf(id) : undefined);
        }
      }
    }),
    { numRuns: 300 },
  );
});

// -------------------------------------------------------------- stopped before every operation

/**
 * What a server reported until its process was stopped. `states` has the state of each job, by job
 * id. Once the process has been stopped, `states` also has the key `dead`. `lines` is the number of
 * log lines.
 */
interface Said {
  states: Map<string, string>;
  lines: number;
}

/**
 * Runs a server and makes it submit, log, cancel and end jobs, in a fixed sequence. Records in
 * `said` what the server reports. If `files` stops the server's process, the function skips the
 * rest of the sequence and adds the key `dead` to `said.states`.
 */
async function play(files: MemoryJobFiles, said: Said): Promise<void> {
  const runner = new FakeRunner();
  const now = clock();
  const server = new JobServer({
    ...{ folder: 'data', run: runner.run, check: checkWords, now, log: () => {}, files },
  });
  const isDead = (): boolean => said.states.has('dead');
  const note = async (work: () => unknown): Promise<void> => {
    if (isDead()) return;
    try {
      await work();
      await turn();
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      said.states.set('dead', '');
      return;
    }
    if (!isDead()) for (const job of server.list()) said.states.set(job.id, describeState(job));
  };
  const log = (line: string): Promise<void> =>
    note(() => {
      runner.hooks.log({ msg: line });
      said.lines++;
    });
  await note(() => {
    server.start();
    server.ended.catch((error) => {
      if (error instanceof Stopped) said.states.set('dead', '');
      else throw error;
    });
  });
  await note(() => server.submit(['--model', 'mlp']));
  await log('first');
  await note(() => server.submit(['--seed', '1']));
  await note(() => server.submit(['--seed', '2']));
  await log('second');
  await note(() => server.cancel('job-2'));
  await note(() => runner.done());
  await note(() => server.submit(['--seed', '3']));
  await note(() => server.cancel('job-3'));
  await note(() => runner.step());
  await note(() => runner.fail(new PodError('diverged', 'no')));
}

const survivals: [string, Survival][] = [
  ['killed', allSurvives],
  ['without power, with only synced data left', { names: () => 'synced', bytes: 'synced' }],
  [
    'without power, with all names and half of the bytes left',
    { names: () => 'all', bytes: 'half' },
  ],
];

/**
 * States of a job in the order in which they follow each other. No job may return to an earlier
 * state.
 */
const progress = ['queued', 'running', 'cancelling', 'ended'];
const progressOf = (state: string): number =>
  progress.includes(state) ? progress.indexOf(state) : progress.length - 1;

describe.each(survivals)('a master that is %s before any operation', (_, survival) => {
  test('is replaced by one that knows all reported states and runs the other jobs in order', async () => {
    const whole = new MemoryJobFiles();
    const all: Said = { states: new Map(), lines: 0 };
    await play(whole, all);
    expect([...all.states.values()]).toEqual(['done', 'cancelled', 'cancelled', 'failed']);
    const count = whole.operations.length;
    expect(count).toBeGreaterThan(40);
    for (let at = 0; at <= count; at++) {
      for (const partial of [false, true]) {
        const said: Said = { states: new Map(), lines: 0 };
        const files = new MemoryJobFiles(undefined, { at, partial });
        await play(files, said);
        expect(said.states.delete('dead')).toBe(at < count);
        await goOn(afterPowerLoss(files.root, survival), said, survival === allSurvives);
      }
    }
  });
});

async function goOn(root: MemoryDirectory, said: Said, isKilled: boolean): Promise<void> {
  const { server, runner } = await start(root);
  const found = new Map(server.list().map((job) => [job.id, describeState(job)]));
  for (const [id, state] of said.states) {
    const now = found.get(id) ?? 'lost';
    if (/queued|running|cancelling/.test(state)) {
      expect([id, progressOf(now) >= progressOf(state)]).toEqual([id, true]);
      if (state === 'cancelling') expect(now).toBe('cancelled');
    } else expect([id, now]).toEqual([id, state]);
  }
  // The first server may have been stopped in the middle of a submission, after it had stored the
  // job and before it had reported the job. So the next server may find one unreported job.
  expect(found.size - said.states.size).toBeLessThanOrEqual(1);
  if (said.states.has('job-1')) {
    const lines = messagesOf(server, 'job-1');
    expect(['first', 'second'].slice(0, lines.length)).toEqual(lines);
    if (isKilled) expect(lines.length).toBeGreaterThanOrEqual(said.lines);
  }
  const last = server.list().length;
  expect(server.submit(['--last']).id).toBe(`job-${last + 1}`);
  await turn();
  const rest = server.list().filter((job) => !hasEnded(job));
  for (const { id } of rest) {
    expect(runner.job?.id).toBe(id);
    runner.hooks.log({ msg: 'again' });
    await runner.done();
  }
  expect(runner.begun).toEqual(rest.map(({ id }) => id));
  expect(server.list().every(hasEnded)).toBe(true);
  for (const { id } of rest) expect(messagesOf(server, id).at(-1)).toBe('again');
}

function messagesOf(server: JobServer, id: string): string[] {
  const lines = server.readLog(id, 0).text.split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line).msg);
}

test('jobs are ordered by number, not by the text of their names', async () => {
  const { server, files } = await start();
  const ids = Array.from({ length: 12 }, () => server.submit([]).id);
  const next = await start(files.root);
  expect(next.server.list().map(({ id }) => id)).toEqual(ids);
  for (const _ of ids) await next.runner.done();
  expect(next.runner.begun).toEqual(ids);
});

test('a job server tells how each job ended', async () => {
  const runner = new FakeRunner();
  const ends: string[] = [];
  const server = new JobServer({
    ...{ folder: 'data', run: runner.run, check: checkWords, now: clock(), log: () => {} },
    ...{ files: new MemoryJobFiles(), ended: (state) => ends.push(state) },
  });
  server.start();
  for (let i = 0; i < 3; i++) server.submit([]);
  await turn();
  await runner.done();
  await runner.fail(new PodError('diverged', 'it diverged'));
  expect(ends).toEqual(['done', 'failed']);
  server.cancel('job-3');
  await runner.step();
  expect(ends).toEqual(['done', 'failed', 'cancelled']);
});

// ------------------------------------------------------------------------------------------ bounds

test('a job has the words that the check of its flags returns', async () => {
  const files = new MemoryJobFiles();
  const runner = new FakeRunner();
  const check = (words: readonly string[]) => ['--expanded', ...words];
  const now = clock();
  const server = new JobServer({
    ...{ folder: 'data', run: runner.run, check, now, log: () => {}, files },
  });
  server.start();
  expect(server.submit(['--config', '/run.yaml']).words).toEqual([
    ...['--expanded', '--config', '/run.yaml'],
  ]);
  await turn();
  expect(runner.job?.words[0]).toBe('--expanded');
  expect(files.read('data/jobs/job-1/job.json')).toContain('--expanded');
});

describe('a job server', () => {
  test('refuses wrong flags and --help', async () => {
    const { server, files } = await start();
    const before = files.operations.length;
    const refused = (word: string, code: string, message: RegExp): void => {
      expect(() => server.submit([word])).toThrow(
        expect.objectContaining({
          name: 'PodError',
          code,
          message: expect.stringMatching(message),
        }),
      );
    };
    refused('--bad', 'bad-flag', /^--bad: expected nothing$/);
    refused('--large', 'out-of-hbm', /./);
    refused('--unknown', 'bad-flag', /^flags of a job: unknown option '--unknown'$/);
    refused('--help', 'bad-flag', /^flags of a job: a request for help$/);
    refused(
      'x'.repeat(wordsBytesMax),
      'too-large',
      /^flags: expected at most 16384 bytes, found 16388$/,
    );
    expect(server.list()).toEqual([]);
    expect(files.operations.length).toBe(before);
    server.submit(['x'.repeat(wordsBytesMax - 4)]);
  });

  test('refuses more jobs than the queue holds, until one has ended', async () => {
    const { server, runner } = await start();
    for (let i = 0; i < limits.queueMax; i++) server.submit([]);
    expect(() => server.submit([])).toThrow(expect.objectContaining({ code: 'too-many' }));
    await turn();
    await runner.done();
    expect(server.submit([]).id).toBe(`job-${limits.queueMax + 1}`);
  });

  test('reports nothing as done that the disk did not take', async () => {
    const { server, files, runner } = await start();
    server.submit([]);
    await turn();
    files.error = 'ENOSPC';
    const full = expect.objectContaining({ code: 'io', message: expect.stringMatching(/ENOSPC/) });
    expect(() => server.submit([])).toThrow(full);
    expect(() => server.cancel('job-1')).toThrow(full);
    expect(() => runner.hooks.log({})).toThrow(full);
    expect(statesOf(server)).toEqual(['job-1 running']);
    const ended = expect(server.ended).rejects.toThrow(full);
    await runner.done();
    await ended;
    files.error = undefined;
    const next = await start(files.root);
    expect(statesOf(next.server)).toEqual(['job-1 running']);
    expect(next.runner.job?.id).toBe('job-1');
  });

  test.each(['', '{"id": "job-2", "state": "lost"}', '[', 'null'])(
    'reports a damaged job.json, keeps it, and runs the other jobs: %j',
    async (text) => {
      const { server, files, runner } = await start();
      for (let i = 0; i < 3; i++) server.submit([]);
      await turn();
      await runner.done();
      files.write('data/jobs/job-2/job.json', text);
      const next = await start(files.root);
      expect(statesOf(next.server)).toEqual(['job-1 done', 'job-3 running']);
      const reason = expect.stringMatching(/^data\/jobs\/job-2\/job\.json: the file is damaged: /);
      expect(next.server.listDamaged()).toEqual([{ id: 'job-2', reason }]);
      expect(() => next.server.find('job-2')).toThrow('the file is damaged');
      expect(next.server.submit([]).id).toBe('job-4');
      expect(next.files.read('data/jobs/job-2/job.json')).toBe(text);
    },
  );

  test('reports a job as damaged whose job.json is missing or that of another job, and keeps it', async () => {
    const { server, files } = await start();
    for (let i = 0; i < 4; i++) server.submit([]);
    files.write('data/jobs/job-2/job.json', files.read('data/jobs/job-1/job.json') ?? '');
    files.rename('data/jobs/job-4/job.json', 'data/jobs/job-4/log.jsonl');
    const next = await start(files.root);
    expect(statesOf(next.server)).toEqual(['job-1 running', 'job-3 queued']);
    expect(next.server.listDamaged().map(({ reason }) => reason)).toEqual([
      'data/jobs/job-2/job.json: the file is damaged: id: expected job-2, found job-1',
      'data/jobs/job-4/job.json: the job is damaged: this file is missing, but log.jsonl exists',
    ]);
    expect(next.server.submit([]).id).toBe('job-5');
  });

  test('does not give the number of a damaged newest job again', async () => {
    const { server, files } = await start();
    for (let i = 0; i < 2; i++) server.submit([]);
    files.write('data/jobs/job-2/job.json', '');
    expect((await start(files.root)).server.submit([]).id).toBe('job-3');
  });
});

describe('a run that must end', () => {
  test('because the master stops does not fail the job if a Cloud TPU is lost meanwhile', async () => {
    const { server, files, runner } = await start();
    server.submit([]);
    await turn();
    const stopped = server.stop();
    expect(runner.hooks.shouldStop()).toBe(true);
    await runner.fail(new PodError('worker-exited', 'gone'));
    await stopped;
    const next = await start(files.root);
    expect(next.runner.job?.id).toBe('job-1');
    // While the first master was stopping, it lost a Cloud TPU. The job did not fail, so the next
    // master runs the job again. The next master has not been asked to stop. So the job fails when
    // the next master loses a Cloud TPU.
    expect(next.runner.hooks.shouldStop()).toBe(false);
    await next.runner.fail(new PodError('worker-exited', 'gone\nfor good'));
    expect(next.server.find('job-1')).toMatchObject({
      ...{ state: 'failed', code: 'worker-exited', exitCode: 3, reason: 'gone; for good' },
    });
  });

  test('because it is cancelled does not stop the next job', async () => {
    const { server, runner } = await start();
    server.submit([]);
    server.submit([]);
    await turn();
    expect(runner.hooks.shouldStop()).toBe(false);
    expect(server.cancel('job-1')).toMatchObject({ state: 'running', isCancelling: true });
    expect(server.cancel('job-1')).toMatchObject({ state: 'running', isCancelling: true });
    expect(runner.hooks.shouldStop()).toBe(true);
    await runner.step();
    expect(runner.job?.id).toBe('job-2');
    expect(runner.hooks.shouldStop()).toBe(false);
  });
});

test('the log of a job is read in pieces of whole lines, each line once', async () => {
  const { server, runner } = await start();
  server.submit([]);
  await turn();
  const texts = [
    '',
    'ü\n"',
    'x'.repeat(pieceBytesMax / 2),
    'y'.repeat(pieceBytesMax / 2),
    '\u{1f4a5}',
  ];
  for (const text of texts) runner.hooks.log({ text });
  runner.hooks.log({ text: 'z'.repeat(pieceBytesMax) });
  const lines: Record<string, unknown>[] = [];
  let parts = 0;
  for (let offset = 0; ; parts++) {
    const { text, next } = server.readLog('job-1', offset);
    if (text === '') break;
    expect(text.endsWith('\n')).toBe(true);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(pieceBytesMax);
    lines.push(
      ...text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    );
    offset = next;
  }
  expect(parts).toBe(2);
  expect(lines.slice(0, -1).map((line) => line['text'])).toEqual(texts);
  expect(lines.at(-1)).toMatchObject({ msg: 'line-too-long' });
  expect(server.readLog('job-1', 1e12).text).toBe('');
});

test('watchers are notified of new lines and states until they unwatch', async () => {
  const { server, runner } = await start();
  server.submit([]);
  await turn();
  let heard = 0;
  const unwatch = server.watch('job-1', () => heard++);
  runner.hooks.log({});
  expect(heard).toBe(1);
  server.cancel('job-1');
  expect(heard).toBe(2);
  unwatch();
  await runner.step();
  expect(heard).toBe(2);
});
