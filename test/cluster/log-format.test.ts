import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { shell } from '../cli/run-pod.ts';
import { compiled } from './compiled.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-format-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/**
 * Runs a master and one worker in the way in which containers run them. The output has first the
 * log and the exit code of the worker, then the exit code and the log of the master.
 */
function podAs(format: string, level = 'info') {
  const lines = [
    `export POD_LOG_FORMAT=${format} POD_LOG_LEVEL=${level} POD_TOKEN_FILE=$PWD/token POD_DATA_DIR=$PWD TPU_WORKER_ID=0`,
    'export POD_MAKES_TOKEN=true POD_CONTROL_HOST=127.0.0.1 POD_CONTROL_PORT=0 POD_API_PORT=0',
    "export TPUS=1 POD_ARGS='--tpus 1 --model mlp --steps 3 --global-batch 8 --evaluate 8'",
    `node ${compiled('cluster/master/main.cjs')} >master.out 2>&1 &`,
    "until grep -q listening master.out; do kill -0 $! || break; sleep 0.1; done; port=$(sed -nE 's/.*listening.*port[^0-9]+([0-9]+).*/\\1/p' master.out)",
    `POD_MASTER=127.0.0.1:$port POD_TENSOR_PORT=0 POD_HOST=127.0.0.1 node ${compiled('cluster/worker/main.cjs')}`,
    'echo "worker $?"; wait $!; echo "master $?"; cat master.out',
  ];
  return shell(lines.join('\n'), { cwd: folder });
}

test('POD_LOG_FORMAT=text prints readable lines and the closing table', async () => {
  const { stdout } = await podAs('text');
  expect(stdout).toContain('\nworker 0\nmaster 0\n');
  expect(stdout).toMatch(/^\d\d:\d\d:\d\dZ {2}Cloud TPU 0: joined \(generation 1, .*hostname /m);
  expect(stdout).toMatch(/^\d\d:\d\d:\d\dZ {2}Cloud TPU 0: welcome$/m);
  expect(stdout).toMatch(/^\d\d:\d\d:\d\dZ {2}held-out accuracy/m);
  expect(stdout).not.toContain('{"');
});

test('an unknown POD_LOG_FORMAT ends each program with an error of one line', async () => {
  const { stdout } = await podAs('xml');
  expect(stdout).toContain('\nworker 2\nmaster 2\n');
  const expected = 'POD_LOG_FORMAT: expected json or text, found \\"xml\\"';
  expect(stdout.split('\n').filter((line) => line.includes(expected))).toHaveLength(2);
});

test('an unknown POD_LOG_LEVEL ends each program, and pod up, with an error of one line', async () => {
  const { stdout } = await podAs('json', 'loud');
  expect(stdout).toContain('\nworker 2\nmaster 2\n');
  const expected = 'POD_LOG_LEVEL: expected debug or info or warn or error, found \\"loud\\"';
  expect(stdout.split('\n').filter((line) => line.includes(expected))).toHaveLength(2);
  const up = await shell('$pod up --log-level loud; POD_LOG_LEVEL=loud $pod up', { cwd: folder });
  expect(up.stderr).toBe(
    'pod: bad-flag: --log-level: expected debug, info, warn, error, found "loud"\n' +
      'pod: bad-config: POD_LOG_LEVEL: expected debug or info or warn or error, found "loud"\n',
  );
});

test('pod up --log-level warn leaves out lines in all logs, but not the summary', async () => {
  const run = '--tpus 1 --model mlp --steps 3 --global-batch 8 --evaluate 8';
  const up = await shell(`$pod up ${run} --log-level warn --wait --json; cat .pod/*.log`, {
    cwd: folder,
  });
  const lines = up.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  // The option `--json` prints the first line. The second line is in the log of the master, which
  // `cat` prints.
  expect(lines.map(({ msg }) => msg)).toEqual(['summary', 'summary']);
});
