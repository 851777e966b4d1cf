import { openCheckpoints } from '../../src/experiment/checkpoint/checkpoints.ts';
import type { CheckpointPlan } from '../../src/experiment/checkpoint/keeper.ts';
import type { OpenedRun } from '../../src/experiment/open-run.ts';
import type { Programs } from '../../src/experiment/programs.ts';
import type { RunKey } from '../../src/experiment/same-run.ts';
import { dueInMaster, Injector, type Ledger, type Point } from '../../src/fault/injector.ts';
import { type DiskFault, type Fault, isDiskFault, type MasterFault } from '../../src/fault/plan.ts';
import { assert, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { isFinal } from '../final.ts';
import { type CommitLog, openCommitLog } from '../master/commit-log.ts';
import { endInLog, type LoggedWorld, recordFailure, trainLogged } from '../master/logged-run.ts';
import type { Agenda } from './agenda.ts';
import type { Disk } from './disk.ts';
import type { Network } from './network.ts';
import { paths } from './paths.ts';
import { openSimulatedPod } from './pod.ts';
import { Killed, Process } from './process.ts';
import type { SimulationRecord } from './record.ts';
import { drawn, type SimulatedTimes } from './times.ts';
import type { Waiting } from './waiting.ts';
import type { Workers } from './workers.ts';

/** What the masters of a run have in common. */
export interface MastersParts {
  readonly opened: OpenedRun;
  /** Identifies the run in its commit log. */
  readonly key: RunKey;
  readonly programs: Programs;
  /** Number of steps from one checkpoint to the next; undefined for a run without checkpoints. */
  readonly checkpointEvery: number | undefined;
  /** Number of checkpoints to keep. */
  readonly checkpointsKept: number;
  readonly faults: readonly Fault[];
  readonly ledger: Ledger;
  readonly agenda: Agenda;
  readonly waiting: Waiting;
  readonly network: Network;
  readonly workers: Workers;
  readonly disk: Disk;
  readonly times: SimulatedTimes;
  readonly random: () => number;
  readonly record: SimulationRecord;
}

interface Master {
  readonly number: number;
  readonly process: Process;
}

/** How a master ended. */
type MasterEnd =
  | { readonly kind: 'done' | 'killed' }
  | { readonly kind: 'failed'; readonly error: PodError };

/**
 * Largest number of masters that may end in succession without a committed step. When a further
 * master fails, the run fails: a human operator would give up, too.
 */
const futileMax = 300;

/**
 * The masters of a simulated run. Usually they run one after another; a fault can make two run at
 * the same time. Each runs the same code as a master of a real pod: the commit log, the
 * checkpoints, `train` and the driver. Another master follows if a master was killed, or ended with
 * an error that may go away.
 */
export class Masters {
  readonly #parts: MastersParts;
  /** Faults that take effect when a master commits a step or saves a checkpoint. */
  readonly #injector: Injector;
  readonly #living: Set<Master> = new Set();
  #newest: Master | undefined;
  #count = 0;
  /** Number of masters that have ended since the last commit. */
  #futile = 0;
  /** End of the run; undefined while the run goes on. */
  #end: Exclude<MasterEnd, { readonly kind: 'killed' }> | undefined;
  #resolve: () => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor(parts: MastersParts) {
    this.#parts = parts;
    this.#injector = new Injector(dueInMaster(parts.faults), parts.ledger);
  }

  /**
   * Trains and evaluates. Resolves when all masters have ended. The value is the error if the run
   * has failed, and undefined if the run is done.
   */
  async run(): Promise<PodError | undefined> {
    await new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#begin();
    });
    return this.#end?.kind === 'failed' ? this.#end.error : undefined;
  }

  /**
   * Begins a fault of the master or of its disk. Called when a worker has reached the point of the
   * step for which the plan sets the fault.
   */
  disturb(fault: MasterFault | DiskFault): void {
    // A worker's code has called this method, and the fault may end this worker. So the fault takes
    // effect in an event of its own, at the same virtual time, after the worker's code has
    // returned.
    this.#parts.agenda.after(0, () => this.#inject(fault, this.#newest));
  }

  /** Ends all masters, because their machine has lost power. */
  losePower(): void {
    for (const { process } of this.#living) process.kill();
  }

  // ------------------------------------------------------------------------------------- masters

  #begin(): void {
    const { agenda, waiting, record } = this.#parts;
    this.#count++;
    const process = new Process(agenda, () => waiting.touch());
    const master: Master = { number: this.#count, process };
    this.#newest = master;
    this.#living.add(master);
    record.log({ event: 'master-began', master: master.number });
    waiting.touch();
    this.#lead(master)
      .then((end) => this.#ended(master, end))
      .catch((error: unknown) => {
        waiting.touch();
        this.#reject(error);
      });
  }

  #lead(master: Master): Promise<MasterEnd> {
    const killed = master.process.killed.then((): MasterEnd => ({ kind: 'killed' }));
    return Promise.race([killed, this.#run(master)]);
  }

  async #run(master: Master): Promise<MasterEnd> {
    try {
      await this.#train(master);
      return { kind: 'done' };
    } catch (error) {
      if (master.process.isOver) return { kind: 'killed' };
      if (!(error instanceof PodError)) throw error;
      return { kind: 'failed', error };
    }
  }

  #ended(master: Master, end: MasterEnd): void {
    const { record, workers, waiting } = this.#parts;
    const { number, process } = master;
    process.end();
    workers.endGuestsOf(process);
    this.#living.delete(master);
    const how = end.kind === 'failed' ? end.error.code : end.kind;
    record.log({ event: 'master-ended', master: number, how });
    if (master === this.#newest) this.#follow(master, end);
    if (this.#end !== undefined && this.#living.size === 0) this.#resolve();
    waiting.touch();
  }

  /** Called when the newest master has ended. Ends the run, or begins another master later. */
  #follow(master: Master, end: MasterEnd): void {
    const { agenda, times, random } = this.#parts;
    this.#futile++;
    const isGivenUp = this.#futile > futileMax;
    if (end.kind === 'done' || (end.kind === 'failed' && (isGivenUp || isFinal(end.error)))) {
      this.#end = end;
      return;
    }
    assert(!isSuperseded(end), 'a master that leads the run was superseded');
    agenda.after(drawn(times.restart, random), () => {
      if (master === this.#newest) this.#begin();
    });
  }

  // ------------------------------------------------------------------------------------ training

  async #train(master: Master): Promise<void> {
    const { key, disk, record } = this.#parts;
    const commits = openCommitLog(paths.log, key, disk.commitFilesOf(master.process));
    record.found(commits.past().history);
    try {
      if (endInLog(commits) === undefined) await this.#continue(master, commits);
    } catch (error) {
      recordFailure(commits, error);
      throw error;
    }
  }

  async #continue(master: Master, commits: CommitLog): Promise<void> {
    const { opened, programs, agenda, record, waiting } = this.#parts;
    const { process } = master;
    await trainLogged(opened.config, {
      ...{ opened, programs, now: () => agenda.nowMs, began: () => undefined },
      commits: this.#withPoints(master, commits),
      plan: await this.#plan(master),
      tell: (event) => {
        if (process.isOver) return;
        if (event.kind === 'step') this.#futile = 0;
        record.told(event);
        waiting.progressed();
      },
      openPod: (options, keepsWorkers) =>
        openSimulatedPod(options, {
          ...this.#parts,
          ...{ ...master, keepsWorkers },
          log: (event) => record.log(event),
          onCommit: (commit) => record.ran(commit),
        }),
    });
  }

  /**
   * Returns the commit log with one change: before each commit, faults that are set for it take
   * effect.
   */
  #withPoints(master: Master, commits: CommitLog): LoggedWorld['commits'] {
    return {
      past: () => commits.past(),
      beginGeneration: (generation) => commits.beginGeneration(generation),
      commit: (step, generation) => {
        this.#reach(master, { kind: 'step', step: step.step, phase: 'commit' });
        commits.commit(step, generation);
      },
      finish: (report) => commits.finish(report),
    };
  }

  /**
   * Returns how and when checkpoints are saved; undefined for a run without checkpoints. Before
   * each checkpoint is saved, faults that are set for this moment take effect.
   */
  async #plan(master: Master): Promise<CheckpointPlan | undefined> {
    const { checkpointEvery: every, checkpointsKept: keep, disk } = this.#parts;
    if (every === undefined) return undefined;
    const { process } = master;
    const checkpoints = await openCheckpoints(paths.checkpoints, {
      ...{ keep, files: disk.filesOf(process), lock: (path) => disk.lock(process, path) },
    });
    return {
      ...{ every, resume: false },
      checkpoints: {
        list: () => checkpoints.list(),
        latest: (stepMost) => checkpoints.latest(stepMost),
        has: (step) => checkpoints.has(step),
        begin: () => checkpoints.begin(),
        save: async (snapshot) => {
          this.#reach(master, { kind: 'step', step: snapshot.step, phase: 'checkpoint' });
          return checkpoints.save(snapshot);
        },
        close: () => checkpoints.close(),
      },
    };
  }

  // -------------------------------------------------------------------------------------- faults

  /**
   * Called when a master is about to commit a step or to save a checkpoint. Lets the faults that
   * are set for this point take effect. Throws {@link Killed} if one of them has killed the master.
   */
  #reach(master: Master, point: Point): void {
    for (const { fault } of this.#injector.reached(point)) {
      this.#inject(fault as MasterFault | DiskFault, master);
    }
    if (master.process.isOver) throw new Killed();
  }

  /**
   * Lets a fault take effect. If the fault kills, pauses or cuts off a master, it does so to
   * `master`.
   */
  #inject(fault: MasterFault | DiskFault, master: Master | undefined): void {
    if (this.#end !== undefined) return;
    if (isDiskFault(fault)) {
      this.#parts.disk.begin(fault);
      return;
    }
    switch (fault.fault) {
      case 'master-kill':
        if (master !== undefined && this.#living.has(master)) master.process.kill();
        break;
      case 'master-pause':
        master?.process.pause(microseconds(fault.for.ms));
        break;
      case 'master-cut-off':
        master?.process.cutOff(microseconds(fault.for.ms));
        break;
      case 'second-master':
        this.#begin();
        break;
      default:
        unreachable(fault);
    }
  }
}

function isSuperseded(end: MasterEnd): boolean {
  return end.kind === 'failed' && end.error.code === 'superseded';
}

function microseconds(ms = 0): number {
  return Math.round(1000 * ms);
}
