import { readFileSync } from 'node:fs';
import { type StandardFile, standardFile } from './standard-file.ts';

type Name = 'stdout' | 'stderr';
const descriptors = { stdout: 1, stderr: 2 } as const;
const inWords = { stdout: 'standard output', stderr: 'standard error' } as const;

/**
 * Standard output and standard error of a command. A failed write (the reader has gone, the disk is
 * full, or the descriptor is closed) does not stop the program. For each stream the reason of the
 * first failure is kept, so that the command can report at its end that output was lost.
 */
export class StandardStreams {
  readonly #lost: Map<Name, string> = new Map();

  /**
   * Registers handlers for all errors of standard output and standard error. A process must create
   * only one instance.
   */
  constructor() {
    for (const name of ['stdout', 'stderr'] as const) {
      process[name].on('error', (error: Error) => this.#lose(name, error.message));
      if (isClosed(descriptors[name])) this.#lose(name, 'it was closed when pod started');
    }
  }

  /** Streams that lost output, with the reasons, in one line; undefined if nothing was lost. */
  get lost(): string | undefined {
    const parts = [...this.#lost].map(([name, why]) => `${inWords[name]}: ${why}`);
    return parts.length === 0 ? undefined : parts.join('; ');
  }

  /**
   * Resolves when the system has accepted everything written so far, or when a write has failed and
   * the failure has been recorded.
   */
  async settled(): Promise<void> {
    await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  }

  #lose(name: Name, why: string): void {
    if (!this.#lost.has(name)) this.#lost.set(name, why);
  }
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  // If the write fails, the stream calls its listener for errors. The promise resolves one turn of
  // the event loop later, so that the listener runs first.
  return new Promise((resolve) => stream.write('', () => setImmediate(resolve)));
}

/**
 * True if this program was started with a closed descriptor (`>&-` in a shell).
 *
 * When Node starts, it opens `/dev/null` for reading and writing on every closed descriptor. So a
 * `/dev/null` open for reading and writing may mean that the descriptor was closed. It may also
 * have been opened by the parent, as a Python `subprocess` does for `DEVNULL`. A shell never opens
 * it so: `>/dev/null` opens it for writing only. Therefore the descriptor counts as closed if all
 * three are true:
 *
 * - The descriptor refers to a `/dev/null` open for reading and writing.
 * - The parent is a shell.
 * - The shell has no such `/dev/null` on the same descriptor. (If it had, this program would have
 *   inherited the `/dev/null` from the shell.)
 */
function isClosed(descriptor: number): boolean {
  if (!isNodesOwn(standardFile(descriptor))) return false;
  return isShell(process.ppid) && !isNodesOwn(standardFile(descriptor, process.ppid));
}

function isNodesOwn(file: StandardFile | undefined): boolean {
  return file?.path === '/dev/null' && file.access === 'both';
}

function isShell(pid: number): boolean {
  try {
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    return /^(ba|da|z|k|mk|a|fi|c|tc)?sh$|^busybox$/.test(name);
  } catch {
    return false;
  }
}
