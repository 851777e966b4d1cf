import { formatTopology } from '../fabric/torus.ts';
import { type Executable, phases } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { elementCount } from '../numerics/shape.ts';
import type { MasterStart } from '../pod/master.ts';
import type { Commit, OpenPod, Pod, PodOptions } from '../pod/pod.ts';
import { meanPhaseMs } from '../pod/pod.ts';
import type { Snapshot } from './checkpoint/checkpoint.ts';
import {
  type CheckpointPlan,
  Keeper,
  type LastStep,
  newestSaved,
  type StartingPoint,
  startingPoint,
} from './checkpoint/keeper.ts';
import type { NamedShape, Resumable } from './checkpoint/resume.ts';
import { savedConfig } from './checkpoint/saved-run.ts';
import { type Start, withWeights } from './checkpoint/start-from.ts';
import { cloudTpus, type TrainConfig } from './config.ts';
import type {
  CheckpointReport,
  Evaluated,
  Note,
  PhaseMs,
  Report,
  StepCommitted,
  TrainEvent,
} from './event.ts';
import { type OpenedRun, openRun } from './open-run.ts';
import { type EarlierMasters, noPast } from './past.ts';
import { buildPrograms, type Programs } from './programs.ts';
import { quantiles } from './statistics.ts';

/**
 * Environment of {@link train}: the pod, the clock, the receiver of events, the checkpoints, the
 * records of earlier masters and the request to stop.
 */
export interface TrainWorld {
  readonly openPod: OpenPod;
  /**
   * Called with each event of the run, in order, at the time when it happens. If it throws, the run
   * ends with that error.
   */
  readonly tell: (event: TrainEvent) => void;
  /**
   * Called with each step before the step counts: before its event is told and before the next step
   * begins. If it throws, the run ends with that error.
   */
  readonly commit?: (step: StepCommitted) => void;
  /** As in {@link PodOptions}. */
  readonly onMembership?: (generation: number) => void;
  /** Returns the wall time in ms. */
  readonly now: () => number;
  /** The run, if its files have already been read. If undefined, `train` reads the files. */
  readonly opened?: OpenedRun;
  /** Plan for the checkpoints of the run. If undefined, no checkpoint is read or written. */
  readonly checkpoints?: CheckpointPlan;
  /** Records of the earlier masters of the run; undefined if there was no earlier master. */
  readonly past?: EarlierMasters;
  /**
   * Called before every step, of training and of evaluation. If it returns true, the run saves a
   * checkpoint (if it has checkpoints) and ends.
   */
  readonly shouldStop?: () => boolean;
}

/** How a run ended, if it ended without an error. */
export type RunEnd =
  | {
      readonly kind: 'done';
      readonly report: Report;
      /** Error of the last checkpoint, if it could not be saved. */
      readonly unsaved: PodError | undefined;
    }
  | { readonly kind: 'stopped'; readonly step: number };

/**
 * Trains and evaluates, and tells the events of the run. The pod is closed when the run ends, also
 * after an error. A run that resumes from a checkpoint or continues after an earlier master ends
 * with the same bits as an uninterrupted run.
 *
 * The event `finished` is left to the caller, which first has to write what must not be lost.
 *
 * @throws PodError naming the setting, the data or the Cloud TPU that caused the failure.
 */
export async function train(config: TrainConfig, world: TrainWorld): Promise<RunEnd> {
  const startMs = world.now();
  const run = prepare(world.opened ?? (await openRun(config)), startMs);
  const { checkpoints: plan, now, past = noPast, tell } = world;
  tell(started(run));
  const history = [...past.history];
  checkPast(run, history);
  const { initialValues } = run.programs;
  const start = await startingPoint(plan, resumable(run), initialValues, history.at(-1));
  await plan?.checkpoints.begin();
  if (plan?.resume || start.isStanding) tell(resumed(start));
  if (start.step === 0 && run.opened.start !== undefined) tell(warmStarted(run.opened.start));
  const keeper = plan && new Keeper(plan, now);
  const recoveries = new Recoveries(past);
  const pod = await openSlice(run, world, {
    start: masterStart(past, start),
    onNote(note) {
      recoveries.count(note);
      tell({ kind: 'note', note });
    },
    saved: async (program, steps) => {
      if (program !== trainProgram) return undefined;
      await keeper?.settled();
      const { parameters, refused } = await newestSaved(plan, resumable(run), start.origin, steps);
      for (const refusal of refused) tell({ kind: 'checkpoint-refused', ...refusal });
      return parameters;
    },
  });
  try {
    return await runSteps({ run, pod, keeper, start, history, recoveries, world });
  } finally {
    await keeper?.settled();
    await pod.close();
  }
}

