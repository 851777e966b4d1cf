import { evaluateProgram, trainProgram } from '../../src/experiment/program-index.ts';
import { scalar } from '../../src/experiment/step-event.ts';
import { StragglerWatch, slowestOf } from '../../src/experiment/straggler.ts';
import type { Topology } from '../../src/fabric/torus.ts';
import type { Fault } from '../../src/fault/plan.ts';
import type { CommitSeen, Observation } from '../../src/fault/verdict.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { RecoveryPolicy } from '../../src/pod/master/options.ts';
import type { Commit, Program, SavedParameters } from '../../src/pod/pod.ts';
import type { SimulatedEvent } from './event.ts';
import { noTraffic, type Traffic } from './network.ts';
import { openSimulatedPod, type SimulatedPod } from './pod.ts';
import type { SimulatedTimes } from './times.ts';
import { finite, hash } from './weights.ts';

/** A training run to simulate. */
export interface SimulatedRun {
  readonly topology: Topology;
  readonly steps: number;
  /** Number of batches that are evaluated after the last training step. Default: 0. */
  readonly evaluationSteps?: number;
  /** Number of buckets of gradients. Default: 1. */
  readonly buckets?: number;
  /** Number of steps from one checkpoint to the next; undefined for a run without checkpoints. */
  readonly checkpointEvery?: number;
  /** What the master does after the loss of a Cloud TPU. Default: `replace`. */
  readonly recovery?: RecoveryPolicy;
  readonly faults?: readonly Fault[];
  readonly seed?: number;
  readonly times?: Partial<SimulatedTimes>;
}

/** Record of a simulated run. Times are virtual. */
export interface SimulatedOutcome {
  readonly observation: Observation;
  /** One entry for each batch of the evaluation, in order. */
  readonly evaluation: readonly CommitSeen[];
  /** All events, in order. A frame is not an event. */
  readonly events: readonly (SimulatedEvent | Committed)[];
  readonly traffic: Traffic;
}

/** Event: a step was committed. `traffic` is all traffic since the start of the pod. */
export interface Committed {
  readonly ms: number;
  readonly event: 'committed';
  readonly commit: CommitSeen;
  readonly traffic: Traffic;
}

/**
 * Returns the events of a run, each as a line of JSON. The same run gives the same lines, byte for
 * byte. The outfeed of a step is left out: it holds the loss, which the event `committed` has too.
 */
export function logOf({ events }: SimulatedOutcome): string {
  const text = (event: SimulatedEvent | Committed): string =>
    JSON.stringify(event, (key, value) => (key === 'outfeed' ? undefined : value));
  return events.map((event) => `${text(event)}\n`).join('');
}

/** Simulates a run to its end: trains, then evaluates. */
export async function simulateRun(run: SimulatedRun): Promise<SimulatedOutcome> {
  const commits: CommitSeen[] = [];
  const evaluation: CommitSeen[] = [];
  const notes: Observation['notes'][number][] = [];
  const injections: Observation['injections'][number][] = [];
  const stragglers: Observation['stragglers'][number][] = [];
  const watch = new StragglerWatch();
  const events: (SimulatedEvent | Committed)[] = [];
  const checkpoints: SavedParameters[] = [];
  let pod: SimulatedPod | undefined;
  let lastMs = 0;
  let beginMs = 0;
  const onEvent = (event: SimulatedEvent): void => {
    lastMs = event.ms;
    events.push(event);
    if (event.event === 'noted') notes.push({ ms: event.ms, note: event.note });
    if (event.event === 'injected') injections.push({ ms: event.ms, index: event.index });
  };
  const result = (outcome: Observation['outcome'], message: string): SimulatedOutcome => {
    const endMs = pod?.nowMs ?? lastMs;
    const observation: Observation = {
      ...{ outcome, message, commits, notes, injections, stragglers, beginMs, endMs },
    };
    return { observation, evaluation, events, traffic: { ...(pod?.traffic ?? noTraffic) } };
  };
  try {
    const { topology, recovery = 'replace', faults = [], seed = 0, times = {} } = run;
    pod = await openSimulatedPod({
      ...{ topology, recovery, faults, seed, times, mxu: 'fast', onEvent },
      programs: simulatedPrograms(run.buckets ?? 1),
      saved: async (program, steps) =>
        program === trainProgram ? checkpoints.findLast((it) => it.steps <= steps) : undefined,
    });
    beginMs = pod.nowMs;
    await pod.writeParameters(trainProgram, [initialWeights(seed)]);
    for (let step = 1; step <= run.steps; step++) {
      const committed = await pod.step(trainProgram);
      const commit = commitOf(committed, pod.nowMs);
      commits.push(commit);
      const straggler = watch.take({ step, slowest: slowestOf(committed.reports) });
      if (straggler !== undefined) stragglers.push({ ms: pod.nowMs, tpu: straggler.tpu });
      events.push({ ms: pod.nowMs, event: 'committed', commit, traffic: { ...pod.traffic } });
      if (run.checkpointEvery !== undefined && step % run.checkpointEvery === 0) {
        checkpoints.push({ steps: step, values: await pod.readParameters(trainProgram) });
      }
    }
    const trained = result('done', '');
    for (let batch = 0; batch < (run.evaluationSteps ?? 0); batch++) {
      evaluation.push(commitOf(await pod.step(evaluateProgram), pod.nowMs));
    }
    return trained;
  } catch (error) {
    if (error instanceof PodError) return result('failed', error.message);
    throw error;
  } finally {
    await pod?.close();
  }
}

function commitOf({ step, digest, reports, wallMs }: Commit, ms: number): CommitSeen {
  const loss = scalar(at(at(reports, 0).outfeed, 0));
  return { step: step + 1, digest, loss, ms, wallMs };
}

function initialWeights(seed: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(finite(hash(seed, 0)), finite(hash(seed, 1))).buffer);
}

/**
 * Returns the two programs of a simulated run: one that trains, with `buckets` buckets of
 * gradients, and one that evaluates. They have no instructions: the cores are simulated.
 */
function simulatedPrograms(buckets: number): readonly Program[] {
  const empty: Omit<Executable, 'name'> = {
    ...{ cores: 8, buffers: [], instructions: [], tables: [], constants: [], results: [] },
    ...{ infeed: [], outfeed: [], buckets: [], arenaBytes: 0, code: new Uint8Array() },
    parameters: [0],
    hbm: { limit: 0, peak: 0, byKind: noBytes, largest: [] },
  };
  const train: Executable = {
    ...empty,
    name: 'simulated training',
    next: [1],
    buckets: Array.from({ length: buckets }, () => ({ buffer: 0, elements: 0, members: [] })),
  };
  const evaluate: Executable = { ...empty, name: 'simulated evaluation' };
  return [
    { executable: train, digested: 1 },
    { executable: evaluate, digested: 1, parametersFrom: trainProgram },
  ];
}

const noBytes: Executable['hbm']['byKind'] = {
  ...{ program: 0, parameter: 0, constant: 0, infeed: 0, gradient: 0, temporary: 0 },
};
