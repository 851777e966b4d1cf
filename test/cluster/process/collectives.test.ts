import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Token } from '../../../cluster/net/token.ts';
import { Lobby } from '../../../cluster/process/lobby.ts';
import { LocalWorkers } from '../../../cluster/process/local-workers.ts';
import { openProcessPod, type ProcessPod } from '../../../cluster/process/pod.ts';
import { readProcesses } from '../../../cluster/process/spawn.ts';
import type { Fault } from '../../../src/fault/plan.ts';
import type { HloModule } from '../../../src/hlo/instruction.ts';
import { bytesOf } from '../../../src/numerics/literal.ts';
import { kinds, moduleOf } from '../../hlo/collective-cases.ts';
import { requireCompiled } from '../compiled.ts';
import { compiled, expectedWeights, initialWeights, mixing } from '../mixing.ts';
import { newFolder } from './pod.ts';

beforeAll(requireCompiled);
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const topology = { columns: 2, rows: 1 };
const replicas = 16;
const steps = 3;
const secret = 'a token that only tests know';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) {
    for (const it of readProcesses(folder)?.workers ?? []) if (it) kill(it.pid);
    rmSync(folder, { recursive: true });
  }
});

describe('collectives of a pod of processes give the bits of evaluateReplicas', () => {
  test.each(kinds)('after a Cloud TPU is killed in the middle of an %s', async (kind) => {
    const half = Array.from({ length: 8 }, (_, i) => 2 * i);
    const groups = [half, half.map((replica) => replica + 1)];
    const common = { type: 'bf16', size: 5, dimension: 1, body: 'subtract', seed: 21 } as const;
    const module = mixing(moduleOf([{ ...common, kind, groups }], replicas));
    const bucket = compiled(module, replicas).buckets.length;
    const at = { step: 2, phase: 'all-gather', bucket, hop: 1 } as const;
    const { weights, injected } = await run(module, [{ fault: 'kill', tpu: 1, at }]);
    expect(weights).toEqual(expectedWeights(module, replicas, steps));
    expect(injected).toBe(1);
  });
});

/** Runs a program in a pod of processes. Returns the weights after each step. */
async function run(
  module: HloModule,
  faults: readonly Fault[],
): Promise<{ readonly weights: Uint8Array[]; readonly injected: number }> {
  const folder = newFolder();
  folders.push(folder);
  mkdirSync(folder, { recursive: true });
  const [tokenFile, faultFile, ledger] = ['token', 'faults.json', 'ledger'].map((name) =>
    join(folder, name),
  );
  writeFileSync(tokenFile!, secret, { mode: 0o600 });
  writeFileSync(faultFile!, JSON.stringify({ faults, ledger }));
  writeFileSync(ledger!, '');
  const log = (): void => undefined;
  const lobby = await Lobby.open({
    ...{ token: new Token(Buffer.from(secret)), host: '127.0.0.1', port: 0, log },
  });
  let pod: ProcessPod | undefined;
  const workers = new LocalWorkers({
    ...{ folder, tpus: 2, controlPort: lobby.port, log },
    env: { ...process.env, POD_TOKEN_FILE: tokenFile, POD_FAULTS: faultFile, TMPDIR: folder },
    died: (tpu, death) => pod?.died(tpu, death) ?? false,
  });
  workers.startAll();
  try {
    pod = await openProcessPod({
      ...{ topology, mxu: 'fast', recovery: 'replace', relaxed: true, lobby, log },
      ...{ startMsLimit: 60_000, graceMsLimit: 20_000, isWatched: true },
      onNote: ({ event, tpu }) => {
        if (event === 'lost' && tpu !== null) workers.replace(tpu);
      },
      programs: [{ executable: compiled(module, replicas), digested: 1 }],
    });
    await pod.writeParameters(0, [bytesOf(initialWeights)]);
    const weights: Uint8Array[] = [];
    for (let step = 0; step < steps; step++) {
      await pod.step(0);
      weights.push((await pod.readParameters(0))[0]!.slice());
    }
    const injected = readFileSync(ledger!, 'utf8').split('\n').length - 1;
    return { weights, injected };
  } finally {
    workers.close();
    await pod?.close();
    await lobby.dismiss({ expected: 0, withinMs: 0, lingerMs: 0 });
    await lobby.close();
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The process has ended already.
  }
}