/** A run whose pod is open. */
interface OpenedSlice {
  readonly run: Run;
  readonly pod: Pod;
  readonly keeper: Keeper | undefined;
  readonly start: StartingPoint;
  /** Committed steps, including the steps that earlier masters committed. */
  readonly history: StepCommitted[];
  readonly recoveries: Recoveries;
  readonly world: TrainWorld;
}

/** Trains the steps that are left, then evaluates. */
async function runSteps(slice: OpenedSlice): Promise<RunEnd> {
  const { run, pod, keeper, start, history, world } = slice;
  const { now, tell, shouldStop = () => false } = world;
  tell({ kind: 'ready', elapsedMs: now() - run.startMs });
  if (!start.isStanding) await pod.writeParameters(trainProgram, start.origin.values);
  else if (keeper) await saveUnsaved(run, pod, keeper, start);
  for (let step = start.step + 1; step <= run.steps; step++) {
    if (shouldStop()) return stop(slice, lastOf(history, start));
    const event = stepCommitted(run, await pod.step(trainProgram), step, history);
    refuseDivergence(event);
    history.push(event);
    world.commit?.(event);
    tell(event);
    if (keeper?.isDue(step, run.steps)) keeper.save(await snapshot(run, pod, event));
    tellSaves(keeper, tell);
  }
  const last = lastOf(history, start);
  assert(last !== undefined, 'a run of no step');
  await checkFinite(run, pod, last);
  tell({ kind: 'evaluating', step: run.steps, samples: run.testSamples });
  const evaluated = await evaluate(run, pod, shouldStop);
  if (evaluated === undefined) return stop(slice, last);
  tell(evaluated);
  await keeper?.settled();
  tellSaves(keeper, tell);
  const report = reportOf(slice, last, evaluated);
  return { kind: 'done', report, unsaved: keeper?.unsaved };
}

/** Number of recoveries of a run, including those before this master began. */
class Recoveries {
  #total: number;

  /**
   * If an earlier master committed steps, the run has recovered from the loss of that master. This
   * recovery is not in the records yet, so 1 is added.
   */
  constructor({ history, recoveries }: EarlierMasters) {
    this.#total = history.length === 0 ? 0 : recoveries + 1;
  }

  get total(): number {
    return this.#total;
  }

  /** Counts a note that says that a recovery is complete. */
  count({ event }: Note): void {
    if (event === 'resumed') this.#total++;
  }
}

/** Tells the outcomes of the saves that have ended. */
function tellSaves(keeper: Keeper | undefined, tell: TrainWorld['tell']): void {
  for (const event of keeper?.takeEvents() ?? []) tell(event);
}

/**
 * Ends the run early and tells `stopped`. If the run has checkpoints, first saves a checkpoint of
 * the last committed step, unless this checkpoint exists.
 */
async function stop(
  { run, pod, keeper, world: { tell } }: OpenedSlice,
  last: LastStep | undefined,
): Promise<RunEnd> {
  await keeper?.settled();
  if (keeper && last !== undefined && !(await keeper.has(last.step))) {
    keeper.save(await snapshot(run, pod, last));
    await keeper.settled();
  }
  tellSaves(keeper, tell);
  if (keeper?.unsaved !== undefined) throw keeper.unsaved;
  const saved = keeper !== undefined && last !== undefined;
  const step = last?.step ?? 0;
  tell({ kind: 'stopped', step, steps: run.steps, saved });
  return { kind: 'stopped', step };
}

/** Indices of the two programs in the pod's list of programs. */
const trainProgram = 0;
const evaluateProgram = 1;

/** Number of steps over which `imagesPerSecond` of an event is averaged. */
const rateSteps = 16;

