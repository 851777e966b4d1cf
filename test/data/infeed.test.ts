import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Dataset } from '../../src/data/dataset.ts';
import { fillScratch, fillStep, paddingLabel } from '../../src/data/fill.ts';
import { type InfeedGeometry, InfeedQueue, infeedBytes } from '../../src/data/infeed.ts';
import { type Feed, loaderLoop, shareOf } from '../../src/data/loader.ts';
import { assignSamples, evaluationPlan, tpuBatch, trainingPlan } from '../../src/data/plan.ts';

test('a queue passes on its steps in order for every depth and every interleaving', () => {
  const depths = fc.integer({ min: 1, max: 4 });
  fc.assert(
    fc.property(depths, fc.array(fc.boolean(), { maxLength: 80 }), (depth, moves) => {
      const geometry = { tpu: 0, depth, samples: 3, elements: 2 };
      const [loader, consumer] = bothEnds(geometry);
      let produced = 0;
      let consumed = 0;
      for (const produce of moves) {
        if (produce) {
          const ready = loader.produce(produced, 0);
          expect(ready).toBe(produced - consumed < depth);
          if (ready) write(loader, produced++);
        } else if (consumed < produced) {
          expectWritten(consumer, consumed);
          consumer.release(consumed++);
        } else {
          expect(() => consumer.consume(consumed, 0, 'the loader')).toThrow('found nothing');
        }
      }
    }),
  );
});

test('a silent loader is named with step and Cloud TPU', () => {
  const [, consumer] = bothEnds({ tpu: 5, depth: 2, samples: 1, elements: 1 });
  expect(() => consumer.consume(3, 30, 'loader 1')).toThrow(
    expect.objectContaining({
      code: 'worker-silent',
      message: 'loader 1: expected the next infeed for Cloud TPU 5, found nothing for 30 ms',
    }),
  );
});

test('a stopped queue takes and returns no more steps until it is reset', () => {
  const [loader, consumer] = bothEnds({ tpu: 0, depth: 2, samples: 1, elements: 1 });
  write(loader, 0);
  consumer.stop();
  expect(loader.produce(1, 10_000)).toBe(false);
  expect(consumer.consume(0, 10_000, 'the loader')).toBeUndefined();
  consumer.reset();
  expect(loader.produce(0, 0)).toBe(true);
});

test('steps out of order fail an assertion', () => {
  const [loader, consumer] = bothEnds({ tpu: 0, depth: 2, samples: 1, elements: 1 });
  expect(() => consumer.release(0)).toThrow('infeed step 0');
  write(loader, 0);
  expect(() => loader.publish(0)).toThrow('infeed step 0');
  expect(() => loader.produce(0, 0)).toThrow('infeed step 0');
});

test('queues side by side in one memory do not touch each other', () => {
  const geometry = { tpu: 0, depth: 2, samples: 3, elements: 5 };
  const bytes = infeedBytes(geometry);
  const buffer = new SharedArrayBuffer(3 * bytes);
  new Uint8Array(buffer).fill(0xff);
  new Uint8Array(buffer, bytes, bytes).fill(0);
  const queue = new InfeedQueue(buffer, bytes, geometry);
  for (let step = 0; step < 4; step++) {
    expect(queue.produce(step, 0)).toBe(true);
    queue.images(step).fill(1);
    queue.labels(step).fill(1);
    queue.publish(step);
    const offset = queue.consume(step, 0, 'the loader')!;
    expect(offset).toBe(queue.images(step).byteOffset);
    expect(offset % 64).toBe(0);
    expect(queue.labels(step).byteOffset).toBe(offset + 3 * 5 * 4);
    queue.release(step);
  }
  queue.stop();
  const around = [new Uint8Array(buffer, 0, bytes), new Uint8Array(buffer, 2 * bytes)];
  for (const region of around) expect(region.every((byte) => byte === 0xff)).toBe(true);
});

test('fillStep writes the normalised samples of the plan, and zeros as padding', () => {
  fc.assert(
    fc.property(fc.nat(9), fc.nat(2), fc.boolean(), (step, tpu, training) => {
      const slice = { size: 61, globalBatch: 24, replicasPerTpu: 8, tpus: 3 };
      const plan = training ? trainingPlan(slice, 4) : evaluationPlan(slice);
      const images = new Float32Array(8 * 4).fill(9);
      const labels = new Int32Array(8).fill(9);
      const scratch = fillScratch(countingSet, plan);
      fillStep(countingSet, plan, tpu, step, images, labels, scratch);
      const samples = new Float64Array(tpuBatch(plan));
      assignSamples(plan, tpu, step, samples);
      samples.forEach((sample, i) => {
        expect(labels[i]).toBe(sample < 0 ? paddingLabel : sample % 10);
        const expected = [0, 1, 2, 3].map((p) => (sample < 0 ? 0 : Math.fround((sample + p) / 2)));
        expect([...images.subarray(4 * i, 4 * i + 4)]).toEqual(expected);
      });
    }),
  );
});

test('loaders share the Cloud TPUs evenly, each once', () => {
  const all = [0, 1, 2, 3, 4, 5, 6, 7];
  expect(shareOf(all, 1, 3)).toEqual([1, 4, 7]);
  expect([0, 1, 2].flatMap((loader) => shareOf(all, loader, 3)).toSorted()).toEqual(all);
});

