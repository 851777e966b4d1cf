import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  answerRequest,
  askOutside,
  hasGreeting,
  newRequests,
} from '../../../cluster/containers/request.ts';
import { readFaults } from '../../../cluster/runtime/fault-file.ts';
import type { Due } from '../../../src/fault/injector.ts';
import { compiled } from '../compiled.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-requests-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = { step: 2 };
const due: readonly Due[] = [
  { index: 0, fault: { fault: 'kill', tpu: 0, at } },
  { index: 1, fault: { fault: 'master-kill', at } },
  { index: 2, fault: { fault: 'throw', tpu: 0, at } },
];

/** Asks for the faults {@link due} in a thread, because a worker stands still while it asks. */
function askInThread(): { readonly rest: Promise<number[]>; readonly thread: Worker } {
  const module = compiled('cluster/containers/request.js');
  const code = `import(${JSON.stringify(module)}).then(({ askOutside }) => {
    const rest = askOutside(${JSON.stringify(folder)}, ${JSON.stringify(due)});
    require('node:worker_threads').parentPort.postMessage(rest.map(({ index }) => index));
  });`;
  const thread = new Worker(code, { eval: true });
  return { thread, rest: new Promise((resolve) => thread.once('message', resolve)) };
}

async function untilAsked(count: number): Promise<void> {
  while (newRequests(folder, new Set()).length < count) await new Promise(setImmediate);
}

test('a worker asks for all faults of a point, and stands still until each is injected', async () => {
  const { rest, thread } = askInThread();
  let isOver = false;
  void rest.then(() => {
    isOver = true;
  });
  try {
    await untilAsked(2);
    expect(newRequests(folder, new Set())).toEqual(
      [0, 1].map((index) => ({ index, host: hostname() })),
    );
    expect(newRequests(folder, new Set([0])).map(({ index }) => index)).toEqual([1]);
    answerRequest(folder, 1);
    await new Promise((done) => setTimeout(done, 50));
    expect(isOver).toBe(false);
    answerRequest(folder, 0);
    expect(await rest).toEqual([2]);
  } finally {
    await thread.terminate();
  }
});

test('outside of a container nobody is asked', () => {
  expect(askOutside(undefined, due)).toBe(due);
});

test('a worker that reads the faults in a container tells the runner so', () => {
  const path = join(folder, 'faults.json');
  writeFileSync(path, JSON.stringify({ faults: [], ledger: 'x' }));
  readFaults({ POD_FAULTS: path });
  expect(hasGreeting(folder)).toBe(false);
  writeFileSync(path, JSON.stringify({ faults: [], ledger: 'x', requests: folder }));
  readFaults({ POD_FAULTS: path });
  expect(hasGreeting(folder)).toBe(true);
});
