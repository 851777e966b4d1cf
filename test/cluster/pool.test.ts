import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  openThreadPod,
  type ThreadPod,
  type ThreadPodOptions,
} from '../../cluster/threads/pool.ts';
import { compile } from '../../src/compiler/compile.ts';
import { fillScratch, fillStep } from '../../src/data/fill.ts';
import { openDataset } from '../../src/data/open.ts';
import { evaluationPlan, type Plan, trainingPlan } from '../../src/data/plan.ts';
import { linkBytesFormula } from '../../src/fabric/link-bytes.ts';
import { type Direction, linkCount, linkName, podTorus } from '../../src/fabric/torus.ts';
import type { Fault } from '../../src/fault/plan.ts';
import * as b from '../../src/hlo/build.ts';
import { replicaId } from '../../src/hlo/build-random.ts';
import { digest, digestText } from '../../src/numerics/digest.ts';
import { PodError } from '../../src/numerics/error.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { type FeedSource, meanPhaseMs } from '../../src/pod/pod.ts';
import { bytesOf, floatsOf } from '../chip/bench-tpu.ts';
import { requireCompiled } from './compiled.ts';
import { echo, enormous, halving, showing, weightCount } from './programs.ts';

beforeAll(requireCompiled);

const opened: ThreadPod[] = [];
async function open(options: ThreadPodOptions): Promise<ThreadPod> {
  const pod = await openThreadPod(options);
  opened.push(pod);
  return pod;
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((pod) => pod.close()));
});

const start = Float32Array.from({ length: weightCount }, (_, i) => i - 7.25);

async function openHalving(fault?: Fault): Promise<ThreadPod> {
  const pod = await open({
    topology: { columns: 2, rows: 1 },
    mxu: 'fast',
    programs: [
      { executable: halving(2), digested: 1 },
      { executable: showing(), digested: 1, parametersFrom: 0 },
    ],
    ...(fault === undefined ? {} : { faults: [fault] }),
  });
  await pod.writeParameters(0, [bytesOf(start)]);
  return pod;
}

