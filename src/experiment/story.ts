import type { Refusal } from './checkpoint/checkpoint.ts';
import type { Note, TrainEvent } from './event.ts';

/** What goes wrong in a run and comes right again, until it is told between two steps. */
export class Story {
  readonly #untold: TrainEvent[] = [];
  #recoveries: number;

  /** `recoveries` is how often the run went on after a loss before. */
  constructor(recoveries: number) {
    this.#recoveries = recoveries;
  }

  /** How often the slice went on after a loss, as far as it was told. */
  get recoveries(): number {
    return this.#recoveries;
  }

  note(note: Note): void {
    this.#untold.push({ kind: 'note', note });
  }

  /** Checkpoints that were not good enough to go back to. */
  refuse(refused: readonly Refusal[]): void {
    for (const refusal of refused) this.#untold.push({ kind: 'checkpoint-refused', ...refusal });
  }

  *tell(): Generator<TrainEvent> {
    for (const event of this.#untold.splice(0)) {
      if (event.kind === 'note' && event.note.event === 'resumed') this.#recoveries++;
      yield event;
    }
  }
}
