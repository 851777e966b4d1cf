import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { anotherUser, canBeAnother } from '../another-user.ts';
import { requireCompiled } from './compiled.ts';

beforeAll(requireCompiled);

const program = fileURLToPath(new URL('few-threads.mjs', import.meta.url));
const limitKnown = { seen: /expected room for 1 more thread, found room for 0/, blind: /EAGAIN/ };

test.skipIf(!canBeAnother)(
  '(as root) a replacement that gets no thread ends the run, and nothing hangs',
  async () => {
    for (const [sight, reason] of Object.entries(limitKnown)) {
      const words = [...anotherUser(4), process.execPath, program, sight];
      const child = spawn('timeout', ['--signal', 'KILL', '60', ...words], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let said = '';
      child.stdout.on('data', (text: Buffer) => {
        if (said === '') limit(child.pid ?? 0);
        said += text;
        child.stdin.write('go on\n');
      });
      const [code] = await once(child, 'close');
      expect([sight, code, said]).toEqual([
        sight,
        4,
        expect.stringMatching(/out-of-threads: .*often/),
      ]);
      expect(said).toMatch(reason);
    }
  },
  120_000,
);

/**
 * Sets the limit of threads of the test program to one, so that it cannot start another thread.
 * `parent` is the process number of `timeout`, whose child is the test program.
 */
function limit(parent: number): void {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(parent)], {
    encoding: 'utf8',
  });
  const [user = '', ...words] = [...anotherUser(4), 'prlimit', '--nproc=1:1', '--pid'];
  const { status } = spawnSync(user, [...words, stdout.trim()]);
  expect(status).toBe(0);
}
