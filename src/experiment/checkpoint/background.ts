import { PodError } from '../../numerics/error.ts';
import type { Snapshot } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';

/** The outcome of a save. */
export type SaveEvent =
  | {
      readonly kind: 'checkpoint';
      readonly step: number;
      readonly name: string;
      readonly bytes: number;
      /** Time that the save took in ms, without the time for which the snapshot waited its turn. */
      readonly wallMs: number;
    }
  | { readonly kind: 'checkpoint-failed'; readonly step: number; readonly reason: string };

/**
 * Saves checkpoints in the background, so that the run never waits for the disk. A snapshot that
 * comes while an earlier snapshot is being written has to wait. If a third snapshot comes, it
 * replaces the waiting snapshot. So at most two snapshots are in memory.
 */
export class BackgroundSaver {
  readonly #checkpoints: Checkpoints;
  readonly #now: () => number;
  readonly #events: SaveEvent[] = [];
  #waiting: Snapshot | undefined;
  #writing: Promise<void> | undefined;
  /**
   * An error of a save that is not a `PodError`. It shows a defect of this program, so
   * {@link takeEvents} throws it.
   */
  #mistake: { readonly error: unknown } | undefined;

  /** `now` returns the time in ms. */
  constructor(checkpoints: Checkpoints, now: () => number) {
    this.#checkpoints = checkpoints;
    this.#now = now;
  }

  save(snapshot: Snapshot): void {
    this.#waiting = snapshot;
    this.#writing ??= this.#writeAll();
  }

  /** Returns the outcomes of the saves that ended since the last call. */
  takeEvents(): readonly SaveEvent[] {
    if (this.#mistake !== undefined) throw this.#mistake.error;
    return this.#events.splice(0);
  }

  /** Resolves when no save is under way or waiting. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    try {
      for (let next = this.#take(); next !== undefined; next = this.#take()) {
        this.#events.push(await this.#write(next));
      }
    } catch (error) {
      this.#mistake = { error };
    }
    this.#writing = undefined;
  }

  #take(): Snapshot | undefined {
    const next = this.#waiting;
    this.#waiting = undefined;
    return next;
  }

  async #write(snapshot: Snapshot): Promise<SaveEvent> {
    const { step } = snapshot;
    const startMs = this.#now();
    try {
      const saved = await this.#checkpoints.save(snapshot);
      return { kind: 'checkpoint', step, ...saved, wallMs: this.#now() - startMs };
    } catch (error) {
      if (!(error instanceof PodError)) throw error;
      return { kind: 'checkpoint-failed', step, reason: error.message };
    }
  }
}
