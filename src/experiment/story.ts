import type { Refusal } from './checkpoint/checkpoint.ts';
import type { Note, TrainEvent } from './event.ts';

/**
 * Queue of incidents of a run (losses, recoveries, refused checkpoints). `train` takes the
 * incidents from the queue between two steps and yields them as events.
 */
export class IncidentQueue {
  readonly #untold: TrainEvent[] = [];
  #recoveries: number;

  /**
   * `recoveries` is the number of recoveries before this master began, including the recovery from
   * the loss of an earlier master.
   */
  constructor(recoveries: number) {
    this.#recoveries = recoveries;
  }

  /**
   * Number of recoveries, including the recoveries before this master began. A recovery is counted
   * when {@link takeEvents} yields the event of its end.
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
