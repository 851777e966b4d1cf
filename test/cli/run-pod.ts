import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { compiled } from '../cluster/compiled.ts';

/** Exit code, signal and complete output of a command that has ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a line of bash in which `$pod` is the compiled command. Waits until the line has ended. */
export function shell(line: string, options: { readonly cwd?: string } = {}): Promise<Ended> {
  return endOf(
    spawn('bash', ['-c', line], {
      ...options,
      env: { ...process.env, pod: `${process.execPath} ${compiled('src/cli/main.cjs')}` },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/** Starts the compiled `pod` command with piped output. */
export function startPod(args: readonly string[], cwd?: string): ChildProcess {
  return spawn(process.execPath, [compiled('src/cli/main.cjs'), ...args], {
    ...(cwd !== undefined && { cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Collects all that a command writes from now on. Resolves when the command has ended. */
export async function endOf(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (piece: Buffer) => {
    stdout += piece;
  });
  child.stderr?.on('data', (piece: Buffer) => {
    stderr += piece;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}

/** Resolves once a command has written `text` to its standard output. */
export function untilWritten(child: ChildProcess, text: string): Promise<void> {
  return new Promise((found, failed) => {
    let all = '';
    child.stdout?.on('data', (piece: Buffer) => {
      all += piece;
      if (all.includes(text)) found();
    });
    child.once('close', () => failed(new Error(`it ended before it wrote ${text}: ${all}`)));
  });
}
