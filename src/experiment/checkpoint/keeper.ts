import { PodError } from '../../numerics/error.ts';
import type { SavedParameters } from '../../pod/pod.ts';
import type { RunIdentity } from '../same-run.ts';
import { BackgroundSaver, type SaveEvent } from './background.ts';
import { type Refusal, type Snapshot, stepOf } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';
import { checkSameRun, type Resumable, resumedValues } from './resume.ts';

/** Plan for the checkpoints of a run: the folder, the interval, and whether the run resumes. */
export interface CheckpointPlan {
  readonly checkpoints: Checkpoints;
  /** Number of steps between two checkpoints. The last step of a run is always saved. */
  readonly every: number;
  /**
   * True if the run resumes from the newest good checkpoint. If `resume` is false, a new run
   * refuses a folder that has checkpoints already.
   */
  readonly resume: boolean;
}

/**
 * State from which a run begins: the number of steps that are done, and the parameters after these
 * steps.
 */
export interface StartingPoint {
  /** Number of steps that are already committed. */
  readonly step: number;
  /**
   * True if an earlier master committed `step` steps and the run goes on after them. The workers of
   * that master may still have the parameters after `step` steps.
   *
   * If `isStanding` is false, every Cloud TPU receives the parameters of `origin`, which are then
   * the parameters after `step` steps.
   */
  readonly isStanding: boolean;
  /**
   * The oldest parameters to which the run can go back. If the run resumes from a checkpoint, these
   * are the parameters of that checkpoint. Otherwise they are the initial values.
   *
   * After a loss, the run goes back to `origin` if no worker has the parameters of the last
   * committed step and no checkpoint is newer than `origin`.
   */
  readonly origin: SavedParameters;
  /** The last committed step; undefined if no step was committed yet. */
  readonly last?: LastStep;
  readonly resumedFrom: string | null;
  readonly refused: readonly Refusal[];
}

/** The last committed step of a run, with its loss and the digest of the weights. */
export interface LastStep {
  readonly step: number;
  readonly loss: number;
  readonly digest: string;
}

/**
 * Returns the starting point of a run, by the first rule that applies:
 *
 * 1. If `plan.resume` is true and the newest good checkpoint is newer than `last`, the run starts
 *    from that checkpoint. If `last` is undefined, every checkpoint is newer.
 * 2. If an earlier master committed the step `last`, the run goes on after `last`.
 * 3. Otherwise the run is new: it starts at step 0 with `initialValues`.
 *
 * @throws PodError `bad-config` if the checkpoint is of another run, or if a new run without
 *   `plan.resume` finds checkpoints in the folder; `bad-data` if a new run with `plan.resume` finds
 *   checkpoints but all of them are refused; `io` if the checkpoints cannot be read.
 */
export async function startingPoint(
  plan: CheckpointPlan | undefined,
  run: Resumable,
  initialValues: readonly Uint8Array[],
  last: LastStep | undefined,
): Promise<StartingPoint> {
  const origin: SavedParameters = { steps: 0, values: initialValues };
  const anew = { step: 0, isStanding: false, origin, resumedFrom: null };
  const standing = last && { ...anew, step: last.step, isStanding: true, last };
  if (plan === undefined) return { ...(standing ?? anew), refused: [] };
  const names = await plan.checkpoints.list();
  // If an earlier master has begun this run, the checkpoints in the folder are of this run, so the
  // folder is not refused.
  if (!plan.resume && standing === undefined) refuseToMix(names);
  if (!plan.resume || isReached(names, last)) return { ...(standing ?? anew), refused: [] };
  const { checkpoint, refused } = await plan.checkpoints.latest();
  if (checkpoint === undefined) {
    if (standing === undefined) refuseToBeginOver(refused);
    return { ...(standing ?? anew), refused };
  }
  const { name, manifest } = checkpoint;
  if (standing !== undefined && manifest.step <= standing.step) return { ...standing, refused };
  const { step, loss, weightsDigest: digest } = manifest;
  return {
    step,
    isStanding: false,
    origin: { steps: step, values: resumedValues(checkpoint, run) },
    last: { step, loss, digest },
    resumedFrom: name,
    refused,
  };
}

/**
 * Checks the checkpoints before a new run begins and before its programs are compiled. Throws the
 * same errors as {@link startingPoint}, but does not compare the shapes of the parameters.
 */
