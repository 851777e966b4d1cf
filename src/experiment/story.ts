import type { Refusal } from './checkpoint/checkpoint.ts';
import type { Note, TrainEvent } from './event.ts';

/**
 * Queue of incidents of a run (losses, recoveries, refused checkpoints). `train` yields them as
 * events between two steps.
 */
export class IncidentQueue {
  readonly #untold: TrainEvent[] = [];
  #recoveries: number;

  /** `recoveries` is the number of recoveries before this master began. */
  constructor(recoveries: number) {
    this.#recoveries = recoveries;
  }

  /**
   * Number of recoveries, including those before this master began. A recovery counts once `tell`
   * has yielded its event.
   */
  get recoveries(): number {
    return this.#recoveries;
  }

  note(note: Note): void {
    this.#untold.push({ kind: 'note', note });
  }

  /** Adds checkpoints that a rollback refused. */
  refuse(refused: readonly Refusal[]): void {
    for (const refusal of refused) this.#untold.push({ kind: 'checkpoint-refused', ...refusal });
  }

  *takeEvents(): Generator<TrainEvent> {
    for (const event of this.#untold.splice(0)) {
      if (event.kind === 'note' && event.note.event === 'resumed') this.#recoveries++;
      yield event;
    }
  }
}
