import { differenceIn, type StepValues } from './differences.ts';

/** What the disk of the masters has kept of a run. Only simulated runs have it. */
export interface Kept {
  /** Number of checkpoints that the run keeps; undefined for a run without checkpoints. */
  readonly keep: number | undefined;
  /** Checkpoints that the run has told as saved, in order of time. */
  readonly saves: readonly CheckpointSeen[];
  /** Checkpoints that a fault has damaged, in order of time. */
  readonly damages: readonly CheckpointSeen[];
  /** What was left after each loss of power during the run, in order of time. */
  readonly losses: readonly (Remains & { readonly ms: number })[];
  /** What was left after the end of the run, after one more loss of power. */
  readonly end: Remains;
}

/** What is left on a disk after a loss of power: all that was not synced is gone. */
export interface Remains {
  /** Steps in the commit log, in order. */
  readonly log: readonly StepValues[];
  /** The newest whole checkpoint; undefined if there is none. */
  readonly checkpoint: StepValues | undefined;
}

/** A checkpoint to which something happened, and when. */
export interface CheckpointSeen {
  readonly ms: number;
  readonly step: number;
}

/** The remains after a loss of power, and what must be among them. */
interface Look extends Remains {
  /** Everything before this time must be among the remains. */
  readonly ms: number;
  readonly when: string;
}

/** Names the first committed step that the commit log has lost; undefined if there is none. */
export function lostCommit(
  kept: Kept | undefined,
  commits: readonly (StepValues & { readonly ms: number })[],
): string | undefined {
  for (const { log, ms, when } of looksAt(kept)) {
    const values = new Map(log.map((it) => [it.step, it]));
    const lost = commits.find((it) => it.ms < ms && !isSame(it, values.get(it.step)));
    if (lost !== undefined) return `the commit log has lost step ${lost.step} ${when}`;
  }
  return undefined;
}

function isSame({ digest, loss }: StepValues, other: StepValues | undefined): boolean {
  return other?.digest === digest && Object.is(other.loss, loss);
}

/**
 * Names the first checkpoint that was lost; undefined if there is none. A checkpoint is lost if the
 * run went back further than to this checkpoint, or if it is missing after a loss of power.
 * `returns` has the steps to which the run went back. `last` is the last step of a run that is done;
 * there must be a checkpoint of this step. If the run has failed, `last` is undefined.
 */
export function lostCheckpoint(
  kept: Kept | undefined,
  returns: readonly CheckpointSeen[],
  last: CheckpointSeen | undefined,
): string | undefined {
  if (kept?.keep === undefined) return undefined;
  for (const { ms, step } of returns) {
    const least = leastStep(kept, kept.saves, ms);
    if (step < least)
      return `the run went back to step ${step}, with a checkpoint of step ${least}`;
  }
  const saves = last === undefined ? kept.saves : [...kept.saves, last];
  for (const { checkpoint, ms, when } of looksAt(kept)) {
    const least = leastStep(kept, ms === endMs ? saves : kept.saves, ms);
    const { step = 0 } = checkpoint ?? {};
    if (step < least) return `newest whole checkpoint ${when}: step ${step}, expected ${least}`;
  }
  return undefined;
}

/**
 * Names a checkpoint whose weights are not those of its step in the run without faults; undefined
 * if there is none.
 */
export function wrongCheckpoint(
  kept: Kept | undefined,
  reference: readonly StepValues[],
): string | undefined {
  for (const { checkpoint, when } of looksAt(kept)) {
    const other = checkpoint && differenceIn([checkpoint], reference, 'digest');
    if (other === undefined) continue;
    const { step, found, expected } = other;
    return `digest ${found} in the checkpoint of step ${step} ${when}, without faults ${expected}`;
  }
  return undefined;
}

const endMs = Number.POSITIVE_INFINITY;

function looksAt(kept: Kept | undefined): readonly Look[] {
  if (kept === undefined) return [];
  const losses = kept.losses.map((it): Look => {
    return { ...it, when: `after the loss of power at ${Math.round(it.ms)} ms` };
  });
  return [...losses, { ...kept.end, ms: endMs, when: 'after the end' }];
}

/**
 * Returns the step of the newest checkpoint that the disk must have at a time; 0 if it need not
 * have any. The disk must have the newest `keep` checkpoints that were saved, without those that a
 * fault has damaged. If faults have damaged as many as the run keeps, none may be left.
 */
function leastStep(
  { keep = 0, damages }: Kept,
  saves: readonly CheckpointSeen[],
  ms: number,
): number {
  const damaged = damages.filter((it) => it.ms <= ms).map(({ step }) => step);
  if (damaged.length >= keep) return 0;
  const saved = new Set(saves.filter((it) => it.ms < ms).map(({ step }) => step));
  const newest = [...saved].sort((a, b) => b - a).slice(0, keep);
  return newest.find((step) => !damaged.includes(step)) ?? 0;
}
