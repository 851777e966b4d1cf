import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PodError } from '../../src/numerics/error.ts';
import type { ProcessIdentity } from '../host/process-identity.ts';
import { faultsVariable } from '../runtime/fault-file.ts';
import type { Docker } from './docker.ts';
import type { PodContainer } from './held-container.ts';

/**
 * Label of all containers, networks and volumes of a run. The value of the label identifies the
 * process of the command `pod chaos run`: process id and start time.
 */
export const runnerLabel = 'tpu-pod.chaos.runner';

/** Path, inside each container, of the folder that it shares with the command `pod chaos run`. */
export const sharedPath = '/chaos';
/** Folder inside the containers for the checkpoints of the run: a part of the pod's volume. */
export const checkpointsPath = '/data/checkpoints';

/** A pod of containers of a run with faults. */
export interface Project {
  /** Name of the Compose project. It begins with `pod-chaos-`. */
  readonly name: string;
  /** Folder with the compose file. */
  readonly folder: string;
  readonly runner: ProcessIdentity;
  /** Folder of this machine that the containers share with the command `pod chaos run`. */
  readonly shared: string;
  /** Files and folders of this machine that the containers see at the same path, to read them. */
  readonly inputs: readonly string[];
  readonly tpus: number;
  /** Flags of the run, as one line. */
  readonly args: string;
}

/** Name of the compose file in the folder of a {@link Project}. */
export const composeFile = 'docker-compose.yml';

/** Returns the value of the label {@link runnerLabel}. */
export function labelOf({ pid, start }: ProcessIdentity): string {
  return `${pid} ${start}`;
}

/**
 * Starts the containers of a pod. `override` is the path of a file to write, which adds to the
 * compose file what a run with faults needs.
 */
export async function startProject(
  docker: Docker,
  project: Project,
  override: string,
): Promise<void> {
  writeFileSync(override, JSON.stringify(overrideOf(project)));
  const { name, folder, tpus, args } = project;
  const files = ['--file', join(folder, composeFile), '--file', override];
  const place = ['--project-name', name, '--project-directory', folder, ...files];
  const env = {
    ...{ COMPOSE_PROFILES: 'job', TPUS: `${tpus}`, POD_ARGS: args },
    ...{ POD_LOG_FORMAT: 'json', POD_RESTARTS: '100', POD_MASTER_RESTARTS: '100' },
  };
  const up = ['up', '--detach', '--no-build', '--pull', 'never', '--quiet-pull'];
  await docker.run(['compose', ...place, ...up], { env, limitMs: 300_000 });
}

/** Returns the compose file that is merged with the shipped one. JSON is YAML too. */
function overrideOf({ runner, shared, inputs }: Project): object {
  const labels = { [runnerLabel]: labelOf(runner) };
  const folders = [
    { type: 'bind', source: literal(shared), target: sharedPath },
    ...inputs.map((path) => {
      const place = { source: literal(path), target: literal(path) };
      return { type: 'bind', ...place, read_only: true };
    }),
  ];
  const environment = { [faultsVariable]: `${sharedPath}/faults.json` };
  const worker = { labels, environment, volumes: folders };
  return {
    services: { master: { labels, volumes: folders }, tpu: worker, spare: worker },
    networks: { ici: { labels } },
    volumes: { token: { labels }, checkpoints: { labels } },
  };
}

/** Returns a text with each `$` doubled, so that Compose replaces no variable in it. */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$');
}

/** Returns the containers of a pod, with their names in its networks. */
export async function containersOf(docker: Docker, name: string): Promise<readonly PodContainer[]> {
  const ids = linesOf(await docker.run(listContainers(name)));
  if (ids.length === 0)
    throw new PodError('io', `docker: expected containers of ${name}, found none`);
  const service = '{{index .Config.Labels "com.docker.compose.service"}}';
  const format = `{{.Id}} ${service} {{json .NetworkSettings.Networks}}`;
  return linesOf(await docker.run(['inspect', '--format', format, ...ids])).map((line) => {
    const [id = '', of = '', ...rest] = line.split(' ');
    const networks = JSON.parse(rest.join(' ')) as Record<string, { Aliases: string[] | null }>;
    const aliases = Object.entries(networks).map(([network, { Aliases }]) => [
      network,
      Aliases ?? [],
    ]);
    return { id, service: of, aliases: Object.fromEntries(aliases) };
  });
}

function listContainers(name: string): readonly string[] {
  return ['ps', '--all', '--quiet', '--no-trunc', ...ofProject(name)];
}

function ofProject(name: string): readonly string[] {
  return ['--filter', `label=com.docker.compose.project=${name}`];
}

/** What was removed of a project. */
export interface Removed {
  readonly containers: number;
  readonly paused: number;
  readonly networks: number;
  readonly volumes: number;
}

/** How often {@link takeDown} removes what it finds until it gives up. */
const triesMax = 20;
/** Time, in ms, between two tries. */
const tryMs = 300;

/**
 * Removes all containers, networks and volumes of a project, until nothing was found `looks` times
 * in a row. A command that failed is tried again, because another process may remove the same
 * things. After a command that creates something was ended, Docker may still go on with it for a
 * moment; then one look does not suffice.
 *
 * @throws PodError `io` if something is left in the end.
 */
export async function takeDown(docker: Docker, name: string, looks = 1): Promise<Removed> {
  let removed: Removed = { containers: 0, paused: 0, networks: 0, volumes: 0 };
  let failure: unknown;
  for (let tries = 0, calm = 0; tries < triesMax; tries++) {
    const found = await leftOf(docker, name);
    calm = isNothing(found) ? calm + 1 : 0;
    if (calm === looks) return removed;
    try {
      await remove(docker, found);
      removed = sumOf(removed, found);
    } catch (error) {
      failure = error;
    }
    await sleep(tryMs);
  }
  throw failure ?? new PodError('io', `docker: something of ${name} is created again and again`);
}

/** Names of what is left of a project. */
interface Left {
  readonly containers: readonly string[];
  readonly paused: readonly string[];
  readonly networks: readonly string[];
  readonly volumes: readonly string[];
}

async function leftOf(docker: Docker, name: string): Promise<Left> {
  const filter = ofProject(name);
  const list = async (...words: readonly string[]): Promise<readonly string[]> =>
    linesOf(await docker.run(words));
  return {
    containers: await list(...listContainers(name)),
    paused: await list(...listContainers(name), '--filter', 'status=paused'),
    networks: await list('network', 'ls', '--quiet', ...filter),
    volumes: await list('volume', 'ls', '--quiet', ...filter),
  };
}

function isNothing({ containers, networks, volumes }: Left): boolean {
  return containers.length + networks.length + volumes.length === 0;
}

async function remove(
  docker: Docker,
  { containers, paused, networks, volumes }: Left,
): Promise<void> {
  const all = async (names: readonly string[], ...words: readonly string[]): Promise<void> => {
    if (names.length > 0) await docker.run([...words, ...names]);
  };
  await all(paused, 'unpause');
  await all(containers, 'rm', '--force', '--volumes');
  await all(networks, 'network', 'rm');
  await all(volumes, 'volume', 'rm', '--force');
}

function sumOf(before: Removed, { containers, paused, networks, volumes }: Left): Removed {
  return {
    containers: before.containers + containers.length,
    paused: before.paused + paused.length,
    networks: before.networks + networks.length,
    volumes: before.volumes + volumes.length,
  };
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line.trim() !== '');
}
