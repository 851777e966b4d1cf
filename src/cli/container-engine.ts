import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Docker, DockerCli, isMissingDocker } from '../../cluster/containers/docker.ts';
import { composeFile } from '../../cluster/containers/project.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import type { Settings } from './settings/merge.ts';

/**
 * Returns the folder with the compose file of the pod: the clone of the repository to which this
 * program belongs.
 *
 * @throws PodError `bad-config` if the program does not lie in a clone.
 */
export function composeFolder(): string {
  const parents = ['../../..', '../..'].map((it) =>
    resolve(fileURLToPath(new URL('.', import.meta.url)), it),
  );
  const found = parents.find((it) => existsSync(resolve(it, composeFile)));
  if (found !== undefined) return found;
  throw new PodError(
    'bad-config',
    `--ground containers: expected ${composeFile} in ${parents[0]}, found none; run pod from a clone of the repository`,
  );
}

/**
 * Checks that a run with these settings can be trained in containers: that it does not continue an
 * earlier run, and that Docker, Compose and the image of the pod are there.
 *
 * @throws PodError `bad-config` for the settings or if there is no image, `io` if Docker or Compose
 * cannot run.
 */
export async function checkContainers(
  settings: Settings,
  docker: Docker = new DockerCli(),
): Promise<void> {
  const resume = settings.ask('resume');
  if (resume?.value === true) {
    const expected = 'a new run, because the containers do not see earlier checkpoints';
    throw new PodError('bad-config', `${resume.origin}: expected ${expected}; leave it out`);
  }
  const folder = composeFolder();
  const image = await imageOf(docker, folder);
  try {
    await docker.run(['image', 'inspect', '--format', '{{.Id}}', image]);
  } catch (error) {
    if (!/no such image/i.test(messageOf(error))) throw error;
    throw imageError(folder, `image ${image}: expected the image of the pod, found none`);
  }
}

/** Returns an error that says how to build the image. */
export function imageError(folder: string, what: string): PodError {
  return new PodError('bad-config', `${what}; build it: cd ${folder} && docker compose build`);
}

/** Returns the name of the image in the compose file. */
async function imageOf(docker: Docker, folder: string): Promise<string> {
  const words = ['--project-directory', folder, '--file', resolve(folder, composeFile)];
  try {
    const env = { COMPOSE_PROFILES: 'job' };
    const text = await docker.run(['compose', ...words, 'config', '--images'], { env });
    return text.split('\n')[0] ?? '';
  } catch (error) {
    if (isMissingDocker(error)) throw error;
    throw new PodError('io', `${messageOf(error)}; --ground containers needs Compose v2`, error);
  }
}