describe('steps of a pod of threads', () => {
  test('update the weights on every Cloud TPU, and a second program reads them', async () => {
    const pod = await openHalving();
    for (let step = 0; step < 5; step++) {
      const commit = await pod.step(0);
      const expected = start.map((value) => value / 2 ** (step + 1));
      expect(commit).toMatchObject({ program: 0, step });
      expect(commit.digest).toBe(digestText(digest(new Uint32Array(expected.buffer))));
      expect(commit.reports.map((report) => report.tpu)).toEqual([0, 1]);
      for (const { outfeed } of commit.reports) expect(floatsOf(outfeed[0]!)).toEqual(expected);
      expect(meanPhaseMs(commit.reports).length).toBe(5);
    }
    const shown = await pod.step(1);
    expect(floatsOf(shown.reports[1]!.outfeed[0]!)).toEqual(start.map((value) => value / 32));
    await pod.writeParameters(0, [bytesOf(start)]);
    expect(floatsOf((await pod.step(1)).reports[0]!.outfeed[0]!)).toEqual(start);
    expect((await pod.readParameters(0)).map(floatsOf)).toEqual([start]);
  });

  test('run instructions in plain code, for which no unit of a core has code', async () => {
    const weights = b.parameter(0, arrayShape('f32', [weightCount, 1]));
    const whole = b.convert(b.convert(weights, 's64'), 'f32');
    const module = b.module('truncates', [weights], b.outfeed(whole, b.afterAll()));
    const executable = compile(module, { cores: 8 });
    expect(executable.instructions.map(({ unit }) => unit)).toContain('plain');
    const topology = { columns: 2, rows: 1 };
    const pod = await open({ topology, mxu: 'fast', programs: [{ executable, digested: 1 }] });
    await pod.writeParameters(0, [bytesOf(start)]);
    const { reports } = await pod.step(0);
    for (const { outfeed } of reports) {
      expect(floatsOf(outfeed[0]!)).toEqual(start.map((value) => Math.trunc(value) + 0));
    }
  });

  test('tell each core the number of its replica', async () => {
    const weights = b.parameter(0, arrayShape('f32', [weightCount, 1]));
    const sent = b.outfeed(b.convert(replicaId(), 'f32'), b.afterAll());
    const executable = compile(b.module('numbered', [weights], sent), { cores: 8 });
    const topology = { columns: 2, rows: 1 };
    const pod = await open({ topology, mxu: 'fast', programs: [{ executable, digested: 1 }] });
    await pod.writeParameters(0, [bytesOf(start)]);
    const { reports } = await pod.step(0);
    expect(reports.map(({ outfeed }) => [...floatsOf(outfeed[0]!)])).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 7],
      [8, 9, 10, 11, 12, 13, 14, 15],
    ]);
  });

  test('move the bytes over each link that the formula states', async () => {
    const pod = await openHalving();
    for (let step = 0; step < 3; step++) await pod.step(0);
    const torus = podTorus(pod.topology);
    const links = Array.from({ length: linkCount(torus) }, (_, link) => link);
    const expected = Object.fromEntries(
      links.map((link) => {
        const once = linkBytesFormula(torus, weightCount, link >> 2, (link & 3) as Direction);
        return [linkName(torus, link), 3 * once];
      }),
    );
    expect(pod.linkBytes()).toEqual(expected);
  });

  test('give the same digest with systolic arrays and without fused multiply-add', async () => {
    const digestWith = async (options: Partial<ThreadPodOptions>): Promise<string> => {
      const topology = { columns: 1, rows: 1 };
      const programs = [{ executable: halving(1), digested: 1 }];
      const pod = await open({ topology, programs, mxu: 'fast', ...options });
      await pod.writeParameters(0, [bytesOf(start)]);
      return (await pod.step(0)).digest;
    };
    const expected = await digestWith({});
    expect(await digestWith({ mxu: 'systolic' })).toBe(expected);
    expect(await digestWith({ relaxed: false })).toBe(expected);
  });
});

describe('feeds of a pod of threads', () => {
  const tpus = 2;
  const batch = 3;
  const globalBatch = tpus * 8 * batch;
  const source = {
    dataset: 'digits:100',
    datasetSeed: 4,
    globalBatch,
    orderSeed: 9,
  };
  const size = { globalBatch, replicasPerTpu: 8, tpus };

  test('give every core its samples from the first step on, also over several passes', async () => {
    const { train, test: held } = openDataset('digits:100', 4);
    const feeds: FeedSource[] = [
      { ...source, split: 'train', order: 'training', digest: train.digest() },
      { ...source, split: 'train', order: 'evaluation', digest: train.digest() },
    ];
    const pod = await open({
      topology: { columns: tpus, rows: 1 },
      mxu: 'fast',
      programs: feeds.map((feed) => ({ executable: echo(batch), digested: 0, feed })),
      start: { generation: 3, steps: [2, 1], digests: [null, null], mustKeepParameters: false },
    });
    const next = [2, 1];
    const check = async (program: number, plan: Plan, step: number): Promise<void> => {
      const { reports, step: committed } = await pod.step(program);
      expect(committed).toBe(next[program]);
      next[program] = committed + 1;
      for (const { tpu, outfeed } of reports) {
        const images = new Float32Array(8 * batch * 784);
        const labels = new Int32Array(8 * batch);
        fillStep(train, plan, tpu, step, images, labels, fillScratch(train, plan));
        expect(Buffer.compare(outfeed[0]!, new Uint8Array(images.buffer))).toBe(0);
        expect(outfeed[1]).toEqual(new Uint8Array(labels.buffer));
      }
    };
    expect(held.size).toBeGreaterThan(0);
    const training = trainingPlan({ ...size, size: train.size }, 9);
    const evaluation = evaluationPlan({ ...size, size: train.size });
    for (const step of [2, 3, 4]) await check(0, training, step);
    for (const step of [1, 2, 0, 1, 2]) await check(1, evaluation, step);
    for (const step of [5, 6, 7, 8]) await check(0, training, step);
  });

  test('end the run if the data have other contents than the master has, and name the digests', async () => {
    const digest = openDataset('digits:100', 5).train.digest();
    const feed: FeedSource = { ...source, split: 'train', order: 'training', digest };
    const topology = { columns: tpus, rows: 1 };
    const programs = [{ executable: echo(batch), digested: 0, feed }];
    const running = open({ topology, mxu: 'fast', programs }).then((pod) => pod.step(0));
    await expect(running).rejects.toMatchObject({
      code: 'bad-data',
      message: expect.stringContaining(digest.slice(0, 16)),
    });
  });

  test('are refused before a thread starts if they are impossible', async () => {
    const digest = openDataset('digits:100', 4).train.digest();
    const feed: FeedSource = { ...source, split: 'train', order: 'training', digest };
    const openWith = (it: FeedSource): Promise<unknown> =>
      open({
        topology: { columns: tpus, rows: 1 },
        mxu: 'fast',
        programs: [{ executable: echo(batch), digested: 0, feed: it }],
      });
    await expect(openWith({ ...feed, dataset: 'nonsense' })).rejects.toMatchObject({
      code: 'bad-flag',
    });
    await expect(openWith({ ...feed, globalBatch: 17 })).rejects.toMatchObject({
      code: 'bad-flag',
    });
  });
});

