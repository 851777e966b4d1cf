/**
 * Breaks pods of containers, each fault many times, and prints how long it took to be noticed and
 * to be recovered from. Every run must end with 0 and with the digest of a run left in peace, and
 * commit every step once. Needs Docker with Compose, and the image built.
 *
 *   npm run compile && docker compose build && node dist/scripts/cluster-faults.js --runs 20
 *
 * Times are of this machine's clock: from the engine's own event of what was broken to the master's
 * first word of a loss, and to the first step committed after everything went on.
 */
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { quantiles } from '../src/experiment/statistics.ts';
import { assert } from '../src/numerics/assert.ts';
import { milliseconds, table } from '../src/observe/format.ts';

const project = 'pod-faults';
const runMsLimit = 240_000;
const network = `${project}_ici`;
const master = `${project}-master-1`;
const tpu = (number: number): string => `${project}-tpu-${number}`;

/** A line of the master's log. */
interface Line {
  readonly time: number;
  readonly msg: string;
  readonly step?: number;
  readonly weightsDigest?: string;
}

/** What a fault needs of the run that it breaks. `pick(i)` is the i-th container to break. */
interface Run {
  readonly pick: (i: number) => string;
  /** Ends when the master has written a line with this `msg`. */
  readonly said: (msg: string) => Promise<void>;
}

interface Fault {
  /** What the engine calls it when it happens. */
  readonly event: 'kill' | 'pause' | 'disconnect' | 'die';
  readonly cause: (run: Run) => Promise<unknown>;
}

const faults: Readonly<Record<string, Fault>> = {
  kill: { event: 'kill', cause: ({ pick }) => docker('kill', pick(0)) },
  'pause 10 s': {
    event: 'pause',
    cause: async ({ pick }) => {
      await docker('pause', pick(0));
      await sleep(10_000);
      await docker('unpause', pick(0));
    },
  },
  stop: { event: 'kill', cause: ({ pick }) => docker('stop', pick(0)) },
  'disconnect 5 s': {
    event: 'disconnect',
    cause: async ({ pick }) => {
      await docker('network', 'disconnect', network, pick(0));
      await sleep(5000);
      await docker('network', 'connect', network, pick(0));
    },
  },
  'second kill': {
    event: 'kill',
    cause: async ({ pick, said }) => {
      await docker('kill', pick(0));
      await said('lost');
      await docker('kill', pick(1));
    },
  },
  'master killed': {
    event: 'die',
    // Detached: with its first process the container ends, and so does what was started in it.
    cause: () => docker('exec', '--detach', master, 'node', '--eval', killMaster),
  },
};

/** As the process of the master's user, in its container: the init process is left alone. */
const killMaster = `
  const { readdirSync, readFileSync } = require('node:fs');
  for (const id of readdirSync('/proc').filter((it) => Number(it) > 1)) {
    let words = [];
    try { words = readFileSync('/proc/' + id + '/cmdline', 'utf8').split('\\0'); } catch {}
    if (words[0] === 'node' && words[1].endsWith('master/main.js')) process.kill(Number(id), 'SIGKILL');
  }`;

interface Options {
  readonly runs: string;
  readonly tpus: string;
  readonly args: string;
  readonly only?: string;
}

const options = new Command('cluster-faults')
  .option('--runs <n>', 'of each fault', '20')
  .option('--tpus <n>', 'containers', '8')
  .option(
    '--args <flags>',
    'of pod train',
    '--recovery replace --model mlp --steps 120 --evaluate 256',
  )
  .option('--only <names>', `some of: ${Object.keys(faults).join(', ')}`)
  .parse()
  .opts<Options>();
const env = { ...process.env, TPUS: options.tpus, POD_ARGS: options.args };

process.exitCode = (await main()) ? 0 : 1;

async function main(): Promise<boolean> {
  await down();
  const calm = await trial(undefined, 0);
  const expected = digestOf(calm.lines);
  assert(calm.exitCode === 0 && expected !== undefined, 'the undisturbed run must end well');
  process.stdout.write(`undisturbed: ${expected}\n`);
  const rows = [['fault', 'runs', 'right', 'noticed p50', 'max', 'going on p50', 'max', 'again']];
  let right = true;
  for (const name of options.only?.split(',') ?? Object.keys(faults)) {
    const row = await series(name.trim(), expected);
    right &&= row[1] === row[2];
    rows.push(row);
  }
  process.stdout.write(`\n${table(rows).join('\n')}\n`);
  return right;
}

/** All runs of one fault, as a row of the table. */
async function series(name: string, expected: string): Promise<string[]> {
  const fault = faults[name];
  assert(fault !== undefined, `no fault is named ${name}`);
  const results: Result[] = [];
  for (let i = 0; i < Number(options.runs); i++) {
    const result = await trial(fault, i).then((it) => judge(it, expected), failed);
    const { wrong, noticedMs, recoveredMs } = result;
    const times = [noticedMs, recoveredMs].map((it) => (it === undefined ? '–' : milliseconds(it)));
    process.stdout.write(`${name} ${i + 1}: ${wrong ?? 'right'} ${times.join(' ')}\n`);
    results.push(result);
  }
  const right = results.filter(({ wrong }) => wrong === undefined).length;
  const again = Math.max(...results.map((it) => it.again));
  return [
    ...[name, String(results.length), String(right)],
    ...spread(results.map((it) => it.noticedMs)),
    ...spread(results.map((it) => it.recoveredMs)),
    String(again),
  ];
}

function spread(values: readonly (number | undefined)[]): [string, string] {
  const known = values.filter((it) => it !== undefined);
  if (known.length === 0) return ['–', '–'];
  const { p50, max } = quantiles(known);
  return [milliseconds(p50), milliseconds(max)];
}