interface Run {
  readonly opened: OpenedRun;
  readonly config: TrainConfig;
  readonly startMs: number;
  readonly steps: number;
  readonly trainSamples: number;
  readonly testSamples: number;
  readonly programs: Programs;
}

function prepare(opened: OpenedRun, startMs: number): Run {
  const { config, dataset, start, identity } = opened;
  const { steps } = identity;
  const programs = buildPrograms(config, dataset, steps);
  return {
    opened,
    config,
    startMs,
    steps,
    trainSamples: dataset.train.size,
    testSamples: evaluationSamples(config, dataset.test.size),
    programs: start === undefined ? programs : startedFrom(start, programs),
  };
}

/** Returns the programs with the weights of a checkpoint as initial weights. */
function startedFrom(start: Start, programs: Programs): Programs {
  const { train, weights, initialValues } = programs;
  const values = withWeights(start, parametersOf(train), weights, initialValues);
  return { ...programs, initialValues: values };
}

/**
 * Returns the number of examples to evaluate: the number in `evaluate`, rounded up to whole
 * batches, but at most `size`.
 */
function evaluationSamples({ evaluate, globalBatch }: TrainConfig, size: number): number {
  if (evaluate === undefined) return size;
  return Math.min(size, Math.ceil(evaluate / globalBatch) * globalBatch);
}

/**
 * Throws `bad-config` if the committed steps belong to a run with another number of steps, and
 * `diverged` if the loss of the last committed step is not finite.
 */
function checkPast({ steps }: Run, history: readonly StepCommitted[]): void {
  const last = history.at(-1);
  if (last === undefined) return;
  if (last.steps !== steps) {
    const found = `step ${last.step} was committed by a run of ${last.steps} steps`;
    throw new PodError(
      'bad-config',
      `${found}, this run has ${steps} steps: its data set has changed`,
    );
  }
  refuseDivergence(last);
}

function masterStart(
  { generation }: EarlierMasters,
  { step, isStanding, last }: StartingPoint,
): MasterStart {
  const digest = isStanding ? (last?.digest ?? null) : null;
  return { generation, steps: [step, 0], digests: [digest, null], isEstablished: isStanding };
}

function openSlice(
  { config, programs, opened: { dataset } }: Run,
  { openPod, onMembership }: TrainWorld,
  options: Required<Pick<PodOptions, 'start' | 'onNote' | 'saved'>>,
): Promise<Pod> {
  const feed = {
    dataset: config.data,
    datasetSeed: config.seed,
    globalBatch: config.globalBatch,
    orderSeed: config.seed,
  };
  return openPod({
    ...options,
    ...(onMembership && { onMembership }),
    topology: config.topology,
    mxu: config.mxu,
    recovery: config.recovery,
    programs: [
      {
        executable: programs.train,
        digested: programs.weights,
        feed: { ...feed, split: 'train', order: 'training', digest: dataset.train.digest() },
      },
      {
        executable: programs.evaluate,
        digested: programs.weights,
        parametersFrom: trainProgram,
        feed: { ...feed, split: 'test', order: 'evaluation', digest: dataset.test.digest() },
      },
    ],
  });
}

function started({ config, steps, trainSamples, programs }: Run): TrainEvent {
  const { train, weights } = programs;
  const parameters = train.parameters
    .slice(0, weights)
    .reduce((sum, id) => sum + elementCount(at(train.buffers, id).shape), 0);
  return {
    kind: 'started',
    config,
    tpus: cloudTpus(config),
    steps,
    trainSamples,
    parameters,
    hbmBytesPerCore: train.hbm.peak,
    hbmLimitBytes: train.hbm.limit,
  };
}

/** Returns the names and shapes of a program's parameters. */
function parametersOf({ parameters, buffers }: Executable): NamedShape[] {
  return parameters.map((id) => at(buffers, id));
}

function resumable({ opened: { identity }, programs }: Run): Resumable {
  return { identity, parameters: parametersOf(programs.train) };
}

function warmStarted({ path: checkpoint, weightsDigest, refused }: Start): TrainEvent {
  return { kind: 'warm-started', checkpoint, weightsDigest, refused };
}

function resumed({ resumedFrom: checkpoint, step, refused }: StartingPoint): TrainEvent {
  return { kind: 'resumed', checkpoint, step, refused };
}

