import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { runnerLabel } from '../../cluster/containers/project.ts';
import { ownIdentity } from '../../cluster/host/process-identity.ts';
import { inContainers } from '../../src/cli/chaos-containers.ts';
import { Interrupted } from '../../src/cli/interrupted.ts';
import { mergeSettings, type Settings } from '../../src/cli/settings/merge.ts';
import { sourceOfFlags } from '../../src/cli/settings/source.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { runFiles } from '../../src/run/files.ts';
import { FakeDocker, type FakeOptions } from '../cluster/containers/fake-docker.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'in-containers-'));
  vi.stubEnv('TMPDIR', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const at = { step: 2 };
const kill: Fault = { fault: 'kill', tpu: 0, at };

/** What the master tells in the record of a run. */
const ready = { kind: 'ready', elapsedMs: 1 };
const note = {
  kind: 'note',
  note: {
    ...{ event: 'lost', generation: 1, program: 0, step: 1, tpu: 0 },
    ...{ cause: 'gone', elapsedMs: 0 },
  },
};

function tellEvents(shared: string, ...events: readonly object[]): void {
  const path = join(shared, 'run', runFiles.events);
  for (const [n, event] of events.entries()) {
    const line = { master: 0, time: 1000 + n, v: 1, n, generation: 1, ...event };
    appendFileSync(path, `${JSON.stringify(line)}\n`);
  }
}

/** A worker in a container that reaches the position of fault `index`. */
function askFor(docker: FakeDocker, shared: string, index: number): void {
  writeFileSync(join(shared, 'here-tpu'), '{}');
  const request = { index, host: docker.of('tpu').id.slice(0, 12) };
  writeFileSync(join(shared, `ask-${index}`), JSON.stringify(request));
}

const settings = (flags: Readonly<Record<string, string>> = {}): Settings =>
  mergeSettings('up', [sourceOfFlags({ tpus: '2', model: 'mlp', steps: '4', ...flags })]);

interface Ran {
  readonly docker: FakeDocker;
  readonly result: Promise<Awaited<ReturnType<typeof inContainers>>>;
  /** True if the guard was told that nothing is left. */
  isGuardOver: boolean;
}

function run(
  options: FakeOptions,
  faults: readonly Fault[] = [kill],
  tell: () => void = () => undefined,
  given = settings(),
): Ran {
  const docker = new FakeDocker(options);
  const guard = {
    note: () => undefined,
    end: () => {
      ran.isGuardOver = true;
    },
  };
  const world = { docker, guard, folder: '/clone' };
  const ran: Ran = {
    ...{ docker, isGuardOver: false },
    result: inContainers(given, faults, tell, () => world),
  };
  return ran;
}

/** Expects that nothing is left of a run: no container, network, volume, paused container, folder. */
function expectNothingLeft({ docker, isGuardOver }: Ran): void {
  expect(docker.isEmpty).toBe(true);
  expect(readdirSync(folder)).toEqual([]);
  expect(isGuardOver).toBe(true);
}

/** A run that ends right after its first fault. */
function short(docker: FakeDocker, shared: string, code = 0): void {
  askFor(docker, shared, 0);
  tellEvents(shared, ready, note);
  const timer = setInterval(() => {
    if (!existsSync(join(shared, 'done-0'))) return;
    clearInterval(timer);
    docker.exit('master', code);
  }, 5);
}

describe('a run in containers', () => {
  test('kills the container of the worker that asks, reads the record, and leaves nothing', async () => {
    let project: FakeDocker['project'];
    const ran = run({
      started(docker, shared) {
        project = docker.project;
        expect(JSON.parse(readFileSync(join(shared, 'faults.json'), 'utf8'))).toEqual({
          ...{ faults: [kill], ledger: '/chaos/injected', requests: '/chaos' },
        });
        writeFileSync(join(shared, 'injected'), '0 1001\n');
        short(docker, shared);
      },
    });
    const seen = await ran.result;
    expect(seen).toMatchObject({ outcome: 'done', injections: [{ index: 0, ms: 1001 }] });
    expect(seen.notes.map((it) => it.note.tpu)).toEqual([0]);
    const { pid, start } = ownIdentity();
    expect(project).toMatchObject({ label: `${pid} ${start}` });
    expect(runnerLabel).toBe('tpu-pod.chaos.runner');
    expect(ran.docker.commands.map((it) => it.split(' ')[0])).toEqual([
      'compose',
      'kill',
      'rm',
      'network',
      'volume',
    ]);
    expectNothingLeft(ran);
  });

  test('a master that a fault kills has not ended: the run goes on after its new start', async () => {
    const ran = run(
      {
        started(docker, shared) {
          askFor(docker, shared, 0);
          tellEvents(shared, ready);
          const timer = setInterval(() => {
            if (!docker.commands.includes('start master')) return;
            clearInterval(timer);
            docker.exit('master', 0);
          }, 5);
        },
      },
      [{ fault: 'master-kill', at }],
    );
    expect(await ran.result).toMatchObject({ outcome: 'done' });
    expectNothingLeft(ran);
  });

  test('a run that fails after its first step is a result, with the last error of the master', async () => {
    const ran = run({ started: (docker, shared) => short(docker, shared, 3) });
    expect(await ran.result).toMatchObject({ outcome: 'failed', message: 'the run failed' });
    expectNothingLeft(ran);
  });

  test('a master that refuses to run is an error', async () => {
    const ran = run({ started: (docker) => docker.exit('master', 2) });
    await expect(ran.result).rejects.toMatchObject({ code: 'bad-plan', message: /the run failed/ });
    expectNothingLeft(ran);
  });

  test('an image of another version is an error', async () => {
    const ran = run({ started: (_, shared) => tellEvents(shared, ready) });
    await expect(ran.result).rejects.toMatchObject({
      code: 'bad-config',
      message: expect.stringContaining('one of this version, found another; build it: cd /clone'),
    });
    expectNothingLeft(ran);
  });

  test('an error of the listener ends the run', async () => {
    const fails = (): void => {
      throw new Error('no more');
    };
    const ran = run({ started: short }, [kill], fails);
    await expect(ran.result).rejects.toThrow('no more');
    expectNothingLeft(ran);
  });

  test('a Docker command that fails ends the run, also the one that starts the containers', async () => {
    for (const command of ['kill tpu', 'compose']) {
      const refuses = (it: string): Error | undefined =>
        it.startsWith(command) ? new Error(`docker ${command}: no`) : undefined;
      const ran = run({ started: short, refuses });
      await expect(ran.result).rejects.toThrow(`docker ${command}: no`);
      expectNothingLeft(ran);
    }
  });

  test('a signal ends the run, also while the containers are started', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      for (const hangs of [false, true]) {
        const started = (_: FakeDocker, shared: string): void => {
          writeFileSync(join(shared, 'here-tpu'), '{}');
          tellEvents(shared, ready);
        };
        const ran = run({ started, hangs }, []);
        setTimeout(() => process.emit(signal, signal), 50);
        const error = await ran.result.catch((it: unknown) => it);
        expect(error).toBeInstanceOf(Interrupted);
        expect(error).toMatchObject({ exitCode: signal === 'SIGINT' ? 130 : 143 });
        expectNothingLeft(ran);
      }
    }
    expect(process.listenerCount('SIGTERM')).toBe(0);
  });

  test('a removal that fails is tried again', async () => {
    let tries = 0;
    const refuses = (it: string): Error | undefined =>
      it.startsWith('network rm') && ++tries < 3 ? new Error('has active endpoints') : undefined;
    const ran = run({ started: short, refuses });
    await ran.result;
    expect(tries).toBe(3);
    expectNothingLeft(ran);
  });

  test('the record is copied to the folder of --run, and the folder stays', async () => {
    const kept = mkdtempSync(join(tmpdir(), 'kept-'));
    const given = settings({ checkpoint: '/somewhere' }).with('run', kept, '--run');
    const started = (docker: FakeDocker, shared: string): void => {
      writeFileSync(join(shared, 'run', runFiles.config), '{}');
      writeFileSync(join(shared, 'run', runFiles.report), '{}');
      short(docker, shared);
    };
    await run({ started }, [kill], undefined, given).result;
    expect(readdirSync(kept).sort()).toEqual([runFiles.config, runFiles.events, runFiles.report]);
    expect(readFileSync(join(kept, runFiles.events), 'utf8').trim().split('\n').length).toBe(2);
  });
});
