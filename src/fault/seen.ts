import type { Note } from '../pod/master/action.ts';
import type { CommitSeen, Observation } from './verdict.ts';

/**
 * An event of a run with faults: a committed step, a note of the pod or a straggler. Every kind of
 * pod tells these events. `ms` is the time of the event, in ms, on the clock of the run.
 */
export type SeenEvent = StepSeen | NoteSeen | StragglerSeen;

/** A step was committed. */
export interface StepSeen extends CommitSeen {
  readonly kind: 'step';
}

/** The pod told of a loss, a suspicion or a stage of a recovery. */
export interface NoteSeen {
  readonly kind: 'note';
  readonly ms: number;
  readonly note: Note;
}

/** A Cloud TPU was named as straggler, because it was the slowest for several steps in a row. */
export interface StragglerSeen {
  readonly kind: 'straggler';
  readonly ms: number;
  readonly tpu: number;
}

/** Returns the events that an observation has, in the order of their times. */
export function seenIn({ commits, notes, stragglers }: Observation): readonly SeenEvent[] {
  const events: SeenEvent[] = [
    ...notes.map((it) => ({ kind: 'note', ...it }) as const),
    ...commits.map((it) => ({ kind: 'step', ...it }) as const),
    ...stragglers.map((it) => ({ kind: 'straggler', ...it }) as const),
  ];
  return events.sort((a, b) => a.ms - b.ms);
}
