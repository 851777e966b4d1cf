import { dirname, join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { assert, at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import {
  type Checkpoint,
  checkpointName,
  type Refusal,
  readCheckpoint,
  readManifest,
  type Snapshot,
  stepOf,
  writeCheckpoint,
} from './checkpoint.ts';
import type { FileSystem } from './files.ts';
import { nodeFiles } from './node-files.ts';

/**
 * The checkpoints of a run: directories `step-0000120`, each whole or not there at all, whatever
 * stops a save and whenever. One process writes to them at a time.
 */
export interface Checkpoints {
  /** Names of all there are, newest first, whether good or bad. */
  list(): Promise<readonly string[]>;
  /** The newest that is whole, of those after at most `stepMost` steps, and newer ones that are not. */
  latest(stepMost?: number): Promise<Latest>;
  /**
   * Writes a checkpoint; once this resolves it outlasts a loss of power, and of the whole ones
   * only the newest `keep` are left. One save at a time.
   *
   * @throws PodError `io` when it could not be written, and then the others are as they were; or
   * when one that is no longer wanted could not be deleted.
   */
  save(snapshot: Snapshot): Promise<Saved>;
}

export interface Latest {
  readonly checkpoint: Checkpoint | undefined;
  /** Newest first. */
  readonly refused: readonly Refusal[];
}

export interface Saved {
  readonly name: string;
  readonly bytes: number;
}

export interface CheckpointsOptions {
  /** How many whole checkpoints are left; at least one. */
  readonly keep: number;
  readonly files?: FileSystem;
}

/**
 * Opens the checkpoints of `directory`, which is made where it is missing, and clears away what
 * an interrupted save left.
 *
 * @throws PodError `io` when it cannot be written to.
 */
export async function openCheckpoints(
  directory: string,
  { keep, files = nodeFiles }: CheckpointsOptions,
): Promise<Checkpoints> {
  assert(Number.isSafeInteger(keep) && keep >= 1, `${keep} checkpoints to keep`);
  const store = new Store(directory, keep, files);
  await store.open();
  return store;
}

/** Names of the checkpoints in a directory, newest first. Throws `io` when it cannot be read. */
export async function listCheckpoints(
  directory: string,
  files: FileSystem = nodeFiles,
): Promise<string[]> {
  const names = await attempt(`${directory}: could not be read`, () =>
    files.readDirectory(directory),
  );
  const steps = names.flatMap((name) => stepOf(name) ?? []);
  return steps.sort((a, b) => b - a).map(checkpointName);
}

/** A checkpoint, or why it is refused. Writes nothing. */
export function verifyCheckpoint(
  directory: string,
  name: string,
  files: FileSystem = nodeFiles,
): Promise<Checkpoint | Refusal> {
  return orRefusal(name, () => readCheckpoint(files, directory, name));
}

/** A checkpoint as it describes itself. */
export type Inspected = Pick<Checkpoint, 'name' | 'manifest'>;

/** What a checkpoint says of itself, unchecked but for its own text, or why it is refused. */
export function inspectCheckpoint(
  directory: string,
  name: string,
  files: FileSystem = nodeFiles,
): Promise<Inspected | Refusal> {
  const inspect = async (): Promise<Inspected> => {
    return { name, manifest: await readManifest(files, directory, name) };
  };
  return orRefusal(name, inspect);
}

export function isRefusal(it: object): it is Refusal {
  return 'reason' in it;
}

/**
 * What comes before the name of a directory that is no checkpoint: not yet, or no more. A rename
 * takes it to its place, or out of it, in one motion.
 */
const asides = { partial: '.partial-', replaced: '.replaced-', deleted: '.deleted-' } as const;

class Store implements Checkpoints {
  readonly #directory: string;
  readonly #keep: number;
  readonly #files: FileSystem;
  /** Whether a checkpoint was found whole, by name. */
  readonly #whole = new Map<string, boolean>();

  constructor(directory: string, keep: number, files: FileSystem) {
    this.#directory = directory;
    this.#keep = keep;
    this.#files = files;
  }

  async open(): Promise<void> {
    await attempt(`${this.#directory}: could not be made ready for checkpoints`, async () => {
      await makeDirectories(this.#files, this.#directory);
      await this.#clearUp(await this.#files.readDirectory(this.#directory));
      await this.#files.makeDirectory(this.#path(`${asides.partial}probe`));
      await this.#files.removeDirectory(this.#path(`${asides.partial}probe`));
    });
  }

  list(): Promise<readonly string[]> {
    return listCheckpoints(this.#directory, this.#files);
  }

  async latest(stepMost = Number.POSITIVE_INFINITY): Promise<Latest> {
    const refused: Refusal[] = [];
    for (const name of await this.list()) {
      if ((stepOf(name) ?? 0) > stepMost) continue;
      const found = await this.#verify(name);
      if (!isRefusal(found)) return { checkpoint: found, refused };
      refused.push(found);
    }
    return { checkpoint: undefined, refused };
  }

  async save(snapshot: Snapshot): Promise<Saved> {
    const name = checkpointName(snapshot.step);
    const bytes = await attempt(`checkpoint ${name}: could not be written`, () =>
      this.#write(name, snapshot),
    );
    this.#whole.set(name, true);
    await attempt('an old checkpoint could not be deleted', () => this.#deleteOld());
    return { name, bytes };
  }

  async #write(name: string, snapshot: Snapshot): Promise<number> {
    const partial = `${asides.partial}${name}`;
    try {
      const bytes = await writeCheckpoint(this.#files, this.#path(partial), snapshot);
      await this.#putInPlace(partial, name);
      return bytes;
    } catch (error) {
      await this.#clearAway(partial);
      throw error;
    }
  }

  /** Most often nothing has that name; what has it was refused, or is of the same step. */
  async #putInPlace(partial: string, name: string): Promise<void> {
    if (!(await this.list()).includes(name)) {
      await this.#rename(partial, name);
      await this.#files.syncDirectory(this.#directory);
      return;
    }
    const replaced = `${asides.replaced}${name}`;
    await this.#rename(name, replaced);
    try {
      await this.#rename(partial, name);
    } catch (error) {
      await this.#rename(replaced, name);
      throw error;
    }
    await this.#files.syncDirectory(this.#directory);
    await this.#remove(replaced);
  }

  /** Deletes whole checkpoints but the newest `keep`; bad ones stay to be looked at. */
  async #deleteOld(): Promise<void> {
    const old: string[] = [];
    let whole = 0;
    for (const name of await this.list()) {
      if (!(await this.#isWhole(name))) continue;
      whole++;
      if (whole > this.#keep) old.push(name);
    }
    if (old.length === 0) return;
    const deleted = old.map((name) => `${asides.deleted}${name}`);
    for (const [i, name] of old.entries()) {
      await this.#rename(name, at(deleted, i));
      this.#whole.delete(name);
    }
    await this.#files.syncDirectory(this.#directory);
    for (const name of deleted) await this.#remove(name);
  }

  async #isWhole(name: string): Promise<boolean> {
    const known = this.#whole.get(name);
    return known ?? !isRefusal(await this.#verify(name));
  }

  async #verify(name: string): Promise<Checkpoint | Refusal> {
    const found = await verifyCheckpoint(this.#directory, name, this.#files);
    this.#whole.set(name, !isRefusal(found));
    return found;
  }

  /** After a failure that is being reported already: what cannot be removed now is at the next opening. */
  async #clearAway(name: string): Promise<void> {
    try {
      await this.#remove(name);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /** Undoes a replacement that was interrupted, and removes all else that is no checkpoint. */
  async #clearUp(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const original = name.slice(asides.replaced.length);
      if (name.startsWith(asides.replaced) && !names.includes(original)) {
        await this.#rename(name, original);
      } else if (Object.values(asides).some((it) => name.startsWith(it))) {
        await this.#remove(name);
      }
    }
  }

  #rename(from: string, to: string): Promise<void> {
    return this.#files.rename(this.#path(from), this.#path(to));
  }

  /** Removes a directory of files. */
  async #remove(name: string): Promise<void> {
    const path = this.#path(name);
    for (const file of await this.#files.readDirectory(path)) {
      await this.#files.removeFile(join(path, file));
    }
    await this.#files.removeDirectory(path);
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

/** Makes a directory and those above it, each to outlast a loss of power. */
async function makeDirectories(files: FileSystem, path: string): Promise<void> {
  try {
    await files.makeDirectory(path);
  } catch (error) {
    if (isSystemError(error) && error.code === 'EEXIST') return;
    if (!isSystemError(error) || error.code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeDirectories(files, dirname(path));
    await files.makeDirectory(path);
  }
  await files.syncDirectory(dirname(path));
}

/** An error of the system, said in one line of ours. */
async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${what}: ${error.message}`, error);
  }
}

async function orRefusal<T>(name: string, work: () => Promise<T>): Promise<T | Refusal> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    return { name, reason: error.message };
  }
}