test('loaderLoop feeds consumers on other threads with training and evaluation samples', async () => {
  const tpus = 3;
  const slice = { size: 61, globalBatch: 24, replicasPerTpu: 8, tpus };
  const queues = Array.from({ length: tpus }, (_, tpu) => newQueue({ ...geometry4, tpu }));
  const received = queues.map(({ buffer }) => consumeOnThread(buffer, 53));
  const train: Feed = {
    dataset: countingSet,
    plan: trainingPlan(slice, 4),
    firstStep: 7,
    steps: 50,
    queueStep: 0,
  };
  const evaluate: Feed = {
    dataset: countingSet,
    plan: evaluationPlan(slice),
    firstStep: 0,
    steps: 3,
    queueStep: 50,
  };
  const limits = { patienceMs: 20_000, shouldStop: () => false };
  const ends = queues.map(({ queue }) => queue);
  expect(loaderLoop(ends, train, limits)).toBe('finished');
  expect(loaderLoop(ends, evaluate, limits)).toBe('finished');
  for (const [tpu, labels] of (await Promise.all(received)).entries()) {
    const samples = new Float64Array(8);
    const expected = Array.from({ length: 53 }, (_, step) => {
      if (step < 50) assignSamples(train.plan, tpu, 7 + step, samples);
      else assignSamples(evaluate.plan, tpu, step - 50, samples);
      return Array.from(samples, (sample) => (sample < 0 ? paddingLabel : sample % 10));
    });
    expect(labels).toEqual(expected);
  }
});

test('loaderLoop ends on request, when its queue stops, and when no consumer takes its steps', () => {
  const feed: Feed = {
    dataset: countingSet,
    plan: trainingPlan({ size: 61, globalBatch: 8, replicasPerTpu: 8, tpus: 1 }, 4),
    firstStep: 0,
    steps: 10,
    queueStep: 0,
  };
  let looks = 0;
  const patient = { patienceMs: 20_000, shouldStop: () => looks++ > 4 };
  expect(loaderLoop([newQueue(geometry4).queue], feed, patient)).toBe('stopped');

  const { queue } = newQueue(geometry4);
  queue.stop();
  const deaf = { patienceMs: 20_000, shouldStop: () => false };
  expect(loaderLoop([queue], feed, deaf)).toBe('stopped');

  const hasty = { patienceMs: 250, shouldStop: () => false };
  const message =
    'Cloud TPU 0: expected the cores to take the oldest infeed, found it still in its slot after 250 ms';
  expect(() => loaderLoop([newQueue(geometry4).queue], feed, hasty)).toThrow(
    expect.objectContaining({ code: 'worker-silent', message }),
  );
});

test('a stop by another thread ends a wait', async () => {
  const { queue, buffer } = newQueue(geometry4);
  const worker = new Worker(stopper, { eval: true, workerData: buffer });
  expect(queue.consume(0, 60_000, 'the loader')).toBeUndefined();
  await worker.terminate();
});

const geometry4: InfeedGeometry = { tpu: 0, depth: 2, samples: 8, elements: 4 };

/** A data set whose sample i has the pixels i, i + 1, i + 2, i + 3 and the label i mod 10. */
const countingSet: Dataset = {
  name: 'counting',
  size: 61,
  rows: 2,
  columns: 2,
  channels: 1,
  classes: 10,
  normalisation: Float32Array.from({ length: 256 }, (_, byte) => byte / 2),
  sample: (index, pixels, offset) => {
    for (let p = 0; p < 4; p++) pixels[offset + p] = index + p;
    return index % 10;
  },
  digest: () => 'counting',
};

function newQueue(geometry: InfeedGeometry): { queue: InfeedQueue; buffer: SharedArrayBuffer } {
  const buffer = new SharedArrayBuffer(infeedBytes(geometry));
  return { queue: new InfeedQueue(buffer, 0, geometry), buffer };
}

function bothEnds(geometry: InfeedGeometry): [InfeedQueue, InfeedQueue] {
  const { queue, buffer } = newQueue(geometry);
  return [queue, new InfeedQueue(buffer, 0, geometry)];
}

function write(loader: InfeedQueue, step: number): void {
  loader.images(step).fill(step);
  loader.labels(step).fill(-step);
  loader.publish(step);
}

function expectWritten(consumer: InfeedQueue, step: number): void {
  expect(consumer.consume(step, 0, 'the loader')).toBeDefined();
  expect(consumer.images(step).every((it) => it === step)).toBe(true);
  expect(consumer.labels(step).every((it) => it === -step)).toBe(true);
}

/**
 * Starts a second thread, which reads the queue's memory without the class InfeedQueue. Returns the
 * labels that this thread has read, as one list for each step.
 */
function consumeOnThread(buffer: SharedArrayBuffer, steps: number): Promise<number[][]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(reader, { eval: true, workerData: { buffer, steps } });
    worker.on('message', resolve);
    worker.on('error', reject);
  });
}

/**
 * Program of the second thread. It reads a queue with two slots, each with 8 samples of 4 elements.
 * Words 0 to 15 of the queue's memory are flags. Words 16 to 31 have the state of slot 0, and words
 * 32 to 47 the state of slot 1. Then come the two slots, of 48 words each. The labels are words 32
 * to 39 of a slot.
 */
const reader = `
  const { parentPort, workerData: { buffer, steps } } = require('node:worker_threads');
  const words = new Int32Array(buffer);
  const seen = [];
  for (let step = 0; step < steps; step++) {
    const word = 16 * (1 + (step % 2));
    const turn = Math.floor(step / 2);
    while (Atomics.load(words, word) !== 2 * turn + 1) Atomics.wait(words, word, 2 * turn, 10000);
    const labels = 48 + (step % 2) * 48 + 32;
    seen.push([...words.subarray(labels, labels + 8)]);
    Atomics.store(words, word, 2 * turn + 2);
    Atomics.notify(words, word);
  }
  parentPort.postMessage(seen);
`;

const stopper = `
  const { workerData } = require('node:worker_threads');
  const words = new Int32Array(workerData);
  Atomics.store(words, 0, 1);
  Atomics.notify(words, 16);
`;
