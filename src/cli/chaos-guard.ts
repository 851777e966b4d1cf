import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  identityOf,
  ownIdentity,
  type ProcessIdentity,
} from '../../cluster/host/process-identity.ts';
import { signalTo, untilEnded } from '../../cluster/supervisor/supervisor.ts';
import { heal } from './chaos-heal.ts';

/**
 * Another process that cleans up if this process is killed. It holds a pipe to this process. When
 * the pipe ends and `end` was not called, it removes all that this process has left.
 */
export interface Guard {
  /** Names a child of this process that the guard must end, because it would create more. */
  note(pid: number): void;
  /** Tells the guard that nothing is left to clean up. */
  end(): void;
}

/** Last line that the guard reads if nothing is left to clean up. */
const doneLine = 'done';

/** Starts the guard of this process. */
export function startGuard(): Guard {
  const { pid, start } = ownIdentity();
  const program = fileURLToPath(new URL('./main.cjs', import.meta.url));
  const child = spawn(process.execPath, [program, 'chaos', 'guard', `${pid}`, start], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.on('error', () => undefined);
  child.unref();
  const { stdin } = child;
  // The guard may have been killed. The run goes on without it.
  stdin.on('error', () => undefined);
  (stdin as typeof stdin & { unref?: () => void }).unref?.();
  return {
    note(childPid) {
      const identity = identityOf(childPid);
      if (identity !== undefined) stdin.write(`${identity.pid} ${identity.start}\n`);
    },
    end: () => void stdin.end(`${doneLine}\n`),
  };
}

/** Longest time, in ms, that the guard waits for the end of the runner after the end of the pipe. */
const runnerMsLimit = 10_000;

/** The program of the guard: waits until the pipe from the runner ends, then cleans up. */
export async function guardRunner(runner: ProcessIdentity): Promise<void> {
  const children = await childrenOf(process.stdin);
  if (children === undefined) return;
  for (const child of children) signalTo(child, 'SIGKILL');
  await untilEnded([runner], runnerMsLimit);
  await heal({ isOf: (it) => it.pid === runner.pid && it.start === runner.start, looks: 3 });
}

/**
 * Waits for the end of the pipe, and returns the children of the runner; undefined if the runner
 * has nothing left to clean up.
 */
async function childrenOf(
  pipe: NodeJS.ReadableStream,
): Promise<readonly ProcessIdentity[] | undefined> {
  const children: ProcessIdentity[] = [];
  for await (const line of createInterface({ input: pipe })) {
    if (line === doneLine) return undefined;
    const [pid, start = ''] = line.split(' ');
    children.push({ pid: Number(pid), start });
  }
  return children;
}
