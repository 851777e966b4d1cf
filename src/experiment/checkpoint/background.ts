import { PodError } from '../../numerics/error.ts';
import type { Snapshot } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';

/** How a save ended. */
export type SaveEvent =
  | {
      readonly kind: 'checkpoint';
      readonly step: number;
      readonly name: string;
      readonly bytes: number;
      /** From the copy to the disk. */
      readonly wallMs: number;
    }
  | { readonly kind: 'checkpoint-failed'; readonly step: number; readonly reason: string };

/**
 * Saves while the run goes on. Where the disk is slower than the run, one snapshot waits while
 * another is written, and a newer one takes its place: the run never waits, and memory is bounded.
 */
export class BackgroundSaver {
  readonly #checkpoints: Checkpoints;
  readonly #now: () => number;
  readonly #events: SaveEvent[] = [];
  #waiting: Snapshot | undefined;
  #writing: Promise<void> | undefined;
  /** Our mistake, if there was one: told to whoever asks next. */
  #mistake: { readonly error: unknown } | undefined;

  /** `now` gives ms. */
  constructor(checkpoints: Checkpoints, now: () => number) {
    this.#checkpoints = checkpoints;
    this.#now = now;
  }

  save(snapshot: Snapshot): void {
    this.#waiting = snapshot;
    this.#writing ??= this.#writeAll();
  }

  /** What has ended since this was last asked. */
  takeEvents(): readonly SaveEvent[] {
    if (this.#mistake !== undefined) throw this.#mistake.error;
    return this.#events.splice(0);
  }

  /** Resolves when nothing is being written, and nothing waits to be. */
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
