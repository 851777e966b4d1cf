import { expect, test } from 'vitest';
import { DockerCli } from '../../cluster/containers/docker.ts';
import { checkContainers } from '../../src/cli/container-engine.ts';
import { mergeSettings } from '../../src/cli/settings/merge.ts';
import { sourceOfFlags } from '../../src/cli/settings/source.ts';
import { FakeDocker } from '../cluster/containers/fake-docker.ts';

const settings = mergeSettings('up', [sourceOfFlags({ tpus: '2' })]);

/** An engine that answers the questions about the image, or refuses one of them. */
function engine(refused?: string, why = ''): FakeDocker {
  return new FakeDocker({
    answers: (command) => (command.includes('--images') ? 'an-image\n' : 'sha256:1\n'),
    refuses: (command) =>
      refused !== undefined && command.startsWith(refused) ? new Error(why) : undefined,
  });
}

test('a machine with Docker, Compose and the image is right', async () => {
  await checkContainers(settings, engine());
});

test('a missing image is named, with the command that builds it', async () => {
  await expect(
    checkContainers(settings, engine('image', 'Error: No such image: an-image')),
  ).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringMatching(/^image an-image: .*build it: cd \S+ && docker compose build$/),
  });
});

test('an engine that does not run and a missing Compose are told as Docker tells them', async () => {
  const refused = checkContainers(settings, engine('image', 'Cannot connect to the daemon'));
  await expect(refused).rejects.toThrow('Cannot connect to the daemon');
  const without = checkContainers(settings, engine('compose', "'compose' is not a docker command"));
  await expect(without).rejects.toMatchObject({
    exitCode: 5,
    message: "'compose' is not a docker command; --ground containers needs Compose v2",
  });
});

test('a missing Docker is told in one line with what to do', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nowhere';
  try {
    await expect(checkContainers(settings, new DockerCli())).rejects.toMatchObject({
      exitCode: 5,
      message:
        'docker compose: expected the program docker, found none; install Docker with Compose v2',
    });
  } finally {
    process.env['PATH'] = path;
  }
});

test('a run that continues an earlier one is refused', async () => {
  const resumed = settings.with('resume', true, 'run.resume');
  await expect(checkContainers(resumed, engine())).rejects.toThrow(
    /^run\.resume: expected a new run, because/,
  );
});
