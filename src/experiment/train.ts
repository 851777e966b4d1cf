import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import type { MasterStart } from '../pod/master/state.ts';
import type { OpenPod, Pod, PodOptions } from '../pod/pod.ts';
import type { Snapshot } from './checkpoint/checkpoint.ts';
import {
  type CheckpointPlan,
  Keeper,
  type LastStep,
  newestSaved,
  type StartingPoint,
  startingPoint,
} from './checkpoint/keeper.ts';
import { savedConfig } from './checkpoint/saved-run.ts';
import type { Start } from './checkpoint/start-from.ts';
import type { TrainConfig } from './config.ts';
import { checkFinite, refuseDivergence, refuseNonFinite } from './divergence.ts';
import { evaluate } from './evaluate.ts';
import type { Note, Report, StepCommitted, TrainEvent } from './event.ts';
import { type OpenedRun, openRun } from './open-run.ts';
import { type EarlierMasters, noPast } from './past.ts';
import { parametersOf, prepare, programsOf, type Run, resumable, started } from './prepared.ts';
import { trainProgram } from './program-index.ts';
import type { Programs } from './programs.ts';
import { reportOf } from './report.ts';
import { stepCommitted } from './step-event.ts';
import { stepTold } from './step-timing.ts';
import { StragglerWatch } from './straggler.ts';

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
  /**
   * A generation is an assignment of workers to the Cloud TPUs. The pod begins a new generation,
   * for example, after the loss of a worker. This function is called with the number of each
   * generation except the first, before any worker receives the number. If it throws, the run ends
   * with that error.
   */
  readonly onMembership?: (generation: number) => void;
  /** Returns the wall time in ms. */
  readonly now: () => number;
  /** The run, if its files have already been read. If undefined, `train` reads the files. */
  readonly opened?: OpenedRun;
  /** The programs of the run, if they are built already. If undefined, `train` compiles them. */
  readonly programs?: Programs;
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
 * All events are told except `finished`. The caller tells `finished` after it has recorded the end
 * of the run, for example in the commit log.
 *
 * @throws PodError naming the setting, the data or the Cloud TPU that caused the failure.
 */
export async function train(config: TrainConfig, world: TrainWorld): Promise<RunEnd> {
  const startMs = world.now();
  const run = prepare(world.opened ?? (await openRun(config)), startMs, world.programs);
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
  const stragglers = new StragglerWatch();
  for (let step = start.step + 1; step <= run.steps; step++) {
    if (shouldStop()) return stop(slice, lastOf(history, start));
    const commit = await pod.step(trainProgram);
    const event = stepCommitted(run, commit, step, history);
    refuseDivergence(event);
    history.push(event);
    world.commit?.(event);
    tell(stepTold(event, commit.reports));
    const straggler = stragglers.take(event);
    if (straggler !== undefined) tell(straggler);
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
  const recoveries = slice.recoveries.total;
  const report = reportOf({ run, pod, keeper, start, history, recoveries, last, evaluated });
  return { kind: 'done', report, unsaved: keeper?.unsaved };
}

/** Counts the recoveries of a run, including the recoveries before this master began. */
class Recoveries {
  #total: number;

  /**
   * If earlier masters committed steps, `recoveries` counts the recoveries up to the last of these
   * steps. The last of the masters was lost after that step, so 1 is added for the recovery from
   * its loss. If no step was committed, the count starts at 0.
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
 * Ends the run early. If the run has checkpoints, first saves a checkpoint of the last committed
 * step, unless this checkpoint already exists. Then tells the event `stopped`.
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
  return { generation, steps: [step, 0], digests: [digest, null], mustKeepParameters: isStanding };
}

function openSlice(
  run: Run,
  { openPod, onMembership }: TrainWorld,
  options: Required<Pick<PodOptions, 'start' | 'onNote' | 'saved'>>,
): Promise<Pod> {
  const { topology, mxu, recovery } = run.config;
  return openPod({
    ...options,
    ...(onMembership && { onMembership }),
    ...{ topology, mxu, recovery, programs: programsOf(run) },
  });
}

function warmStarted({ path: checkpoint, weightsDigest, refused }: Start): TrainEvent {
  return { kind: 'warm-started', checkpoint, weightsDigest, refused };
}

function resumed({ resumedFrom: checkpoint, step, refused }: StartingPoint): TrainEvent {
  return { kind: 'resumed', checkpoint, step, refused };
}

/**
 * Returns the last committed step; undefined if no step was committed. If the run has resumed from
 * a checkpoint and has committed no step since then, this is the step of the checkpoint. Otherwise
 * it is the last step of `history`.
 */
function lastOf(history: readonly StepCommitted[], start: StartingPoint): LastStep | undefined {
  const committed = history.at(-1);
  return (committed?.step ?? 0) < start.step ? start.last : committed;
}

/**
 * Saves a checkpoint of the step after which this master goes on, if a checkpoint is due after that
 * step but does not exist. Reason: an earlier master may have committed the step, but ended before
 * it had saved the checkpoint.
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
