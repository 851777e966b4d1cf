import { PodError } from '../../numerics/error.ts';
import { BackgroundSaver, type SaveEvent } from './background.ts';
import type { Refusal, Snapshot } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';
import { type Resumable, resumedValues } from './resume.ts';

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
  /** Of every parameter of the training program. */
  readonly values: readonly Uint8Array[];
  /** Of the last step committed; none of a run that starts anew. */
  readonly last?: { readonly loss: number; readonly digest: string };
  readonly resumedFrom: string | null;
  readonly refused: readonly Refusal[];
}

/**
 * Where a run begins: at a checkpoint, or with `initialValues`.
 *
 * @throws PodError `bad-config` when the checkpoints are of another run, or are there and the plan
 *   is not to resume; `io` when they cannot be read.
 */
export async function startingPoint(
  plan: CheckpointPlan | undefined,
  run: Resumable,
  initialValues: readonly Uint8Array[],
): Promise<StartingPoint> {
  const anew = { step: 0, values: initialValues, resumedFrom: null };
  if (plan === undefined) return { ...anew, refused: [] };
  if (!plan.resume) {
    refuseToMix(await plan.checkpoints.list());
    return { ...anew, refused: [] };
  }
  const { checkpoint, refused } = await plan.checkpoints.latest();
  if (checkpoint === undefined) return { ...anew, refused };
  const { name, manifest } = checkpoint;
  return {
    step: manifest.step,
    values: resumedValues(checkpoint, run),
    last: { loss: manifest.loss, digest: manifest.weightsDigest },
    resumedFrom: name,
    refused,
  };
}

function refuseToMix([newest]: readonly string[]): void {
  if (newest === undefined) return;
  throw new PodError(
    'bad-config',
    `the directory for checkpoints has ${newest} already: use --resume to go on from there, or another directory`,
  );
}

/** Saves the checkpoints of a run while it goes on, and counts them. */
export class Keeper {
  readonly #every: number;
  readonly #saver: BackgroundSaver;
  #saved = 0;
  #failed = 0;
  #lastFailure: string | undefined;

  /** `now` gives ms. */
  constructor({ checkpoints, every }: CheckpointPlan, now: () => number) {
    this.#every = every;
    this.#saver = new BackgroundSaver(checkpoints, now);
  }

  isDue(step: number, steps: number): boolean {
    return step % this.#every === 0 || step === steps;
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
