import { readFileSync } from 'node:fs';
import { type StandardFile, standardFile } from './standard-file.ts';

type Name = 'stdout' | 'stderr';
const descriptors = { stdout: 1, stderr: 2 } as const;
const inWords = { stdout: 'standard output', stderr: 'standard error' } as const;

/**
 * Standard output and error of a command. A write that fails, since the reader has gone, the disk is
 * full or the descriptor is closed, does not stop the program: the first reason is kept, and the
 * command says at its end that output was lost.
 */
export class StandardStreams {
  readonly #lost: Map<Name, string> = new Map();

  /** Takes over the errors of the process's two streams. Once in a process. */
  constructor() {
    for (const name of ['stdout', 'stderr'] as const) {
      process[name].on('error', (error: Error) => this.#lose(name, error.message));
      if (isClosed(descriptors[name])) this.#lose(name, 'it was closed when pod started');
    }
  }

  /** What was lost, in one line; undefined when everything was taken. */
  get lost(): string | undefined {
    const parts = [...this.#lost].map(([name, why]) => `${inWords[name]}: ${why}`);
    return parts.length === 0 ? undefined : parts.join('; ');
  }

  /** Resolves when everything that was written is taken, or known to be lost. */
  async settled(): Promise<void> {
    await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  }

  #lose(name: Name, why: string): void {
    if (!this.#lost.has(name)) this.#lost.set(name, why);
  }
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  // The error, if there is one, reaches the listener of the stream before this.
  return new Promise((resolve) => stream.write('', () => setImmediate(resolve)));
}

/**
 * Whether a descriptor was closed (`>&-`) when this program was started.
 *
 * Node opens `/dev/null` in place of a closed descriptor before any of our code runs, for reading
 * and writing. Programs that discard output, such as a `subprocess` with `DEVNULL`, may pass just
 * that; but a shell opens what it redirects to for writing alone. So a descriptor was closed if it
 * leads to a `/dev/null` of this kind and the parent is a shell that has something else there.
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
