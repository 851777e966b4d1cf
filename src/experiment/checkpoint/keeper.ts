import { PodError } from '../../numerics/error.ts';
import type { SavedParameters } from '../../pod/pod.ts';
import type { RunIdentity } from '../same-run.ts';
import { BackgroundSaver, type SaveEvent } from './background.ts';
import { type Refusal, type Snapshot, stepOf } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';
import { checkSameRun, type Resumable, resumedValues } from './resume.ts';

/** Where the checkpoints of a run go, and when. */
export interface CheckpointPlan {
  readonly checkpoints: Checkpoints;
  /** Steps from one to the next; the last step of a run is saved in any case. */
  readonly every: number;
  /** Go on from the newest good one. Else there must be none. */
  readonly resume: boolean;
}

/** Between which two steps a run begins. */
export interface StartingPoint {
  /** Steps committed before. */
  readonly step: number;
  /**
   * Whether workers of an earlier master may have the parameters after `step` steps. Else every
   * Cloud TPU is given those of `origin`, which are after as many.
   */
  readonly isStanding: boolean;
  /** Every parameter of the training program, for when nothing newer is left anywhere. */
  readonly origin: SavedParameters;
  /** The last step committed; undefined for a run that starts anew. */
  readonly last?: LastStep;
  readonly resumedFrom: string | null;
  readonly refused: readonly Refusal[];
}

/** How far a run has come. */
export interface LastStep {
  readonly step: number;
  readonly loss: number;
  readonly digest: string;
}

/**
 * Where a run begins: after the step that an earlier master committed `last`; at a checkpoint, if
 * that is newer; or with `initialValues`.
 *
 * @throws PodError `bad-config` when the checkpoints are of another run, or are there and the plan
 *   is not to resume; `io` when they cannot be read.
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
  // A run that goes on by itself has checkpoints of its own.
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
 * Refuses checkpoints that a new run could not begin with, as {@link startingPoint} does, before the
 * programs of the run are built.
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

/** Whether the run has come as far as the newest checkpoint, good or not. */
function isReached([newest]: readonly string[], last: LastStep | undefined): boolean {
  return last !== undefined && (newest === undefined || (stepOf(newest) ?? 0) <= last.step);
}

function refuseToMix([newest]: readonly string[]): void {
  if (newest === undefined) return;
  throw new PodError(
    'bad-config',
    `the directory for checkpoints has ${newest} already: use --resume to go on from there, or another directory`,
  );
}

/** Checkpoints that cannot be used are not the same as none: whoever made them decides. */
function refuseToBeginOver(refused: readonly Refusal[]): void {
  const [newest, ...others] = refused;
  if (newest === undefined) return;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  throw new PodError(
    'bad-data',
    `no checkpoint to resume from can be used: ${newest.name}${more}: ${newest.reason}: mend or move it, or use another directory`,
  );
}

/** Parameters to go back to, and the newer checkpoints that were not good, or not of this run. */
export interface Saved {
  readonly parameters: SavedParameters;
  readonly refused: readonly Refusal[];
}

/** Parameters of the newest good checkpoint after at most `steps` steps; else those of the origin. */
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

/** Saves the checkpoints of a run while it goes on, and counts them. */
export class Keeper {
  readonly #every: number;
  readonly #checkpoints: Checkpoints;
  readonly #saver: BackgroundSaver;
  #saved = 0;
  #failed = 0;
  #lastFailure: string | undefined;

  /** `now` gives ms. */
  constructor({ checkpoints, every }: CheckpointPlan, now: () => number) {
    this.#every = every;
    this.#checkpoints = checkpoints;
    this.#saver = new BackgroundSaver(checkpoints, now);
  }

  isDue(step: number, steps: number): boolean {
    return step % this.#every === 0 || step === steps;
  }

  /** Whether the checkpoint of a step is there. */
  has(step: number): Promise<boolean> {
    return this.#checkpoints.has(step);
  }

  save(snapshot: Snapshot): void {
    this.#saver.save(snapshot);
  }

  /** How saves have ended since this was last asked. */
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

  /** Resolves when nothing is being written. */
  settled(): Promise<void> {
    return this.#saver.settled();
  }

  counts(): { readonly saved: number; readonly failed: number } {
    return { saved: this.#saved, failed: this.#failed };
  }

  /** @throws PodError `io` when the last save failed: what the run ended with is not saved. */
  checkLast(): void {
    if (this.#lastFailure !== undefined) throw new PodError('io', this.#lastFailure);
  }
}
