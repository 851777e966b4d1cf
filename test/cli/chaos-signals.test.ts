import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { processesOfFolder } from '../../cluster/process/of-folder.ts';
import { requireCompiled } from '../cluster/compiled.ts';

beforeAll(requireCompiled);
vi.setConfig({ testTimeout: 90_000 });

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chaos-signals-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Returns the folder of the pod that a command has started; undefined before it trains. */
function podFolder(): string | undefined {
  const [own = ''] = readdirSync(folder).filter((name) => name.startsWith('pod-chaos-'));
  const log = join(folder, own, 'run', 'events.ndjson');
  const trains =
    own !== '' && existsSync(log) && readFileSync(log, 'utf8').includes('"kind":"step"');
  return trains ? join(folder, own, 'pod') : undefined;
}

test.each(['SIGHUP', 'SIGTERM'] as const)(
  '%s ends the pod of a run with faults',
  async (signal) => {
    const plan = join(folder, 'plan.yaml');
    writeFileSync(plan, 'run: { tpus: 2, model: mlp, steps: 100000, evaluate: 16 }\nfaults: []\n');
    const words = ['dist/src/cli/main.cjs', 'chaos', 'run', plan, '--ground', 'processes'];
    const env = { ...process.env, TMPDIR: folder };
    const child = spawn(process.execPath, words, { env, stdio: 'ignore' });
    const closed = once(child, 'close');
    const pod = await vi.waitUntil(podFolder, { timeout: 60_000, interval: 100 });
    expect(processesOfFolder(pod).length).toBeGreaterThan(0);
    child.kill(signal);
    expect(await closed).toEqual([143, null]);
    expect(processesOfFolder(pod)).toEqual([]);
    expect(readdirSync(folder)).toEqual(['plan.yaml']);
  },
);
