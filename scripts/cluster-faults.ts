/**
 * Injects faults into pods that train, each kind of fault many times. Prints how long the master
 * took to notice each fault, and how long the pod took to recover.
 *
 * Every run must end with exit code 0 and with the same digest of the weights as `pod train` in
 * threads. It must commit every step once and in order. It must log the loss of each broken Cloud
 * TPU. Without `--processes`, the script needs Docker with Compose and the built image.
 *
 *   npm run compile && docker compose build && node dist/scripts/cluster-faults.js --runs 20
 *   node dist/scripts/cluster-faults.js --processes --runs 2
 *
 * The script measures two times for each injection, in ms from the moment of the fault:
 *
 * - "noticed after": until the master's first log line about the fault;
 * - "recovered after": until the first step committed after the recovery.
 *
 * The moment of a fault is the time at which Docker reports it, or the time of the signal that
 * breaks the program. After the recovery the script puts the broken worker back.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { quantiles } from '../src/experiment/statistics.ts';
import { assert } from '../src/numerics/assert.ts';
import { messageOf } from '../src/numerics/error.ts';
import { milliseconds, table } from '../src/observe/format.ts';
import { commandOf } from './command.ts';
import { DockerRig } from './faults/docker-rig.ts';
import { type Fault, faults, type Injection, inject } from './faults/inject.ts';
import { ProcessRig } from './faults/process-rig.ts';
import type { Rig } from './faults/rig.ts';
import { Story } from './faults/story.ts';

interface Options {
  readonly runs: string;
  readonly tpus: string;
  readonly args: string;
  readonly grace: string;
  readonly only?: string;
  readonly processes?: boolean;
  readonly undisturbed: boolean;
  readonly logs?: string;
}

/**
 * Longest time, in ms, from the last injection of a run to the end of the run. In a run without
 * faults, the time begins when step `firstStep` is committed.
 */
const runMsLimit = 1_800_000;
/** The script injects the first fault of a run when step number `firstStep` is committed. */
const firstStep = 3;
/** The script injects another fault only if the run has at least this many steps left. */
const stepsLeftMin = 15;
/** Recovery time, in ms, above which the script keeps the logs of a run (option `--logs`). */
const slowMs = 10_000;
/** After this many failed runs of one fault, the script goes on to the next fault. */
const wrongMax = 3;

const header = [
  ...[
    'fault',
    'injections',
    'right',
    'noticed after, p50',
    'max',
    'recovered after, p50',
    'max',
    'steps run again',
    'other losses',
  ],
];

const options = commandOf('cluster-faults')
  .option('--runs <n>', 'number of injections of each fault', '20')
  .option('--tpus <n>', 'number of workers', '8')
  .option('--args <flags>', 'flags of pod train', '--model mlp --steps 600 --evaluate 256')
  .option('--grace <ms>', 'time to wait for a replacement before another worker takes over', '3000')
  .option('--only <names>', `inject only these of: ${Object.keys(faults).join(', ')}`)
  .option('--processes', 'break processes of this machine instead of containers')
  .option('--no-undisturbed', 'leave out the run without faults')
  .option('--logs <dir>', 'keep the logs of wrong runs and of slow recoveries in this folder')
  .parse()
  .opts<Options>();
const args = `${options.args} --tpus ${options.tpus} --recovery replace`;
const graceMs = Number(options.grace);
const rig: Rig = options.processes
  ? new ProcessRig({ args, graceMs })
  : new DockerRig({ tpus: Number(options.tpus), args, graceMs });

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  process.stderr.write(`cluster-faults: ${messageOf(error)}\n`);
  process.exit(1);
}

async function main(): Promise<boolean> {
  const { digest, steps } = await reference();
  say(`weights of a run in threads: ${digest} after ${steps} steps`);
  const calm = options.undisturbed ? await run(undefined, 0, digest) : undefined;
  if (calm !== undefined) say(`run without faults: ${calm.wrong ?? 'the same weights'}`);
  const rows = [header];
  let isRight = calm?.wrong === undefined;
  for (const name of chosen()) {
    const fault = faults[name];
    assert(fault !== undefined, `--only: there is no fault ${name}`);
    const { injections, wrongs } = await series(name, fault, digest);
    rows.push(...rowsOf(name, injections));
    isRight &&= wrongs === 0 && injections.every(({ wrong }) => wrong === undefined);
  }
  say(`\n${table(rows).join('\n')}`);
  say(isRight ? 'all runs were right' : 'something was wrong: see above');
  return isRight;
}

function chosen(): string[] {
  const all = Object.keys(faults).filter((it) => !options.processes || it !== 'disconnect 5 s');
  return options.only?.split(',').map((it) => it.trim()) ?? all;
}

/**
 * Runs `pod train` in threads. Returns the digest of the final weights, and the number of steps.
 */
async function reference(): Promise<{ readonly digest: string; readonly steps: number }> {
  const program = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const words = [program, 'train', '--json', ...args.split(/\s+/)];
  const { stdout } = await promisify(execFile)(process.execPath, words, { maxBuffer: 1 << 26 });
  const { weightsDigest, steps } = JSON.parse(stdout);
  return { digest: weightsDigest, steps };
}