interface Trial {
  readonly exitCode: number;
  readonly lines: readonly Line[];
  /** How many of the lines were written before anything was broken. */
  readonly before: number;
  /** When the engine broke it, in ms of the epoch. */
  readonly since: number;
}

interface Result {
  readonly wrong: string | undefined;
  readonly noticedMs: number | undefined;
  readonly recoveredMs: number | undefined;
  /** Recoveries in which a step ran again. */
  readonly again: number;
}

/** One pod from `up` to `down`, broken once after its third step, at another moment each time. */
async function trial(fault: Fault | undefined, i: number): Promise<Trial> {
  const count = Number(options.tpus);
  const number = (k: number): number => 1 + ((i * 5 + k * (1 + (i % (count - 1)))) % count);
  await compose('up', '--detach');
  const follower = follow(master);
  await follower.said('step', 3);
  await sleep((i * 137) % 500);
  const asked = Date.now();
  const said = (msg: string): Promise<void> => follower.said(msg);
  await fault?.cause({ pick: (k) => tpu(number(k)), said });
  const since = fault === undefined ? asked : await happened(fault.event, asked);
  const exitCode = await end(master);
  follower.stop();
  const lines = parse(await docker('logs', master));
  await down();
  return { exitCode, lines, before: lines.filter(({ time }) => time < asked).length, since };
}

function judge(trial: Trial, expected: string): Result {
  const { lines, before, since } = trial;
  const after = lines.slice(before);
  const noticed = after.find(({ msg }) => msg === 'lost' || msg === 'doubted');
  const resumed = after.findLastIndex(({ msg }) => msg === 'resumed');
  const isBack = ({ msg, time }: Line, i: number): boolean =>
    msg === 'step' && time > since && i > resumed;
  const recovered = after.find(isBack);
  return {
    wrong: wrongOf(trial, expected),
    // Whoever waits for a process may know of its end before the engine does.
    noticedMs: noticed && Math.max(0, noticed.time - since),
    recoveredMs: recovered && recovered.time - since,
    again: after.filter(({ msg }) => msg === 'resumed').length,
  };
}

/** A run that did not end is wrong; the next one begins anew. */
async function failed(error: unknown): Promise<Result> {
  await down();
  const wrong = error instanceof Error ? error.message : String(error);
  return { wrong, noticedMs: undefined, recoveredMs: undefined, again: 0 };
}

function wrongOf({ exitCode, lines }: Trial, expected: string): string | undefined {
  const commits = lines.filter(({ msg }) => msg === 'step');
  if (exitCode !== 0) return `the master ended with ${exitCode}`;
  if (lines.at(-1)?.msg !== 'summary') return 'the last line is no summary';
  if (digestOf(lines) !== expected) return `digest ${digestOf(lines)}`;
  const odd = commits.findIndex(({ step }, i) => step !== i + 1);
  return odd < 0 ? undefined : `commit ${odd + 1} is of step ${commits[odd]?.step}`;
}

function digestOf(lines: readonly Line[]): string | undefined {
  return lines.find(({ msg }) => msg === 'summary')?.weightsDigest;
}

/** When the engine first saw an event of the project, in ms of the epoch, since it was asked for. */
async function happened(event: Fault['event'], asked: number): Promise<number> {
  const format = '{{.TimeNano}} {{.Actor.Attributes.name}}';
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(50)) {
    const span = ['--since', String(asked / 1000), '--until', String(Date.now() / 1000)];
    const text = await docker('events', ...span, '--filter', `event=${event}`, '--format', format);
    const [first] = text.split('\n').filter((it) => it.split(' ')[1]?.startsWith(project));
    if (first !== undefined) return Number(first.split(' ')[0]) / 1e6;
  }
  throw new Error(`the engine saw no ${event}`);
}

/** The exit code of a container once it has ended for good. */
async function end(name: string): Promise<number> {
  for (const deadline = Date.now() + runMsLimit; Date.now() < deadline; await sleep(500)) {
    const state = await docker(
      'inspect',
      '--format',
      '{{.State.Status}} {{.State.ExitCode}}',
      name,
    );
    const [status, code] = state.trim().split(' ');
    if (status === 'exited') return Number(code);
  }
  throw new Error(`${name} did not end within ${milliseconds(runMsLimit)}`);
}

/** Reads a container's log while it is written. */
function follow(name: string): {
  readonly said: (msg: string, step?: number) => Promise<void>;
  readonly stop: () => void;
} {
  const child = spawn('docker', ['logs', '--follow', name], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines: Line[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(...parse(line)));
  const said = async (msg: string, step?: number): Promise<void> => {
    const isIt = (it: Line): boolean => it.msg === msg && (step === undefined || it.step === step);
    for (const deadline = Date.now() + runMsLimit; Date.now() < deadline; await sleep(20)) {
      if (lines.some(isIt)) return;
      if (child.exitCode !== null) throw new Error(`${name} ended and never said ${msg}`);
    }
    throw new Error(`${name} did not say ${msg} within ${milliseconds(runMsLimit)}`);
  };
  return { said, stop: () => void child.kill() };
}

/** The lines that are JSON; what else a program says is for people. */
function parse(text: string): Line[] {
  return text
    .split('\n')
    .filter((it) => it.startsWith('{'))
    .map((it) => JSON.parse(it) as Line);
}

async function down(): Promise<void> {
  await compose('down', '--volumes', '--timeout', '1');
}

function compose(...args: string[]): Promise<string> {
  return docker('compose', '--project-name', project, ...args);
}

async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('docker', args, { env, maxBuffer: 1 << 28 });
  return stdout;
}
