import { dirname, join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { assert, at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import {
  type Checkpoint,
  checkpointFiles,
  checkpointName,
  parseName,
  type Refusal,
  readCheckpoint,
  readManifest,
  type Snapshot,
  stepOf,
  writeCheckpoint,
} from './checkpoint.ts';
import type { FileSystem } from './files.ts';
import { nodeFiles } from './node-files.ts';
import { runNameOf } from './saved-run.ts';

/**
 * A folder with the checkpoints of a run. Each checkpoint is a directory such as `step-0000120`. If
 * a save is interrupted, at any moment, the directory is complete or does not exist.
 *
 * A checkpoint is whole (undamaged) if its files match their checksums. A damaged checkpoint is
 * refused. Refused checkpoints and unrelated files in the folder are left unchanged. Only one run
 * at a time writes to the folder.
 */
export interface Checkpoints {
  /** Returns the names of all checkpoints, newest first, including damaged checkpoints. */
  list(): Promise<readonly string[]>;
  /**
   * Returns the newest whole checkpoint after at most `stepMost` steps. Also returns the refusals
   * of newer checkpoints, which were tried first and are damaged.
   */
  latest(stepMost?: number): Promise<Latest>;
  /** True if an undamaged checkpoint after exactly `step` steps exists. */
  has(step: number): Promise<boolean>;
  /**
   * Prepares the folder for saving: creates the folder if it does not exist, and removes the
   * remains of interrupted saves. Nothing is created or removed in the folder before this call,
   * except its lock. The first `save` calls `begin` if the caller has not done so.
   *
   * @throws PodError `io` if the folder cannot be written to; `in-use` if another run has locked
   *   the folder, or has saved a checkpoint since the folder was opened.
   */
  begin(): Promise<void>;
  /**
   * Writes a checkpoint. Then deletes old checkpoints of this run: only the newest `keep` whole
   * checkpoints are left. Once the promise resolves, the new checkpoint survives a loss of power.
   * Only one save at a time is allowed.
   *
   * @throws PodError `io` if the checkpoint could not be written, and then no checkpoint was
   *   deleted. Also `io` if the checkpoint was written but an old checkpoint could not be deleted.
   */
  save(snapshot: Snapshot): Promise<Saved>;
  /** Releases the folder's lock, so that another run can use the folder. */
  close(): void;
}

/** Lock of a folder. A run holds the lock while it uses the folder. */
export interface DirectoryLock {
  release(): void;
}

/** The newest undamaged checkpoint, and the newer checkpoints that were refused. */
export interface Latest {
  readonly checkpoint: Checkpoint | undefined;
  /** Refused checkpoints, newest first. */
  readonly refused: readonly Refusal[];
}

/** Name of a checkpoint that was written, and its size in bytes. */
export interface Saved {
  readonly name: string;
  readonly bytes: number;
}

/** Options for opening a folder of checkpoints. */
export interface CheckpointsOptions {
  /**
   * Number of undamaged checkpoints of a run to keep, at least 1. A save deletes older checkpoints.
   */
  readonly keep: number;
  readonly files?: FileSystem;
  /** Locks an existing folder for this run. Throws `in-use` if another run has the lock. */
  readonly lock?: (directory: string) => DirectoryLock;
}

/**
 * Opens the folder of checkpoints `directory`. If the folder exists, locks it for this run. If not,
 * {@link Checkpoints.begin} creates and locks it later.
 *
 * @throws PodError `in-use` if another run has locked the folder, `io` if the folder cannot be
 *   read.
 */
export async function openCheckpoints(
  directory: string,
  { keep, files = nodeFiles, lock = () => ({ release: () => undefined }) }: CheckpointsOptions,
): Promise<Checkpoints> {
  assert(Number.isSafeInteger(keep) && keep >= 1, `${keep} checkpoints to keep`);
  const store = new Store({ directory, keep, files, lock });
  await store.open();
  return store;
}

/**
 * Returns the names of the checkpoints in a folder, newest first. Throws `io` if the folder cannot
 * be read.
 */
export async function listCheckpoints(
  directory: string,
  files: FileSystem = nodeFiles,
): Promise<string[]> {
  const names = await attempt(`${directory}: could not be read`, () =>
    files.readDirectory(directory),
  );
  return checkpointsAmong(names);
}

/** Returns the names of checkpoints among `names`, newest first. */
export function checkpointsAmong(names: readonly string[]): string[] {
  const found = names.flatMap((name) => parseName(name) ?? []);
  found.sort((a, b) => b.step - a.step || b.copy - a.copy);
  return found.map(({ step, copy }) => checkpointName(step, copy));
}

/** Result of reading a checkpoint that a run has deleted since the folder was listed. */
export const gone = 'gone';

/**
 * Reads a checkpoint and checks it completely. Returns the checkpoint, the reason why it is
 * refused, or `gone` if a run has deleted it. Changes nothing on the disk.
 */
export function verifyCheckpoint(
  directory: string,
  name: string,
  files: FileSystem = nodeFiles,
): Promise<Checkpoint | Refusal | typeof gone> {
  return orRefusal({ directory, name, files }, () => readCheckpoint(files, directory, name));
}

/** The name and the manifest of a checkpoint whose other files were not checked. */
export type Inspected = Pick<Checkpoint, 'name' | 'manifest'>;

/**
 * Reads only the manifest of a checkpoint and checks the manifest's own checksum. Returns the
 * manifest, the reason why the checkpoint is refused, or `gone` if a run has deleted it.
 */
export function inspectCheckpoint(
  directory: string,
  name: string,
  files: FileSystem = nodeFiles,
): Promise<Inspected | Refusal | typeof gone> {
  const inspect = async (): Promise<Inspected> => {
    return { name, manifest: await readManifest(files, directory, name) };
  };
  return orRefusal({ directory, name, files }, inspect);
}

/** True if the outcome of reading a checkpoint is a refusal. */
export function isRefusal(it: object): it is Refusal {
  return 'reason' in it;
}

/**
 * Returns the newest whole checkpoint among the names that `list` returns, and the refusals of
 * newer checkpoints.
 *
 * If no checkpoint is whole and a run has deleted some of them during the search, calls `list`
 * again. The new list has newer checkpoints, because a run saves a new checkpoint before it deletes
 * old ones.
 */
export async function newestWhole(
  directory: string,
  list: () => Promise<readonly string[]>,
  files: FileSystem = nodeFiles,
): Promise<Latest> {
  for (;;) {
    const refused: Refusal[] = [];
    let isAnyGone = false;
    for (const name of await list()) {
      const found = await verifyCheckpoint(directory, name, files);
      if (found === gone) isAnyGone = true;
      else if (isRefusal(found)) refused.push(found);
      else return { checkpoint: found, refused };
    }
    if (!isAnyGone) return { checkpoint: undefined, refused };
  }
}

/**
 * Prefixes of the names of directories that are not checkpoints. `partial`: the checkpoint is not
 * complete yet. `deleted`: the checkpoint is being deleted. `replaced`: an older version of this
 * program put a new checkpoint in its place. An atomic rename adds or removes the prefix.
 */
const asides = { partial: '.partial-', replaced: '.replaced-', deleted: '.deleted-' } as const;

const probeName = `${asides.partial}probe`;

interface StoreOptions extends Required<CheckpointsOptions> {
  readonly directory: string;
}

class Store implements Checkpoints {
  readonly #directory: string;
  readonly #keep: number;
  readonly #files: FileSystem;
  readonly #lockDirectory: StoreOptions['lock'];
  #lock: DirectoryLock | undefined;
  /** Names of the checkpoints in the folder when the folder was opened. */
  #namesBefore: readonly string[] = [];
  #isReady = false;
  /**
   * For the name of each checkpoint that was read or saved: a text that identifies the run that
   * saved the checkpoint (see {@link runNameOf}), or null if the checkpoint is not whole.
   */
  readonly #runs = new Map<string, string | null>();

  constructor({ directory, keep, files, lock }: StoreOptions) {
    this.#directory = directory;
    this.#keep = keep;
    this.#files = files;
    this.#lockDirectory = lock;
  }

  /**
   * If the folder exists, locks the folder and lists its checkpoints. Otherwise does nothing;
   * {@link begin} creates and locks the folder.
   */
  async open(): Promise<void> {
    if ((await namesIfThere(this.#files, this.#directory)) === undefined) return;
    this.#lock = this.#lockDirectory(this.#directory);
    this.#namesBefore = await this.list();
  }

  async begin(): Promise<void> {
    if (this.#isReady) return;
    await this.#ready(() => makeDirectories(this.#files, this.#directory));
    this.#lock ??= this.#lockDirectory(this.#directory);
    const [newest] = await this.list();
    if (newest !== this.#namesBefore[0]) {
      throw new PodError(
        'in-use',
        `${this.#directory}: another run has saved ${newest} during this run`,
      );
    }
    await this.#ready(async () => {
      await this.#clearUp(await this.#files.readDirectory(this.#directory));
      await this.#probe();
    });
    this.#isReady = true;
  }

  /**
   * Creates an empty directory and removes it again. If the folder cannot be written to, this fails
   * before the run begins, not at the first save.
   */
  async #probe(): Promise<void> {
    const taken = await this.#files.readDirectory(this.#directory);
    let name = probeName;
    for (let count = 1; taken.includes(name); count++) name = `${probeName}.${count}`;
    await this.#files.makeDirectory(this.#path(name));
    await this.#files.removeDirectory(this.#path(name));
  }

  #ready(work: () => Promise<void>): Promise<void> {
    return attempt(`${this.#directory}: could not be made ready for checkpoints`, work);
  }

  close(): void {
    this.#lock?.release();
    this.#lock = undefined;
  }

  async list(): Promise<readonly string[]> {
    return checkpointsAmong((await namesIfThere(this.#files, this.#directory)) ?? []);
  }

  async latest(stepMost = Number.POSITIVE_INFINITY): Promise<Latest> {
    const list = async (): Promise<readonly string[]> =>
      (await this.list()).filter((name) => (stepOf(name) ?? 0) <= stepMost);
    const found = await newestWhole(this.#directory, list, this.#files);
    const { checkpoint, refused } = found;
    for (const { name } of refused) this.#runs.set(name, null);
    if (checkpoint !== undefined) {
      this.#runs.set(checkpoint.name, runNameOf(checkpoint.manifest.config));
    }
    return found;
  }

  async has(step: number): Promise<boolean> {
    for (const name of await this.#namesOf(step))
      if ((await this.#runOf(name)) !== null) return true;
    return false;
  }

  async save(snapshot: Snapshot): Promise<Saved> {
    await this.begin();
    const name = await this.#freeName(snapshot.step);
    const bytes = await attempt(`checkpoint ${name}: could not be written`, () =>
      this.#write(name, snapshot),
    );
    const run = runNameOf(snapshot.config);
    this.#runs.set(name, run);
    await attempt('an old checkpoint could not be deleted', () => this.#deleteOld(run));
    return { name, bytes };
  }

  async #write(name: string, snapshot: Snapshot): Promise<number> {
    const partial = `${asides.partial}${name}`;
    await this.#needFree(partial);
    try {
      const bytes = await writeCheckpoint(this.#files, this.#path(partial), snapshot);
      await this.#rename(partial, name);
      await this.#files.syncDirectory(this.#directory);
      return bytes;
    } catch (error) {
      await this.#clearAway(partial);
      throw error;
    }
  }

  /**
   * Makes `name` free. If an interrupted save or deletion left a directory with this name, removes
   * that directory.
   *
   * @throws PodError `io` if anything else has this name.
   */
  async #needFree(name: string): Promise<void> {
    await this.#removeOurs(name);
    const kind = await this.#files.kindOf(this.#path(name));
    if (kind === undefined) return;
    const found = kind === 'other' ? 'something else' : `a ${kind} that pod did not make`;
    throw new PodError(
      'io',
      `${this.#path(name)}: expected a name that is free, found ${found}; move it away`,
    );
  }

  /**
   * Returns a name for a new checkpoint. Existing checkpoints of the same step keep their names,
   * and the new name gets a higher `copy`.
   */
  async #freeName(step: number): Promise<string> {
    const [newest] = await this.#namesOf(step);
    return newest === undefined
      ? checkpointName(step)
      : checkpointName(step, (parseName(newest)?.copy ?? 0) + 1);
  }

  async #namesOf(step: number): Promise<readonly string[]> {
    return (await this.list()).filter((name) => stepOf(name) === step);
  }

  /**
   * Deletes undamaged checkpoints of a run, except the newest `keep`. Damaged checkpoints and
   * checkpoints of other runs stay.
   */
  async #deleteOld(run: string): Promise<void> {
    const old: string[] = [];
    let whole = 0;
    for (const name of await this.list()) {
      if ((await this.#runOf(name)) !== run) continue;
      whole++;
      if (whole > this.#keep && (await this.#isOurs(name))) old.push(name);
    }
    if (old.length === 0) return;
    const deleted = old.map((name) => `${asides.deleted}${name}`);
    for (const [i, name] of old.entries()) {
      await this.#needFree(at(deleted, i));
      await this.#rename(name, at(deleted, i));
      this.#runs.delete(name);
    }
    await this.#files.syncDirectory(this.#directory);
    for (const name of deleted) await this.#removeOurs(name);
  }

  async #runOf(name: string): Promise<string | null> {
    const known = this.#runs.get(name);
    if (known !== undefined) return known;
    const found = await verifyCheckpoint(this.#directory, name, this.#files);
    const run = found === gone || isRefusal(found) ? null : runNameOf(found.manifest.config);
    this.#runs.set(name, run);
    return run;
  }

  /**
   * Removes the remains of a failed save. Ignores errors of the operating system, because the
   * failure of the save is already reported. The next {@link begin} removes whatever remains.
   */
  async #clearAway(name: string): Promise<void> {
    try {
      await this.#removeOurs(name);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /**
   * Removes the directories that interrupted saves and deletions left. There is one exception. An
   * older version of this program replaced checkpoints. If that version was interrupted, the
   * replaced checkpoint gets its name back. A directory that no save could have made stays,
   * whatever its name.
   */
  async #clearUp(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const prefix = Object.values(asides).find((it) => name.startsWith(it));
      if (prefix === undefined) continue;
      const original = name.slice(prefix.length);
      if (parseName(original) === undefined && name !== probeName) continue;
      if (prefix !== asides.replaced || names.includes(original)) await this.#removeOurs(name);
      else if (await this.#isOurs(name)) await this.#rename(name, original);
    }
  }

  /**
   * True if a save could have made the directory `name`. Then `name` is a directory, not a link,
   * and contains only files with the names of a checkpoint's files.
   */
  async #isOurs(name: string): Promise<boolean> {
    const path = this.#path(name);
    if ((await this.#files.kindOf(path)) !== 'directory') return false;
    for (const file of await this.#files.readDirectory(path)) {
      if (!checkpointFiles.has(file)) return false;
      if ((await this.#files.kindOf(join(path, file))) !== 'file') return false;
    }
    return true;
  }

  #rename(from: string, to: string): Promise<void> {
    return this.#files.rename(this.#path(from), this.#path(to));
  }

  /** Removes the directory `name` if a save could have made it; otherwise does nothing. */
  async #removeOurs(name: string): Promise<void> {
    if (!(await this.#isOurs(name))) return;
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

/**
 * Creates a directory and its missing parents. Syncs every new directory's parent to the disk, so
 * that the new entry survives a loss of power.
 */
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

/**
 * Runs `work`. Converts an error of the operating system to PodError `io`, with a message that
 * begins with `what`.
 */
async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${what}: ${error.message}`, error);
  }
}

/** Returns the names in a directory; undefined if the directory does not exist. */
function namesIfThere(files: FileSystem, path: string): Promise<readonly string[] | undefined> {
  return attempt(`${path}: could not be read`, async () => {
    try {
      return await files.readDirectory(path);
    } catch (error) {
      if (isSystemError(error) && error.code === 'ENOENT') return undefined;
      throw error;
    }
  });
}

interface Place {
  readonly directory: string;
  readonly name: string;
  readonly files: FileSystem;
}

/**
 * Runs `work`, which reads a checkpoint, and returns the result of `work`. If `work` throws a
 * `PodError`, returns `gone` if the checkpoint no longer exists; otherwise returns a refusal with
 * the message of the error.
 */
async function orRefusal<T>(
  { directory, name, files }: Place,
  work: () => Promise<T>,
): Promise<T | Refusal | typeof gone> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    if (!(await isListed(files, directory, name))) return gone;
    return { name, reason: error.message };
  }
}

async function isListed(files: FileSystem, directory: string, name: string): Promise<boolean> {
  try {
    return (await files.readDirectory(directory)).includes(name);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return true;
  }
}