/**
 * Injects one fault `--runs` times. If a run ends before all injections are done, the script starts
 * a new pod for the remaining injections. Gives up after `wrongMax` wrong runs.
 */
async function series(
  name: string,
  fault: Fault,
  expected: string,
): Promise<{ readonly injections: readonly Injection[]; readonly wrongs: number }> {
  const injections: Injection[] = [];
  let wrongs = 0;
  while (injections.length < Number(options.runs) && wrongs < wrongMax) {
    const outcome = await run({ name, fault }, injections.length, expected);
    injections.push(...outcome.injections);
    say(`${name}: a run of ${outcome.injections.length} injections: ${outcome.wrong ?? 'right'}`);
    if (outcome.wrong !== undefined) wrongs++;
  }
  return { injections, wrongs };
}

interface Run {
  readonly injections: readonly Injection[];
  readonly wrong: string | undefined;
}

/**
 * Runs one pod to its end. Injects the fault `what` again and again while enough steps are left; if
 * `what` is undefined, injects nothing. `before` is the number of injections of this fault in
 * earlier runs.
 */
async function run(
  what: { readonly name: string; readonly fault: Fault } | undefined,
  before: number,
  expected: string,
): Promise<Run> {
  const injections: Injection[] = [];
  const story = new Story();
  let wrong: string | undefined;
  await rig.up();
  const ended = rig
    .follow((line) => story.hear(line))
    .then((code) => {
      story.exitCode = code;
    });
  try {
    await story.until(`step ${firstStep}`, () => story.step >= firstStep, 120_000);
    while (what !== undefined && goesOn(story, before + injections.length)) {
      const i = before + injections.length;
      const injection = await inject(what.fault, { rig, story, i });
      injections.push(injection);
      say(`${what.name} ${i + 1}: ${describe(injection)}`);
    }
    await story.until('the end of the run', () => story.exitCode !== undefined, runMsLimit);
  } catch (error) {
    if (story.exitCode === undefined) wrong = messageOf(error);
  }
  wrong ??= story.wrong(expected);
  const isOdd = (it: Injection): boolean => it.wrong !== undefined || it.recoveredMs > slowMs;
  if (wrong !== undefined || injections.some(isOdd)) await keepLogs(what?.name);
  await rig.down();
  await ended;
  return { injections, wrong };
}

function goesOn(story: Story, injections: number): boolean {
  const steps = story.lines.findLast(({ msg }) => msg === 'step')?.steps ?? 0;
  const isLong = story.exitCode === undefined && steps - story.step >= stepsLeftMin;
  return isLong && injections < Number(options.runs);
}

function describe({ who, wrong, noticedMs, recoveredMs, isAdopted, others }: Injection): string {
  const times = `noticed after ${milliseconds(noticedMs)}, recovered after ${milliseconds(recoveredMs)}`;
  const how = isAdopted ? ', adopted' : '';
  const beside = others.length > 0 ? `; other losses: ${others.join('; ')}` : '';
  const load = `load ${loadavg()[0]?.toFixed(1)}`;
  return `${who}: ${wrong ?? 'right'}: ${times}${how}${beside} (${load})`;
}

/**
 * Returns the table rows of a fault. The first row covers all injections. A lost Cloud TPU either
 * gets a new worker (it is replaced), or the worker of another Cloud TPU adopts it. If both ways
 * occurred, two more rows follow: one for the injections with a replacement, one for those with an
 * adoption.
 */
function rowsOf(name: string, injections: readonly Injection[]): string[][] {
  const adopted = injections.filter(({ isAdopted }) => isAdopted);
  const isMixed = adopted.length > 0 && adopted.length < injections.length;
  const row = rowOf(name, injections);
  if (!isMixed) return [adopted.length > 0 ? rowOf(`${name}, adopted`, injections) : row];
  const replaced = injections.filter(({ isAdopted }) => !isAdopted);
  return [row, rowOf(`${name}, replaced`, replaced), rowOf(`${name}, adopted`, adopted)];
}

function rowOf(name: string, injections: readonly Injection[]): string[] {
  const right = injections.filter(({ wrong }) => wrong === undefined).length;
  const noticed = quantiles(injections.map(({ noticedMs }) => noticedMs));
  const recovered = quantiles(injections.map(({ recoveredMs }) => recoveredMs));
  return [
    ...[name, String(injections.length), String(right)],
    ...[noticed.p50, noticed.max, recovered.p50, recovered.max].map(milliseconds),
    String(Math.max(0, ...injections.map(({ ranAgain }) => ranAgain))),
    String(injections.reduce((all, { others }) => all + others.length, 0)),
  ];
}

async function keepLogs(name: string | undefined): Promise<void> {
  if (options.logs === undefined) return;
  mkdirSync(options.logs, { recursive: true });
  const file = join(
    options.logs,
    `${(name ?? 'undisturbed').replaceAll(' ', '-')}-${Date.now()}.log`,
  );
  writeFileSync(file, await rig.logs());
  say(`logs are in ${file}`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
