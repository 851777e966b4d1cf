import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readProcesses } from '../../../cluster/process/spawn.ts';

/** Exit code and output of a program that has ended. */
export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export function newFolder(): string {
  return mkdtempSync(join(tmpdir(), 'pod-process-'));
}

/** Starts a compiled program of this project. */
export function startProgram(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { readonly child: ChildProcess; readonly ran: Promise<Ran> } {
  const file = fileURLToPath(new URL(`../../../dist/${program}.js`, import.meta.url));
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const ran = new Promise<Ran>((resolve) => {
    child.once('close', (code) => resolve({ code, out, err }));
  });
  return { child, ran };
}

export function pod(...args: string[]): {
  readonly child: ChildProcess;
  readonly ran: Promise<Ran>;
} {
  return startProgram('src/cli/main', args);
}

/** Longest time, in ms, that {@link untilSaid} waits. */
const sayMsLimit = 50_000;

/**
 * Waits until the file `path` contains `text` at least `times` times. Throws after
 * {@link sayMsLimit} ms, and shows the end of the file.
 */
export async function untilSaid(path: string, text: string, times = 1): Promise<void> {
  const found = (): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');
  const startMs = performance.now();
  while (found().split(text).length - 1 < times) {
    if (performance.now() - startMs > sayMsLimit) {
      const last = found().slice(-2000);
      throw new Error(`${path}: expected ${text} ${times} times, found at the end:\n${last}`);
    }
    await sleep(50);
  }
}

/** Returns a field of a JSON object: a report or a line of a log. */
export function fieldOf(text: string, field: string): unknown {
  return (JSON.parse(text) as Readonly<Record<string, unknown>>)[field];
}

/**
 * Returns the process numbers of the pod in a folder. A process that has not been started has the
 * number 0.
 */
export function processesOf(folder: string): {
  readonly supervisor: number;
  readonly master: number;
  readonly workers: readonly number[];
  readonly apiPort: number;
} {
  const found = readProcesses(folder);
  if (found === undefined) throw new Error(`no pod in ${folder}`);
  return {
    supervisor: found.supervisor?.pid ?? 0,
    master: found.master?.pid ?? 0,
    workers: found.workers.map((it) => it?.pid ?? 0),
    apiPort: Number(fieldOf(readFileSync(join(folder, 'pod.json'), 'utf8'), 'apiPort')),
  };
}
