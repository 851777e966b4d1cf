import { readFileSync } from 'node:fs';
import { type StandardFile, standardFile } from './standard-file.ts';

type Name = 'stdout' | 'stderr';
const descriptors = { stdout: 1, stderr: 2 } as const;
const inWords = { stdout: 'standard output', stderr: 'standard error' } as const;

/**
 * Standard output and standard error of a command. A failed write (the reader has gone, the disk is
 * full, or the descriptor is closed) does not stop the program. The first reason of each stream is
 * kept, and the command says at its end that output was lost.
 */
export class StandardStreams {
  readonly #lost: Map<Name, string> = new Map();

  /**
   * Handles all errors of the two streams of the process. A process must create only one instance.
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
   * Resolves when everything written so far has been accepted by the system or is known to be lost.
   */
  async settled(): Promise<void> {
    await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  }

  #lose(name: Name, why: string): void {
    if (!this.#lost.has(name)) this.#lost.set(name, why);
  }
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  // A possible error of the stream reaches its listener before this promise resolves.
  return new Promise((resolve) => stream.write('', () => setImmediate(resolve)));
}

/**
 * True if a descriptor was closed (`>&-`) when this program was started.
 *
 * Node opens `/dev/null`, for reading and writing, in place of a closed descriptor before any code
 * of the program runs. A parent that discards output, such as a Python `subprocess` with `DEVNULL`,
 * may pass just such a `/dev/null`. A shell, however, opens the target of a redirection for writing
 * only. So the descriptor was closed if it leads to a `/dev/null` open for reading and writing,
 * while the parent is a shell whose own descriptor does not.
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