/**
 * Returns the last committed step; undefined if no step was committed. After a resume from a
 * checkpoint and before the next commit, returns the step of the checkpoint. Otherwise returns the
 * last step of `history`.
 */
function lastOf(history: readonly StepCommitted[], start: StartingPoint): LastStep | undefined {
  const committed = history.at(-1);
  return (committed?.step ?? 0) < start.step ? start.last : committed;
}

/**
 * Saves a checkpoint of the starting step if a checkpoint is due after this step but does not
 * exist. An earlier master may have ended after it committed the step and before it saved the
 * checkpoint.
 */
async function saveUnsaved(
  run: Run,
  pod: Pod,
  keeper: Keeper,
  { step, last }: StartingPoint,
): Promise<void> {
  if (last === undefined || !keeper.isDue(step, run.steps) || (await keeper.has(step))) return;
  keeper.save(await snapshot(run, pod, last));
}

/**
 * Returns the state after a step, with parameters copied from the pod. Throws `diverged` if a
 * parameter is not finite.
 */
async function snapshot(run: Run, pod: Pod, { step, loss, digest }: LastStep): Promise<Snapshot> {
  const { config, trainSamples, programs, opened } = run;
  const values = await pod.readParameters(trainProgram);
  refuseNonFinite(run, step, values);
  return {
    config: savedConfig(config, opened.identity, step),
    step,
    samplesSeen: step * config.globalBatch,
    trainSamples,
    loss,
    weightsDigest: digest,
    weights: programs.weights,
    tensors: parametersOf(programs.train).map(({ name, shape }, i) => ({
      name,
      shape,
      bytes: at(values, i),
    })),
  };
}

function stepCommitted(
  { config, steps, trainSamples }: Run,
  commit: Commit,
  step: number,
  history: readonly StepCommitted[],
): StepCommitted {
  assert(commit.step === step - 1, `step ${commit.step} was committed, expected ${step - 1}`);
  const [loss, correct, learningRate] = at(commit.reports, 0).outfeed.map(scalar);
  const recent = history.slice(1 - rateSteps);
  const wallMs = recent.reduce((sum, it) => sum + it.wallMs, commit.wallMs);
  return {
    kind: 'step',
    step,
    steps,
    epoch: (step * config.globalBatch) / trainSamples,
    loss: loss ?? Number.NaN,
    accuracy: (correct ?? 0) / config.globalBatch,
    learningRate: learningRate ?? 0,
    digest: commit.digest,
    wallMs: commit.wallMs,
    imagesPerSecond: ((recent.length + 1) * config.globalBatch * 1000) / wallMs,
    phaseMs: phaseMsOf(commit),
  };
}

/**
 * Returns the mean time of each phase over all Cloud TPUs. The time `commit` is the wall time of
 * the step minus the sum of all phases of the slowest Cloud TPU.
 */
function phaseMsOf(commit: Commit): PhaseMs {
  const mean = meanPhaseMs(commit.reports);
  const longest = Math.max(
    ...commit.reports.map((it) => it.phaseMs.reduce((sum, phaseMs) => sum + phaseMs, 0)),
  );
  // The run keeps an object of this form for every step. All objects made by this literal share one
  // hidden class of the JavaScript engine, which saves memory.
  const phaseMs = { infeed: 0, compute: 0, 'all-reduce': 0, update: 0, outfeed: 0, commit: 0 };
  for (const [i, phase] of phases.entries()) phaseMs[phase] = at(mean, i);
  phaseMs.commit = Math.max(0, commit.wallMs - longest);
  return phaseMs;
}

function refuseDivergence({ step, loss, learningRate }: StepCommitted): void {
  if (!Number.isFinite(loss)) {
    throw diverged(step, `a finite loss, found ${loss} at learning rate ${learningRate}`);
  }
}

/**
 * Throws `diverged` unless all parameters are finite after the last step. The loss of a step is
 * computed before its update, so no loss shows the effect of the last update.
 */
async function checkFinite(run: Run, pod: Pod, { step }: LastStep): Promise<void> {
  refuseNonFinite(run, step, await pod.readParameters(trainProgram));
}