describe('a Cloud TPU that fails is named, and the run ends', () => {
  const name = 'Cloud TPU 1 (x 1, y 0), in step 3 of the training,';

  async function failure(pod: ThreadPod, after?: () => void): Promise<PodError> {
    await pod.step(0);
    await pod.step(0);
    const step = pod.step(0);
    after?.();
    const error = await step.then(
      () => new Error('the step was committed'),
      (reason: unknown) => reason,
    );
    if (!(error instanceof PodError)) throw error;
    expect(error.exitCode).toBe(3);
    await expect(pod.step(0)).rejects.toBe(error);
    await pod.close();
    return error;
  }
  const faulty = (fault: 'throw' | 'exit' | 'hang'): Promise<ThreadPod> =>
    openHalving({ fault, tpu: 1, at: { step: 3 } });

  test('when it throws', async () => {
    const error = await failure(await faulty('throw'));
    expect(error.code).toBe('worker-threw');
    expect(error.message).toBe(`${name} failed: Error: injected fault`);
  });

  test('when it exits', async () => {
    const error = await failure(await faulty('exit'));
    expect(error.code).toBe('worker-exited');
    expect(error.message).toBe(`${name} exited: worker exited with code: 7`);
  });

  test('when it hangs', async () => {
    const error = await failure(await faulty('hang'));
    expect(error.code).toBe('worker-silent');
    expect(error.message).toMatch(
      /^Cloud TPU 1 \(x 1, y 0\), in step 3 of the training, fell silent/,
    );
  });

  test('when its thread is killed from outside in the middle of a step', async () => {
    const pod = await faulty('hang');
    const error = await failure(pod, () => pod.kill(1));
    expect(error.code).toBe('worker-exited');
    expect(error.message).toContain(`${name} exited: `);
  });

  test('when its thread is killed between two steps', async () => {
    const pod = await openHalving();
    await pod.step(0);
    pod.kill(0);
    await expect(pod.step(0)).rejects.toMatchObject({ code: 'worker-exited' });
  });
});

test('more memory than can be addressed is refused in one line', async () => {
  const opening = open({
    topology: { columns: 8, rows: 8 },
    mxu: 'fast',
    programs: [{ executable: enormous(), digested: 0 }],
  });
  await expect(opening).rejects.toMatchObject({ code: 'out-of-memory' });
  await expect(opening).rejects.toThrow(
    /^64 Cloud TPUs in one process take \d+ MiB, at most 4096: /,
  );
});
