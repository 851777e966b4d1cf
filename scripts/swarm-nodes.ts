/**
 * Trains on two nodes of a Docker Swarm, kills one node during the run, and compares the digest of
 * the weights with that of `pod train` in threads. Both nodes must be in one swarm already, the
 * first as the manager. The image `POD_IMAGE` must be on this machine; the script loads it on both
 * nodes.
 *
 *   DOCKER_1=unix:///run/1.sock DOCKER_2=unix:///run/2.sock KILL_2='ssh node-2 poweroff --force' \
 *     POD_IMAGE=tpu-pod node dist/scripts/swarm-nodes.js
 *
 * The times of the recovery that the script prints are measured with this machine's clock, from the
 * start of the command `KILL_2`.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { assert } from '../src/numerics/assert.ts';
import { milliseconds } from '../src/observe/format.ts';
import { commandOf } from './command.ts';
import { type Line, Story } from './faults/story.ts';

interface Options {
  readonly tpus: string;
  readonly args: string;
  readonly grace: string;
  readonly step: string;
  readonly stack: string;
}

const options = commandOf('swarm-nodes')
  .option('--tpus <n>', 'number of workers on both nodes together', '8')
  .option('--args <flags>', 'flags of pod train', '--model mlp --steps 200 --evaluate 256')
  .option('--grace <ms>', 'time to wait for replacements before other workers take over', '10000')
  .option('--step <n>', 'step after which the node is killed', '20')
  .option('--stack <name>', 'name of the stack that is deployed and removed', 'pod')
  .parse()
  .opts<Options>();

const manager = setting('DOCKER_1');
const node = setting('DOCKER_2');
const kill = setting('KILL_2');
const image = process.env['POD_IMAGE'] ?? 'tpu-pod';
const stackFile = fileURLToPath(new URL('../../cluster/swarm/stack.yml', import.meta.url));
const program = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const service = `${options.stack}_master`;
const secret = 'pod-token';
const startMsLimit = 180_000;
const endMsLimit = 900_000;

process.exitCode = (await main()) ? 0 : 1;

async function main(): Promise<boolean> {
  const words = [program, 'train', '--json', '--tpus', options.tpus, ...options.args.split(/\s+/)];
  const { stdout } = await promisify(execFile)(process.execPath, words, { maxBuffer: 1 << 26 });
  const expected = String(JSON.parse(stdout).weightsDigest);
  say(`weights of a run in threads: ${expected}`);
  for (const engine of [manager, node]) await carryImage(engine);
  await makeSecret();
  const story = new Story();
  try {
    await trainAndKill(story);
  } catch (error) {
    say(String(error));
  } finally {
    await docker(manager, 'stack', 'rm', options.stack);
  }
  const wrong = story.wrong(expected);
  say(wrong ?? `right: the same weights, ${story.digest}, after ${story.step} steps`);
  return wrong === undefined;
}

async function trainAndKill(story: Story): Promise<void> {
  const env = { TPUS: options.tpus, POD_ARGS: options.args, POD_GRACE_MS: options.grace };
  const deploy = ['stack', 'deploy', '--resolve-image', 'never', '--compose-file', stackFile];
  const begin = Date.now();
  await docker(manager, ...deploy, options.stack, env);
  const ended = follow(story);
  await story.until('the first step', () => story.step >= 1, startMsLimit);
  say(`first step ${since(begin, story.lines.at(-1))} after the stack was deployed`);
  await story.until(`step ${options.step}`, () => story.step >= Number(options.step), endMsLimit);
  say(
    `containers on node 2: ${(await docker(node, 'ps', '--format', '{{.Names}}')).trim().replaceAll('\n', ' ')}`,
  );
  const mark = story.mark;
  const time = Date.now();
  await promisify(execFile)('sh', ['-c', kill]);
  await story.until('the end of the run', () => story.exitCode !== undefined, endMsLimit);
  await ended;
  tell(story.after(mark), time);
}

/**
 * Prints how the pod recovered from the loss of the node: each kind of event, and how long after
 * the kill it happened. `lines` are the log lines of the master since the kill. `time` is when the
 * node was killed, in ms since 1970.
 */
function tell(lines: readonly Line[], time: number): void {
  const of = (msg: string): readonly Line[] => lines.filter((it) => it.msg === msg);
  for (const msg of ['lost', 'adopted', 'replaced', 'restored', 'resumed'] as const) {
    const all = of(msg);
    const who = all.map(({ tpu }) => tpu ?? 'all').join(' ');
    say(
      `${msg} (${who || 'none'}): ${since(time, all[0])} to ${since(time, all.at(-1))} after the kill`,
    );
  }
  const last = lines.findLastIndex(({ msg }) => msg === 'resumed');
  say(
    `next step committed after ${since(
      time,
      lines.find(({ msg }, i) => msg === 'step' && i > last),
    )}`,
  );
  say(`summary after ${since(time, of('summary')[0])}`);
}

function since(time: number, line: Line | undefined): string {
  return line === undefined ? 'never' : milliseconds(line.time - time);
}

/**
 * Reads the log of the master's container until the container ends. Swarm runs this container on
 * the manager.
 */
async function follow(story: Story): Promise<void> {
  const filter = `label=com.docker.swarm.service.name=${service}`;
  let id = '';
  const deadlineMs = performance.now() + startMsLimit;
  while (id === '' && performance.now() < deadlineMs) {
    await sleep(200);
    id = (await docker(manager, 'ps', '--quiet', '--all', '--filter', filter)).trim();
  }
  const child = spawn('docker', ['--host', manager, 'logs', '--follow', id], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  createInterface({ input: child.stdout }).on('line', (line) => story.hear(line));
  await new Promise((resolve) => child.once('close', resolve));
  story.exitCode = Number(await docker(manager, 'inspect', '--format', '{{.State.ExitCode}}', id));
}

async function carryImage(engine: string): Promise<void> {
  const save = `docker save '${image}' | docker --host '${engine}' load --quiet`;
  await promisify(execFile)('bash', ['-c', `set -o pipefail; ${save}`]);
}

/** Creates the join token as a secret of the swarm, unless the swarm has one already. */
async function makeSecret(): Promise<void> {
  const names = (await docker(manager, 'secret', 'ls', '--format', '{{.Name}}')).split('\n');
  if (names.includes(secret)) return;
  const made = promisify(execFile)('docker', ['--host', manager, 'secret', 'create', secret, '-']);
  made.child.stdin?.end(randomBytes(32).toString('base64url'));
  await made;
}

/**
 * Runs the command `docker` for the Docker engine at the address `engine`, and returns its standard
 * output. An object among the arguments sets environment variables of the command.
 */
async function docker(
  engine: string,
  ...args: readonly (string | Readonly<Record<string, string>>)[]
): Promise<string> {
  const words = args.filter((it) => typeof it === 'string');
  const env = args.find((it) => typeof it !== 'string');
  const { stdout } = await promisify(execFile)('docker', ['--host', engine, ...words], {
    env: { ...process.env, POD_IMAGE: image, ...env },
    maxBuffer: 1 << 26,
  });
  return stdout;
}

function setting(name: string): string {
  const value = process.env[name];
  assert(value !== undefined && value !== '', `the environment variable ${name} must be set`);
  return value;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
