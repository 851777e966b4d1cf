import { stepOf, weightsFile } from '../../src/experiment/checkpoint/checkpoint.ts';
import {
  checkpointsAmong,
  type DirectoryLock,
} from '../../src/experiment/checkpoint/checkpoints.ts';
import type { FileSystem, Kind, NewFile } from '../../src/experiment/checkpoint/files.ts';
import { endOf, type IsOver } from '../../src/fault/duration.ts';
import type { DiskFault } from '../../src/fault/plan.ts';
import { unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { CommitFile, CommitFiles } from '../master/commit-files.ts';
import {
  afterPowerLoss,
  append,
  DiskTree,
  type MemoryFile,
  read,
  sync,
  syncedSurvives,
  systemError,
} from './disk-tree.ts';
import { Killed, type Process } from './process.ts';
import { drawn, type Range } from './times.ts';

/** What a disk needs to know of the simulation. */
export interface DiskWorld {
  /** Number of the step that the run is in, from 1. */
  readonly step: () => number;
  /** Virtual time, in ms. */
  readonly nowMs: () => number;
  /** Duration of an operation of a checkpoint. */
  readonly time: Range;
  readonly random: () => number;
  /** Ends all masters. Called when their machine has lost power. */
  readonly lostPower: () => void;
  /** Called when a fault has damaged the checkpoint of a step. */
  readonly damaged: (step: number) => void;
  /**
   * Called when the disk is about to resolve or reject a promise. The simulation then lets the code
   * that awaits the promise run before the next event.
   */
  readonly touch: () => void;
}

/**
 * Faults that have begun. A fault in `full` or `slow` lasts until its function `isOver` returns
 * true. Each of the other faults waits for an operation that it can spoil, spoils only this one,
 * and is then over.
 */
interface DiskFaults {
  readonly full: IsOver[];
  readonly slow: { readonly ms: number; readonly isOver: IsOver }[];
  tearsWrite: boolean;
  losesRename: boolean;
  damagesCheckpoint: boolean;
}

/**
 * Disk of the machine of the masters, in memory. It outlives the masters. Operations of a commit
 * log are done at once; each operation of a checkpoint takes virtual time.
 */
export class Disk {
  readonly #tree: DiskTree;
  readonly #world: DiskWorld;
  readonly #checkpoints: string;
  /** Process that has locked the folder with the checkpoints; undefined if none has. */
  #holder: Process | undefined;
  readonly #faults: DiskFaults = {
    ...{ full: [], slow: [], tearsWrite: false, losesRename: false, damagesCheckpoint: false },
  };

  /**
   * `checkpoints` is the path of the folder with the checkpoints. `tree` contains all files of the
   * disk.
   */
  constructor(world: DiskWorld, checkpoints: string, tree: DiskTree = new DiskTree()) {
    this.#world = world;
    this.#checkpoints = checkpoints;
    this.#tree = tree;
  }

  /** Returns a copy of all files, as they would be after a loss of power. */
  get durable(): DiskTree {
    return new DiskTree(afterPowerLoss(this.#tree.root, syncedSurvives));
  }

  /** Lets a fault of a plan begin. */
  begin(fault: DiskFault): void {
    const { step, nowMs } = this.#world;
    const faults = this.#faults;
    switch (fault.fault) {
      case 'disk-full':
        faults.full.push(endOf(fault.for, step(), nowMs()));
        break;
      case 'slow-disk':
        faults.slow.push({ ms: fault.ms, isOver: endOf(fault.for, step(), nowMs()) });
        break;
      case 'torn-write':
        faults.tearsWrite = true;
        break;
      case 'lost-rename':
        faults.losesRename = true;
        break;
      case 'unreadable-checkpoint':
        faults.damagesCheckpoint = true;
        this.#mayDamage();
        break;
      default:
        unreachable(fault);
    }
  }

  /**
   * Returns the disk for the checkpoints of a process. Once the process has ended, the promises of
   * all calls stay pending.
   */
  filesOf(process: Process): FileSystem {
    const tree = this.#tree;
    const later = <T>(act: () => T): Promise<T> => this.#later(process, act);
    return {
      readDirectory: (path) => later(() => tree.readDirectory(path)),
      kindOf: (path) => later((): Kind | undefined => tree.kindOf(path)),
      readFile: (path, bytesMax) => later(() => tree.readFile(path, bytesMax)),
      makeDirectory: (path) => later(() => this.#makeDirectory(path)),
      createFile: (path) => later(() => this.#newFile(path, later)),
      rename: (from, to) => later(() => this.#rename(from, to)),
      removeFile: (path) => later(() => tree.removeFile(path)),
      removeDirectory: (path) => later(() => tree.removeDirectory(path)),
      syncDirectory: (path) => later(() => tree.syncDirectory(path)),
    };
  }

  /**
   * Returns the disk for the commit log of a process. After the end of the process every call
   * throws {@link Killed}.
   */
  commitFilesOf(process: Process): CommitFiles {
    const tree = this.#tree;
    const now = <T>(act: () => T): T => {
      if (process.isOver) throw new Killed();
      return act();
    };
    return {
      hasDirectory: (path) => now(() => tree.kindOf(path) === 'directory'),
      makeDirectory: (path) =>
        now(() => {
          if (tree.kindOf(path) === undefined) this.#makeDirectory(path);
        }),
      open: (path) => now(() => this.#commitFile(path, now)),
      syncDirectory: (path) => now(() => tree.syncDirectory(path)),
    };
  }

  /**
   * Locks a folder for a process. The lock ends with the process. Throws `in-use` if another
   * process has the lock.
   */
  lock(process: Process, path: string): DirectoryLock {
    const holder = this.#holder;
    if (holder !== undefined && holder !== process && !holder.isOver) {
      throw new PodError('in-use', `${path} is in use by another master`);
    }
    this.#holder = process;
    return {
      release: () => {
        if (this.#holder === process) this.#holder = undefined;
      },
    };
  }

  #commitFile(path: string, now: <T>(act: () => T) => T): CommitFile {
    const file = this.#tree.openFile(path);
    return {
      size: () => now(() => file.bytes.length),
      read: (target, position) => now(() => read(file, target, position)),
      append: (bytes) => now(() => this.#write(file, path, bytes)),
      sync: () => now(() => sync(file)),
      close: () => undefined,
    };
  }

  #newFile(path: string, later: <T>(act: () => T) => Promise<T>): NewFile {
    this.#needRoom('open', path);
    const file = this.#tree.createFile(path);
    return {
      write: (bytes) => later(() => this.#write(file, path, bytes)),
      sync: () => later(() => sync(file)),
      close: () => later(() => undefined),
    };
  }

  #makeDirectory(path: string): void {
    this.#needRoom('mkdir', path);
    this.#tree.makeDirectory(path);
  }

  #write(file: MemoryFile, path: string, bytes: Uint8Array): number {
    this.#needRoom('write', path);
    if (this.#faults.tearsWrite) {
      this.#faults.tearsWrite = false;
      // If all earlier bytes of the file are synced, half of the new bytes survive. Otherwise only
      // the synced bytes survive.
      const isSynced = file.durable.length === file.bytes.length;
      append(file, bytes.subarray(0, bytes.length >> 1));
      if (isSynced) sync(file);
      this.#losePower();
    }
    append(file, bytes);
    return bytes.length;
  }

  #rename(from: string, to: string): void {
    this.#tree.rename(from, to);
    if (this.#faults.losesRename) {
      this.#faults.losesRename = false;
      this.#losePower();
    }
    this.#mayDamage();
  }

  /** Loses what was not synced. Throws {@link Killed}, because no master outlives the loss. */
  #losePower(): never {
    this.#tree.root = this.durable.root;
    this.#world.lostPower();
    throw new Killed();
  }

  /** Throws ENOSPC while the disk is full. */
  #needRoom(syscall: string, path: string): void {
    const { step, nowMs } = this.#world;
    if (this.#faults.full.some((isOver) => !isOver(step(), nowMs()))) {
      throw systemError('ENOSPC', syscall, path);
    }
  }

  /**
   * If a fault is waiting to damage a checkpoint and a checkpoint exists, changes a byte of the
   * newest checkpoint.
   */
  #mayDamage(): void {
    if (!this.#faults.damagesCheckpoint) return;
    const folder = this.#tree.node(this.#checkpoints);
    const names = folder?.kind === 'directory' ? [...folder.entries.keys()] : [];
    const [newest] = checkpointsAmong(names);
    if (newest === undefined) return;
    const file = this.#tree.node(`${this.#checkpoints}/${newest}/${weightsFile}`);
    if (file?.kind !== 'file') return;
    this.#faults.damagesCheckpoint = false;
    const damaged = file.bytes.slice();
    damaged[damaged.length - 1]! ^= 1;
    file.bytes = damaged;
    sync(file);
    this.#world.damaged(stepOf(newest) ?? 0);
  }

  /** Does an operation of a checkpoint, which takes virtual time. */
  #later<T>(process: Process, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      process.after(drawn(this.#world.time, this.#world.random) + this.#slowUs(), () => {
        this.#world.touch();
        try {
          resolve(act());
        } catch (error) {
          if (!(error instanceof Killed)) reject(error);
        }
      });
    });
  }

  /** Time, in microseconds, by which slow disks make an operation longer. */
  #slowUs(): number {
    const { step, nowMs } = this.#world;
    const slow = this.#faults.slow.filter(({ isOver }) => !isOver(step(), nowMs()));
    return slow.reduce((sum, { ms }) => sum + Math.round(1000 * ms), 0);
  }
}