export async function checkPlan(plan: CheckpointPlan, identity: RunIdentity): Promise<void> {
  if (!plan.resume) {
    refuseToMix(await plan.checkpoints.list());
    return;
  }
  const { checkpoint, refused } = await plan.checkpoints.latest();
  if (checkpoint === undefined) refuseToBeginOver(refused);
  else checkSameRun(checkpoint, identity);
}

/**
 * True if the run has committed a step and no checkpoint in the folder is newer than the last
 * committed step, `last`. A damaged checkpoint counts too.
 */
function isReached([newest]: readonly string[], last: LastStep | undefined): boolean {
  return last !== undefined && (newest === undefined || (stepOf(newest) ?? 0) <= last.step);
}

function refuseToMix([newest]: readonly string[]): void {
  if (newest === undefined) return;
  throw new PodError(
    'bad-config',
    `the directory for checkpoints has ${newest} already: use --resume to continue that run, or name another directory`,
  );
}

/**
 * Throws `bad-data` if a run is to resume but all checkpoints were refused. A start at step 0 would
 * silently give up the saved steps, so the user must decide.
 */
function refuseToBeginOver(refused: readonly Refusal[]): void {
  const [newest, ...others] = refused;
  if (newest === undefined) return;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  throw new PodError(
    'bad-data',
    `no checkpoint in the directory can be resumed: ${newest.name}${more}: ${newest.reason}; repair or move it, or name another directory`,
  );
}

/**
 * Parameters for a rollback. `refused` has the checkpoints that are newer than these parameters but
 * are damaged or of another run.
 */
export interface Saved {
  readonly parameters: SavedParameters;
  readonly refused: readonly Refusal[];
}

/**
 * Returns the parameters of the newest good checkpoint of this run after at most `steps` steps. If
 * that checkpoint is not newer than `origin`, or if there is none, returns `origin`, the parameters
 * with which the run began.
 */
export async function newestSaved(
  plan: CheckpointPlan | undefined,
  run: Resumable,
  origin: SavedParameters,
  steps: number,
): Promise<Saved> {
  const refused: Refusal[] = [];
  for (let most = steps; plan !== undefined && most > origin.steps; ) {
    const latest = await plan.checkpoints.latest(most);
    refused.push(...latest.refused);
    const { checkpoint } = latest;
    if (checkpoint === undefined || checkpoint.manifest.step <= origin.steps) break;
    const { step } = checkpoint.manifest;
    try {
      return { parameters: { steps: step, values: resumedValues(checkpoint, run) }, refused };
    } catch (error) {
      if (!(error instanceof PodError)) throw error;
      refused.push({ name: checkpoint.name, reason: error.message });
      most = step - 1;
    }
  }
  return { parameters: origin, refused };
}

/** Saves the checkpoints of a run in the background, and counts successful and failed saves. */
export class Keeper {
  readonly #every: number;
  readonly #checkpoints: Checkpoints;
  readonly #saver: BackgroundSaver;
  #saved = 0;
  #failed = 0;
  #lastFailure: string | undefined;

  /** `now` returns the time in ms. */
  constructor({ checkpoints, every }: CheckpointPlan, now: () => number) {
    this.#every = every;
    this.#checkpoints = checkpoints;
    this.#saver = new BackgroundSaver(checkpoints, now);
  }

  isDue(step: number, steps: number): boolean {
    return step % this.#every === 0 || step === steps;
  }

  /** True if an undamaged checkpoint after exactly `step` steps exists. */
  has(step: number): Promise<boolean> {
    return this.#checkpoints.has(step);
  }

  save(snapshot: Snapshot): void {
    this.#saver.save(snapshot);
  }

  /** Returns the outcomes of the saves that ended since the last call. */
  takeEvents(): readonly SaveEvent[] {
    const events = this.#saver.takeEvents();
    for (const event of events) {
      const failed = event.kind === 'checkpoint-failed';
      if (failed) this.#failed++;
      else this.#saved++;
      this.#lastFailure = failed ? event.reason : undefined;
    }
    return events;
  }

  /** Resolves when no save is under way or waiting. */
  settled(): Promise<void> {
    return this.#saver.settled();
  }

  counts(): { readonly saved: number; readonly failed: number } {
    return { saved: this.#saved, failed: this.#failed };
  }

  /**
   * Error of the last save if that save failed; undefined otherwise. After a failed save, the last
   * steps of the run are in no checkpoint.
   */
  get unsaved(): PodError | undefined {
    return this.#lastFailure === undefined ? undefined : new PodError('io', this.#lastFailure);
  }
}
