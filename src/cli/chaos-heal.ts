import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Docker, DockerCli, isMissingDocker } from '../../cluster/containers/docker.ts';
import { findProjects } from '../../cluster/containers/leftover.ts';
import { type Removed, takeDown } from '../../cluster/containers/project.ts';
import { holdingProcess } from '../../cluster/host/lock.ts';
import { isAlive, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { processesOfFolder } from '../../cluster/process/of-folder.ts';
import { readProcesses } from '../../cluster/process/spawn.ts';
import { endWorkers, signalTo, untilEnded } from '../../cluster/supervisor/supervisor.ts';
import { PodError } from '../numerics/error.ts';
import { type OwnFolder, ownFolders } from './own-folder.ts';

/** What {@link heal} cleans up, and how. */
export interface HealOptions {
  /** Runs Docker commands. Default: the Docker command line. */
  readonly docker?: Docker;
  /** True for a runner whose run is to be cleaned up. Default: each that has ended. */
  readonly isOf?: (runner: ProcessIdentity) => boolean;
  /** How often in a row nothing must be found; see `takeDown`. Default: 2. */
  readonly looks?: number;
  /** Receives a line for each thing that was done. */
  readonly say?: (line: string) => void;
}

/**
 * Lifts and removes what runs with faults have left whose runner has ended: containers with their
 * networks and volumes, processes, and temporary folders.
 *
 * @throws PodError if something could not be removed.
 */
export async function heal({
  docker = new DockerCli(),
  isOf = (runner) => !isAlive(runner),
  looks = 2,
  say = () => undefined,
}: HealOptions = {}): Promise<void> {
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failures.push(error);
    }
  };
  await attempt(async () => {
    for (const { name, runner } of await projectsIn(docker)) {
      if (!isOf(runner)) continue;
      await attempt(async () => {
        say(
          `${name}: ${inWords(await takeDown(docker, name, looks))} (runner ${runner.pid} has ended)`,
        );
      });
    }
  });
  for (const folder of ownFolders().filter(({ owner }) => isOf(owner))) {
    await attempt(() => removeFolder(folder, say));
  }
  if (failures.length > 0) throw failures[0];
}

/** Returns the projects of runs with faults. Without Docker there are none. */
async function projectsIn(docker: Docker): ReturnType<typeof findProjects> {
  try {
    return await findProjects(docker);
  } catch (error) {
    if (isMissingDocker(error)) return [];
    throw error;
  }
}

function inWords({ containers, paused, networks, volumes }: Removed): string {
  const parts = [
    ...(paused > 0 ? [`unpaused ${paused}`] : []),
    `removed ${containers} containers, ${networks} networks, ${volumes} volumes`,
  ];
  return parts.join(', ');
}

/** Ends the pod of processes in a temporary folder, if there is one, and removes the folder. */
async function removeFolder(
  { path, owner }: OwnFolder,
  say: (line: string) => void,
): Promise<void> {
  const pod = join(path, 'pod');
  const ended = existsSync(pod) ? await endPod(pod) : 0;
  rmSync(path, { recursive: true, force: true });
  const words = `${ended > 0 ? `ended ${ended} processes, ` : ''}removed`;
  say(`${path}: ${words} (runner ${owner.pid} has ended)`);
}

/** Longest time, in ms, for which a process may go on after SIGKILL. */
const killedMs = 5000;

/**
 * Ends all processes of the pod in a folder at once, because nobody needs their results. Returns how
 * many there were. A worker may stand still because of a fault, so it is not asked to end.
 */
export async function endPod(pod: string): Promise<number> {
  // The supervisor ends first, so that it does not start another master.
  const supervisor = holdingProcess(pod);
  signalTo(supervisor, 'SIGKILL');
  await untilEnded([supervisor], killedMs);
  const others = processesOf(pod);
  for (const it of others) signalTo(it, 'SIGKILL');
  await endWorkers(pod);
  const left = processesOf(pod).map(({ pid }) => pid);
  if (left.length === 0) return others.length + (supervisor === undefined ? 0 : 1);
  throw new PodError('io', `${pod}: the processes ${left.join(', ')} did not end after SIGKILL`);
}

/** Returns the masters and workers of the pod in a folder that are alive. */
function processesOf(pod: string): readonly ProcessIdentity[] {
  const found = new Map(processesOfFolder(pod).map((it) => [it.pid, it]));
  try {
    for (const it of readProcesses(pod)?.all ?? []) if (isAlive(it)) found.set(it.pid, it);
  } catch (error) {
    // A list that is damaged names no further processes.
    if (!(error instanceof PodError)) throw error;
  }
  return [...found.values()];
}

/** `pod chaos heal`: prints what was cleaned up. */
export async function healAll(): Promise<void> {
  let done = 0;
  const say = (line: string): void => {
    done++;
    process.stdout.write(`${line}\n`);
  };
  await heal({ say });
  if (done === 0) process.stdout.write('nothing is left of runs that have ended\n');
}
