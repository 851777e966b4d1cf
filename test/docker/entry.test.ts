import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { finalExitCodes } from '../../cluster/final.ts';
import { type Ended, endOf, untilWritten } from '../cli/run-pod.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-entry-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const waiting = `
  for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130]]) {
    process.on(signal, () => process.exit(code));
  }
  console.log("waiting");
  setInterval(() => {}, 1000);
`;

/**
 * Starts entry.sh with a fake `node`. Each start of the fake adds a line to the file `starts`. At
 * start i, the fake takes entry i of `codes`. If this entry is a number, the fake ends with this
 * exit code. If it is `wait`, the fake runs until a signal arrives, and ends with the exit code of
 * this signal.
 */
function start(args: readonly string[], codes: readonly (number | 'wait')[]): ChildProcess {
  writeFileSync(join(folder, 'codes'), `${codes.join('\n')}\n`);
  writeFileSync(
    join(folder, 'node'),
    `#!/bin/sh
echo "$POD_ATTEMPT $*" >>'${folder}/starts'
code=$(sed -n "$(wc -l <'${folder}/starts')p" '${folder}/codes')
[ "$code" = wait ] || exit "$code"
exec '${process.execPath}' -e '${waiting}'
`,
  );
  chmodSync(join(folder, 'node'), 0o755);
  return spawn(resolve('cluster/image/entry.sh'), [...args], {
    env: { PATH: `${folder}:${process.env['PATH']}`, POD_APP: folder, POD_RESTARTS: '3' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function starts(): string[] {
  return readFileSync(join(folder, 'starts'), 'utf8').trimEnd().split('\n');
}

const run = (args: readonly string[], codes: readonly (number | 'wait')[]): Promise<Ended> =>
  endOf(start(args, codes));

describe('the entry of a container', () => {
  test('a master that ends with a final code ends the container at once', async () => {
    for (const code of finalExitCodes) {
      rmSync(join(folder, 'starts'), { force: true });
      expect((await run(['master'], [code])).code).toBe(code);
      expect(starts()).toEqual(['0 dist/cluster/master/main.cjs']);
    }
  });

  test('a crashed program is started again in its container, which ends with the last exit code', async () => {
    const { code, stdout } = await run(['master'], [137, 1, 3]);
    expect(code).toBe(3);
    expect(starts().map((line) => line[0])).toEqual(['0', '1', '2']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { role: 'master', exitCode: 137, restarts: 1, msg: 'restarting' },
      { role: 'master', exitCode: 1, restarts: 2, msg: 'restarting' },
    ]);
  });

  test('too many crashes in a row end the container', async () => {
    expect((await run(['master'], [1, 1, 1, 134])).code).toBe(134);
    expect(starts()).toHaveLength(4);
  });

  test('a failed worker is started again, unless it was refused or dismissed', async () => {
    expect((await run(['worker'], [3, 4, 0])).code).toBe(0);
    expect(starts()).toHaveLength(3);
    rmSync(join(folder, 'starts'));
    expect((await run(['worker'], [2])).code).toBe(2);
  });

  test.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('%s is passed to the program, which is not started again', async (signal, code) => {
    const child = start(['master'], ['wait', 'wait']);
    const ended = endOf(child);
    await untilWritten(child, 'waiting');
    child.kill(signal);
    expect((await ended).code).toBe(code);
    expect(starts()).toHaveLength(1);
  });

  test('a signal between two starts ends the container as well', async () => {
    const child = start(['worker'], [1, 1, 1, 'wait']);
    const ended = endOf(child);
    await untilWritten(child, 'restarting');
    child.kill('SIGTERM');
    expect((await ended).code).toBe(143);
  });

  test('other commands run unchanged', async () => {
    await run(['pod', 'train', '--model', 'm l p'], [0]);
    await run(['dist/x.js', 'a'], [0, 0]);
    expect(starts().map((line) => line.trim())).toEqual([
      '/app/dist/src/cli/main.cjs train --model m l p',
      'dist/x.js a',
    ]);
    expect((await run(['sh', '-c', 'exit 9'], [])).code).toBe(9);
  });
});
