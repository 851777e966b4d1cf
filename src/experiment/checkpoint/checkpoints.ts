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
 * The checkpoints of a run: directories `step-0000120`, each whole or not there at all, whatever
 * stops a save and whenever. One run writes to them at a time. Those that were refused, and all else
 * that lies in the directory, stay as they are.
 */
export interface Checkpoints {
  /** Names of all there are, newest first, whether good or bad. */
  list(): Promise<readonly string[]>;
  /** The newest that is whole, of those after at most `stepMost` steps, and newer ones that are not. */
  latest(stepMost?: number): Promise<Latest>;
  /** Whether a whole one after this many steps is there. */
  has(step: number): Promise<boolean>;
  /**
   * Makes the directory if it is missing, and clears away what interrupted saves left. Nothing is changed
   * on disk before this is called. The first save calls it if nobody has.
   *
   * @throws PodError `io` when it cannot be written to, `in-use` when another run has it.
   */
  begin(): Promise<void>;
  /**
   * Writes a checkpoint; once this resolves it outlasts a loss of power, and of the whole ones
   * of this run only the newest `keep` are left. One save at a time.
   *
   * @throws PodError `io` when it could not be written, and then the others are as they were; or
   * when one that is no longer wanted could not be deleted.
   */
  save(snapshot: Snapshot): Promise<Saved>;
  /** Leaves the directory to others. */
  close(): void;
}

/** Held while a run has a directory. */
export interface DirectoryLock {
  release(): void;
}

/** The newest whole checkpoint, and those that were refused on the way to it. */
export interface Latest {
  readonly checkpoint: Checkpoint | undefined;
  /** Newest first. */
  readonly refused: readonly Refusal[];
}

/** A checkpoint that was written. */
export interface Saved {
  readonly name: string;
  readonly bytes: number;
}

/** How a folder of checkpoints is opened. */
export interface CheckpointsOptions {
  /** How many whole checkpoints are left; at least one. */
  readonly keep: number;
  readonly files?: FileSystem;
  /** Takes a directory that is there for this run alone; throws `in-use` when another has it. */
  readonly lock?: (directory: string) => DirectoryLock;
}

/**
 * Opens the checkpoints of `directory`, for this run alone. Nothing is changed on disk before
 * {@link Checkpoints.begin}, which makes the directory where it is missing.
 *
 * @throws PodError `in-use` when another run has it, `io` when it cannot be read.
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

/** Names of the checkpoints in a directory, newest first. Throws `io` when it cannot be read. */
export async function listCheckpoints(
  directory: string,
  files: FileSystem = nodeFiles,
): Promise<string[]> {
  const names = await attempt(`${directory}: could not be read`, () =>
    files.readDirectory(directory),
  );
  return checkpointsAmong(names);
}

/** The names that are those of checkpoints, newest first. */
function checkpointsAmong(names: readonly string[]): string[] {
  const found = names.flatMap((name) => parseName(name) ?? []);
  found.sort((a, b) => b.step - a.step || b.copy - a.copy);
  return found.map(({ step, copy }) => checkpointName(step, copy));
}

/** Stands for a checkpoint that was listed, and that its run deleted before it was read. */
export const gone = 'gone';

/** A checkpoint, or why it is refused. Writes nothing. */
export function verifyCheckpoint(
  directory: string,
  name: string,
  files: FileSystem = nodeFiles,
): Promise<Checkpoint | Refusal | typeof gone> {
  return orRefusal({ directory, name, files }, () => readCheckpoint(files, directory, name));
}

/** A checkpoint as it describes itself. */
export type Inspected = Pick<Checkpoint, 'name' | 'manifest'>;

/** What a checkpoint says of itself, unchecked but for its own text, or why it is refused. */
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

/** Whether a checkpoint was refused. */
export function isRefusal(it: object): it is Refusal {
  return 'reason' in it;
}

/**
 * The newest whole checkpoint of those that `list` names, and those before it that are refused. If none
 * is found and some were deleted meanwhile, they are listed again: a run saves newer ones first.
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
 * What comes before the name of a directory that is no checkpoint: not yet, or no more. A rename
 * takes it to its place, or out of it, in one motion.
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
  /** Names that were there when it was opened. */
  #namesBefore: readonly string[] = [];
  #isReady = false;
  /** The run of each checkpoint that was looked at, by name; null for one that is not whole. */
  readonly #runs = new Map<string, string | null>();

  constructor({ directory, keep, files, lock }: StoreOptions) {
    this.#directory = directory;
    this.#keep = keep;
    this.#files = files;
    this.#lockDirectory = lock;
  }

  /** A directory that is missing cannot be locked yet. */
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
      throw new PodError('in-use', `${this.#directory}: another run saved ${newest} meanwhile`);
    }
    await this.#ready(async () => {
      await this.#clearUp(await this.#files.readDirectory(this.#directory));
      await this.#probe();
    });
    this.#isReady = true;
  }

  /** Makes and removes a directory, so that one that cannot be written to is refused at once. */
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

  /** Makes room where an earlier save or deletion of ours failed. @throws PodError where something else lies. */
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

  /** A name for a new checkpoint. One of the same step that is there was refused, and keeps its name. */
  async #freeName(step: number): Promise<string> {
    const [newest] = await this.#namesOf(step);
    return newest === undefined
      ? checkpointName(step)
      : checkpointName(step, (parseName(newest)?.copy ?? 0) + 1);
  }

  async #namesOf(step: number): Promise<readonly string[]> {
    return (await this.list()).filter((name) => stepOf(name) === step);
  }

  /** Deletes whole checkpoints of a run but the newest `keep`; bad ones and those of others stay. */
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

  /** After a failure that is being reported already: what cannot be removed now is at the next opening. */
  async #clearAway(name: string): Promise<void> {
    try {
      await this.#removeOurs(name);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }

  /**
   * Removes what interrupted saves and deletions left; older versions also replaced checkpoints. All
   * that others may have made stays, whatever its name.
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

  /** Whether this is what a save makes: a directory, not a link to one, with files of a checkpoint alone. */
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

  /** Removes a directory that a save made; anything else stays. */
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

/** Names in a directory; undefined when it is not there. */
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

/** The outcome of `work` on a checkpoint, or why it failed; `gone` if the checkpoint was deleted meanwhile. */
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
