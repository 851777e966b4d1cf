import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerFaults } from '../../cluster/containers/container-faults.ts';
import { type Docker, DockerCli } from '../../cluster/containers/docker.ts';
import type { PodContainer } from '../../cluster/containers/held-container.ts';
import {
  checkpointsPath,
  containersOf,
  type Project,
  sharedPath,
  startProject,
  takeDown,
} from '../../cluster/containers/project.ts';
import { hasGreeting } from '../../cluster/containers/request.ts';
import { ownIdentity } from '../../cluster/host/process-identity.ts';
import { lastErrorAmong } from '../../cluster/process/last-error.ts';
import type { FaultFile } from '../../cluster/runtime/fault-file.ts';
import type { Fault } from '../fault/plan.ts';
import type { SeenEvent } from '../fault/seen.ts';
import type { Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { runFiles } from '../run/files.ts';
import { type Guard, startGuard } from './chaos-guard.ts';
import { hasBegun, observationAfter } from './chaos-observation.ts';
import { composeFolder, imageError } from './container-engine.ts';
import { withEndSignal } from './end-signal.ts';
import { withOwnFolder } from './own-folder.ts';
import { RecordCopy } from './record-copy.ts';
import { Follower } from './record-follower.ts';
import type { Settings } from './settings/merge.ts';
import { pathsOf, withAbsolutePaths } from './settings/paths.ts';
import { askedSize, defaultTopology, tpusOf } from './settings/size.ts';
import { joinWords, wordsOf } from './settings/words.ts';

/** What a run in containers needs from the machine. Tests replace it. */
export interface ContainerWorld {
  readonly docker: Docker;
  readonly guard: Guard;
  /** Folder with the compose file. */
  readonly folder: string;
}

/**
 * Trains in containers of the shipped compose file, with the given faults, and reads what happened
 * from the record of the run. Tells the events of the run while it goes on. Nothing is left
 * afterwards, however the run ends.
 *
 * @throws PodError if the run fails before its first step. `Interrupted` if a signal asked this process to end.
 */
export async function inContainers(
  settings: Settings,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
  makeWorld: () => ContainerWorld = realWorld,
): Promise<Observation> {
  const world = makeWorld();
  try {
    return await withOwnFolder('chaos', (folder) =>
      withEndSignal((signal) =>
        new ContainerRun(world, folder, settings, faults, tell).run(signal),
      ),
    );
  } finally {
    world.guard.end();
  }
}

function realWorld(): ContainerWorld {
  const folder = composeFolder();
  const guard = startGuard();
  return { docker: new DockerCli((pid) => guard.note(pid)), guard, folder };
}

/** Time, in ms, between two looks for requests of workers. */
const requestMs = 20;
/** Longest time, in ms, from the start of the containers until the first step. */
const readyMsLimit = 240_000;

/** One run in containers, from the start of the containers to their removal. */
class ContainerRun {
  readonly #world: ContainerWorld;
  readonly #project: Project;
  readonly #faults: readonly Fault[];
  readonly #override: string;
  readonly #ledger: string;
  readonly #copy: RecordCopy;
  readonly #follower: Follower;

  constructor(
    world: ContainerWorld,
    folder: string,
    settings: Settings,
    faults: readonly Fault[],
    tell: (event: SeenEvent) => void,
  ) {
    const shared = join(folder, 'shared');
    const record = makeShared(shared, faults);
    this.#world = world;
    this.#faults = faults;
    this.#override = join(folder, 'override.yml');
    this.#ledger = join(shared, 'injected');
    this.#copy = new RecordCopy(record, settings.get('run'));
    this.#follower = new Follower(join(record, runFiles.events), tell, this.#copy.append);
    this.#project = projectOf(world.folder, shared, settings);
  }

  async run(signal: Promise<never>): Promise<Observation> {
    const { docker } = this.#world;
    const { name } = this.#project;
    let injected: ContainerFaults | undefined;
    let isInOrder = false;
    try {
      const started = startProject(docker, this.#project, this.#override);
      started.catch(() => undefined);
      await Promise.race([started, signal]);
      const containers = await containersOf(docker, name);
      injected = new ContainerFaults({
        ...{ docker, containers, faults: this.#faults, folder: this.#project.shared },
      });
      const { master } = injected;
      const code = await this.#untilEnd(injected, master, signal);
      const seen = await this.#observed(code, master);
      isInOrder = true;
      return seen;
    } finally {
      if (!isInOrder) docker.abandon();
      await injected?.end();
      await takeDown(docker, name, isInOrder ? 1 : 3);
    }
  }

  /** Injects faults and tells events until the master has ended. Returns its exit code. */
  async #untilEnd(
    injected: ContainerFaults,
    master: PodContainer,
    signal: Promise<never>,
  ): Promise<number> {
    const ended = this.#endOf(injected, master);
    ended.catch(() => undefined);
    const startMs = performance.now();
    for (;;) {
      injected.look();
      injected.check();
      this.#follower.look();
      this.#checkBegin(performance.now() - startMs);
      const code = await Promise.race([ended, sleep(requestMs), signal]);
      if (code !== undefined) return code;
    }
  }

  /** Waits until the master's container has ended for another reason than a fault. */
  async #endOf(injected: ContainerFaults, { id }: PodContainer): Promise<number> {
    for (;;) {
      const options = { limitMs: Number.POSITIVE_INFINITY };
      const code = Number(await this.#world.docker.run(['wait', id], options));
      if (!injected.isMasterDown) return code;
      while (injected.isMasterDown) await sleep(requestMs);
    }
  }

  /** Checks that the workers take part in the run with faults, and that the run begins in time. */
  #checkBegin(passedMs: number): void {
    const { folder } = this.#world;
    if (!hasBegun(this.#follower.told)) {
      if (passedMs < readyMsLimit) return;
      const limit = `${readyMsLimit / 1000} s`;
      const what = `expected ${this.#project.tpus} Cloud TPUs to be ready within ${limit}`;
      throw new PodError('worker-silent', `--ground containers: ${what}; use fewer Cloud TPUs`);
    }
    if (this.#faults.length === 0 || hasGreeting(this.#project.shared)) return;
    throw imageError(folder, 'the image of the pod: expected one of this version, found another');
  }

  async #observed(code: number, { id }: PodContainer): Promise<Observation> {
    this.#follower.look();
    this.#copy.end();
    const complaint = code === 0 ? '' : await this.#complaintOf(id, code);
    const { told } = this.#follower;
    return observationAfter({ code, complaint }, told, this.#ledger, 'the master in its container');
  }

  /** Returns the last error in the log of the master. */
  async #complaintOf(id: string, code: number): Promise<string> {
    const log = await this.#world.docker.run(['logs', '--tail', '200', id]);
    return lastErrorAmong(log.split('\n'))?.message ?? `exit code ${code}`;
  }
}

/**
 * Makes the folder that the containers share with this process. The user of the containers, another
 * one than that of this process, may write to it. Returns the folder of the record in it.
 */
function makeShared(shared: string, faults: readonly Fault[]): string {
  const record = join(shared, 'run');
  for (const folder of [shared, record]) {
    mkdirSync(folder);
    chmodSync(folder, 0o777);
  }
  const file: FaultFile = { faults, ledger: `${sharedPath}/injected`, requests: sharedPath };
  writeFileSync(join(shared, 'faults.json'), JSON.stringify(file), { mode: 0o644 });
  return record;
}

function projectOf(folder: string, shared: string, settings: Settings): Project {
  const inContainer = withAbsolutePaths(settings, process.cwd());
  const inputs = pathsOf(inContainer)
    .filter(({ key }) => key === 'data' || key === 'startFrom')
    .map(({ path }) => resolve(path))
    .filter((path) => existsSync(path));
  const checkpoint = settings.ask('checkpoint');
  const placed = inContainer.with('run', `${sharedPath}/run`, '--ground containers');
  const moved =
    checkpoint === undefined
      ? placed
      : placed.with('checkpoint', checkpointsPath, checkpoint.origin);
  return {
    ...{ name: `pod-chaos-${process.pid}-${randomBytes(4).toString('hex')}`, folder, shared },
    ...{ runner: ownIdentity(), inputs, args: joinWords(wordsOf(moved)) },
    tpus: tpusOf(askedSize(settings)?.topology ?? defaultTopology),
  };
}
