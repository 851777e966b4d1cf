import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Docker, DockerCli, isMissingDocker } from '../../cluster/containers/docker.ts';
import { findProjects } from '../../cluster/containers/leftover.ts';
import { type Removed, takeDown } from '../../cluster/containers/project.ts';
import { isAlive, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { processesOfFolder } from '../../cluster/process/of-folder.ts';
import { PodError } from '../numerics/error.ts';
import { down } from './down.ts';
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
  try {
    say(await down(pod));
  } catch (error) {
    // The folder may have no pod, or one that was only being started.
    if (!(error instanceof PodError)) throw error;
  }
  const left = processesOfFolder(pod);
  if (left.length > 0) {
    const pids = left.map(({ pid }) => pid).join(', ');
    throw new PodError('io', `${pod}: the processes ${pids} did not end; end them (kill -9)`);
  }
  rmSync(path, { recursive: true, force: true });
  say(`${path}: removed (runner ${owner.pid} has ended)`);
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
