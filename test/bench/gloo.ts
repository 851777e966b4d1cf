import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { at } from '../../src/numerics/assert.ts';

/**
 * The all-reduce of gloo (a library that torch uses) in separate processes. A benchmark alternates
 * runs of this all-reduce with runs of the emulator's.
 */
export interface Gloo {
  /** Version of torch. */
  readonly version: string;
  /**
   * Runs one all-reduce in all processes. Returns the longest time of a process, in ms, counted
   * from a barrier on.
   */
  run(): Promise<number>;
  close(): void;
}

// The path leads from dist/test/bench to the sources, because the Python script is not compiled.
const script = fileURLToPath(new URL('../../../test/bench/gloo-allreduce.py', import.meta.url));

/**
 * Starts `ranks` processes of gloo with `elements` f32 each. Returns undefined if `python` has no
 * torch.
 */
export async function startGloo(
  python: string,
  ranks: number,
  elements: number,
): Promise<Gloo | undefined> {
  if (spawnSync(python, ['-c', 'import torch.distributed']).status !== 0) return undefined;
  const port = await freePort();
  const children = Array.from({ length: ranks }, (_, rank) =>
    spawn(python, [script, ...[rank, ranks, port, elements].map(String)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const readers = children.map((child) => createInterface(child.stdout)[Symbol.asyncIterator]());
  const [said] = await Promise.all(readers.map(nextLine));
  return {
    version: said?.split(' ')[1] ?? '',
    async run() {
      for (const child of children) child.stdin.write('\n');
      return Number(await nextLine(at(readers, 0)));
    },
    close() {
      for (const child of children) child.stdin.end();
    },
  };
}

async function nextLine(lines: AsyncIterator<string>): Promise<string> {
  const { done, value } = await lines.next();
  if (done === true) throw new Error('a rank of gloo has ended');
  return value;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
