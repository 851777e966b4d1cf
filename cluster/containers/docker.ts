import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { PodError } from '../../src/numerics/error.ts';

/** How a Docker command runs. */
export interface DockerOptions {
  /** Further environment variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** Longest time, in ms, that the command may take. Default: {@link commandMsLimit}. */
  readonly limitMs?: number;
}

/** Runs commands of the Docker command line. Tests replace it. */
export interface Docker {
  /**
   * Runs `docker` with these words and returns its standard output.
   *
   * @throws PodError `io` with the last line of its standard error if it fails.
   */
  run(words: readonly string[], options?: DockerOptions): Promise<string>;
  /** Ends all commands that are under way. What they have begun in Docker may still go on. */
  abandon(): void;
}

/** Longest time, in ms, that most Docker commands may take. */
const commandMsLimit = 120_000;

/** Error on a machine that has no program `docker`. */
class MissingDocker extends PodError {}

/** True if the error says that this machine has no program `docker`. */
export function isMissingDocker(error: unknown): boolean {
  return error instanceof MissingDocker;
}

/**
 * The Docker command line of this machine. Each command is in a process group of its own, so that
 * Ctrl-C does not end the commands that clean up.
 */
export class DockerCli implements Docker {
  readonly #started: (pid: number) => void;
  /** Processes of the commands that are under way. */
  readonly #running: Set<ChildProcess> = new Set();

  /** `started` is called with the number of each process that is started. */
  constructor(started: (pid: number) => void = () => undefined) {
    this.#started = started;
  }

  async run(words: readonly string[], options: DockerOptions = {}): Promise<string> {
    const { env = {}, limitMs = commandMsLimit } = options;
    const child = spawn('docker', words, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, ...env },
      ...(Number.isFinite(limitMs) && { timeout: limitMs, killSignal: 'SIGKILL' }),
    });
    if (child.pid !== undefined) this.#started(child.pid);
    let [out, err] = ['', ''];
    child.stdout.on('data', (piece: Buffer) => {
      out += piece;
    });
    child.stderr.on('data', (piece: Buffer) => {
      err += piece;
    });
    this.#running.add(child);
    const [code, signal] = await endOf(child, words).finally(() => this.#running.delete(child));
    if (code === 0) return out;
    const how = signal === null ? `exit code ${code}` : `no end within ${limitMs / 1000} s`;
    throw new PodError('io', `${nameOf(words)}: ${lastLine(err) || how}`);
  }

  abandon(): void {
    for (const child of this.#running) child.kill('SIGKILL');
  }
}

async function endOf(
  child: ChildProcess,
  words: readonly string[],
): Promise<[number | null, NodeJS.Signals | null]> {
  try {
    return (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const what = 'expected the program docker, found none; install Docker with Compose v2';
    throw new MissingDocker('io', `${nameOf(words)}: ${what}`, error);
  }
}

/** Returns a command as messages show it, without the options that only programs need. */
function nameOf(words: readonly string[]): string {
  const end = words.findIndex((word) => word.startsWith('-'));
  return ['docker', ...words.slice(0, end < 0 ? 4 : Math.max(end, 1))].join(' ');
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}
