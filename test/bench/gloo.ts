import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { at } from '../../src/numerics/assert.ts';

/** gloo's all-reduce over processes of its own, to be timed in turn with ours. */
export interface Gloo {
  /** Of torch. */
  readonly version: string;
  /** Makes one all-reduce: ms after a barrier, the longest of all ranks. */
  run(): Promise<number>;
  close(): void;
}

// The script is not compiled: it lies in the sources.
const script = fileURLToPath(new URL('../../../test/bench/gloo-allreduce.py', import.meta.url));

/** Starts `ranks` of them with `elements` f32 each; undefined where `python` has no torch. */
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
