import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { TrainConfig } from '../../src/experiment/config.ts';
import { PodError } from '../../src/numerics/error.ts';

/** A step that was committed: `step` from 1, the membership, and the digest of the weights. */
export interface CommitEntry {
  readonly step: number;
  readonly epoch: number;
  readonly digest: string;
}

const headSchema = z.strictObject({ run: z.string() });
const entrySchema = z.strictObject({
  step: z.int().min(1),
  epoch: z.int().min(1),
  digest: z.string().regex(/^[0-9a-f]{16}$/),
});

/**
 * The commits of a run, one JSON line each, on disk before anybody hears of them. A run that is
 * resumed at a checkpoint takes some steps again: they must end with the same bits, and are not
 * written twice. The log of another run is begun anew.
 */
export class CommitLog {
  readonly #file: number;
  readonly #path: string;
  readonly #digests: Map<number, string> = new Map();
  #last = 0;

  /** Throws `io` when it cannot be read or written. */
  constructor(path: string, config: TrainConfig) {
    this.#path = path;
    const run = createHash('sha256').update(JSON.stringify(config)).digest('hex');
    try {
      mkdirSync(dirname(path), { recursive: true });
      const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
      const kept = this.#readLines(text, run);
      this.#file = openSync(path, 'a');
      ftruncateSync(this.#file, kept);
      if (kept === 0) this.#append({ run });
    } catch (cause) {
      throw this.#broken(cause);
    }
  }

  /** The last step that was committed; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  /**
   * Writes down a step, unless it is there.
   *
   * @throws PodError `digest-mismatch` when it ended with other bits before, `io` when the disk does not take it.
   */
  commit(entry: CommitEntry): void {
    const before = this.#digests.get(entry.step);
    if (before !== undefined) {
      if (before === entry.digest) return;
      const found = `weights ${entry.digest}, ${before} when it was committed first`;
      throw new PodError('digest-mismatch', `step ${entry.step} run again: ${found}`);
    }
    try {
      this.#append(entry);
    } catch (cause) {
      throw this.#broken(cause);
    }
    this.#remember(entry);
  }

  close(): void {
    closeSync(this.#file);
  }

  #append(line: unknown): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
    fsyncSync(this.#file);
  }

  /** Bytes of the whole lines of this run from the start: a line that was cut short does not count. */
  #readLines(text: string, run: string): number {
    const lines = text.split('\n').slice(0, -1);
    const [head = '', ...entries] = lines;
    const found = headSchema.safeParse(parsed(head));
    if (!found.success || found.data.run !== run) return 0;
    let kept = Buffer.byteLength(head) + 1;
    for (const line of entries) {
      const entry = entrySchema.safeParse(parsed(line));
      if (!entry.success) break;
      this.#remember(entry.data);
      kept += Buffer.byteLength(line) + 1;
    }
    return kept;
  }

  #remember({ step, digest }: CommitEntry): void {
    this.#digests.set(step, digest);
    this.#last = Math.max(this.#last, step);
  }

  #broken(cause: unknown): PodError {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new PodError('io', `commit log ${this.#path}: ${why}`, cause);
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