function refuseNonFinite(run: Run, step: number, values: readonly Uint8Array[]): void {
  for (const [i, { name, shape }] of parametersOf(run.programs.train).entries()) {
    if (shape.type !== 'f32') continue;
    const found = firstNonFinite(at(values, i));
    if (found !== undefined) throw diverged(step, `finite values of ${name}, found ${found}`);
  }
}

/** Returns the first f32 of `bytes` that is infinite or NaN; undefined if there is none. */
function firstNonFinite(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i + 4 <= bytes.length; i += 4) {
    const value = view.getFloat32(i, true);
    if (!Number.isFinite(value)) return value;
  }
  return undefined;
}

function diverged(step: number, what: string): PodError {
  const advice = 'use a lower --learning-rate or more --warm-up';
  return new PodError('diverged', `step ${step}: expected ${what}; ${advice}`);
}

/**
 * Evaluates the current weights on the held-out examples. Returns undefined if `shouldStop`
 * returned true before the evaluation was complete.
 */
async function evaluate(
  { config, steps, testSamples }: Run,
  pod: Pod,
  shouldStop: () => boolean,
): Promise<Evaluated | undefined> {
  const totals = { correct: 0, loss: 0, samples: 0 };
  for (let step = 0; step * config.globalBatch < testSamples; step++) {
    if (shouldStop()) return undefined;
    const commit = await pod.step(evaluateProgram);
    const [correct, loss, samples] = at(commit.reports, 0).outfeed.map(scalar);
    totals.correct += correct ?? 0;
    totals.loss += loss ?? 0;
    totals.samples += samples ?? 0;
  }
  if (!Number.isFinite(totals.loss)) {
    throw diverged(steps, `a finite loss of the evaluation, found ${totals.loss}`);
  }
  return {
    kind: 'evaluated',
    step: steps,
    samples: totals.samples,
    correct: totals.correct,
    accuracy: totals.correct / totals.samples,
    loss: totals.loss / totals.samples,
  };
}

function reportOf(
  { run, pod, keeper, start, history, recoveries }: OpenedSlice,
  last: LastStep,
  evaluated: Evaluated,
): Report {
  const { config, steps, programs } = run;
  const wallMs = history.map((it) => it.wallMs);
  const perPhase = (phase: keyof PhaseMs) => quantiles(history.map((it) => it.phaseMs[phase]));
  return {
    tpus: cloudTpus(config),
    topology: formatTopology(config.topology),
    model: config.model,
    data: config.data,
    globalBatch: config.globalBatch,
    steps,
    stepsTrained: history.length,
    seed: config.seed,
    precision: config.precision,
    mxu: config.mxu,
    finalLoss: last.loss,
    evalAccuracy: evaluated.accuracy,
    evalSamples: evaluated.samples,
    weightsDigest: last.digest,
    imagesPerSecond: imagesPerSecond(config.globalBatch, wallMs),
    stepMs: quantiles(wallMs),
    phaseMs: {
      infeed: perPhase('infeed'),
      compute: perPhase('compute'),
      'all-reduce': perPhase('all-reduce'),
      update: perPhase('update'),
      outfeed: perPhase('outfeed'),
      commit: perPhase('commit'),
    },
    linkBytes: pod.linkBytes(),
    hbmBytesPerCore: programs.train.hbm.peak,
    recoveries: recoveries.total,
    ...(keeper && { checkpoints: checkpointReport(start, keeper) }),
  };
}

/**
 * Returns the mean number of images per second; 0 if the run trained no step, because it was
 * resumed from a checkpoint of its last step.
 */
function imagesPerSecond(globalBatch: number, wallMs: readonly number[]): number {
  if (wallMs.length === 0) return 0;
  return (wallMs.length * globalBatch * 1000) / wallMs.reduce((sum, it) => sum + it, 0);
}

function checkpointReport(
  { resumedFrom, refused }: StartingPoint,
  keeper: Keeper,
): CheckpointReport {
  return { resumedFrom, refused, ...keeper.counts() };
}

/**
 * Returns the value of an outfeed element, whose bytes are one f32 scalar, the same for all cores.
 */
function scalar(element: Uint8Array): number {
  return new DataView(element.buffer, element.byteOffset, element.byteLength).getFloat32(0, true);
}
