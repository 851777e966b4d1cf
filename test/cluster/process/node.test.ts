import { createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Token } from '../../../cluster/net/token.ts';
import { packAssignment, readAssignment } from '../../../cluster/process/assignment.ts';
import type { FromNode } from '../../../cluster/process/messages.ts';
import { Node } from '../../../cluster/process/node.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { openDataset } from '../../../src/data/open.ts';
import { buildPrograms } from '../../../src/experiment/programs.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Listens like a paused container: accepts connections and never answers. */
async function silentPeer(): Promise<{ readonly host: string; readonly port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return { host: '127.0.0.1', port: typeof address === 'object' ? (address?.port ?? 0) : 0 };
}

function makeNode(heard: (message: FromNode) => void): Node {
  const { config } = trainOptions({ model: 'mlp', steps: '2', tpus: '2' });
  const { train, weights } = buildPrograms(config, openDataset('digits', 0), 2);
  const slice = { topology: config.topology, mxu: config.mxu, relaxed: false };
  const { assignment, code } = packAssignment(slice, [{ executable: train, digested: weights }]);
  const node = new Node({
    ...{ tpu: 0, assignment: readAssignment(assignment), code },
    token: new Token(Buffer.from('a token that only tests know')),
    ...{ bind: '127.0.0.1', host: '127.0.0.1', port: 0, send: heard },
    ...{ ended: () => undefined, log: () => undefined, env: {} },
  });
  closing.push(() => node.end());
  return node;
}

test('a wait for parameters of a silent peer ends with the next membership', async () => {
  const peer = await silentPeer();
  const offers = [{ host: '127.0.0.1', port: 1 }, peer];
  const answered = new Promise<FromNode>((resolve) => {
    const node = makeNode((message) => {
      if (message.kind === 'answer') resolve(message);
    });
    node.receive({ kind: 'membership', generation: 5, offers });
    const query = { program: 0, steps: 0, peer: 1, generation: 5, offer: peer };
    node.receive({ kind: 'take', id: 1, ...query });
    setTimeout(() => node.receive({ kind: 'membership', generation: 6, offers }), 100);
  });
  const why = expect.stringMatching(/from Cloud TPU 1: cancelled: the membership has ended$/);
  expect(await answered).toMatchObject({ id: 1, why });
});
