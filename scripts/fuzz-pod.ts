/**
 * Attacks a pod of processes while it trains. Sends broken frames, handshakes, requests and
 * messages to the ports and sockets of the master and the workers. Then checks that the attack has
 * not disturbed the pod: no process has ended, no Cloud TPU was lost, and memory has hardly grown.
 * After every step the weights must equal those of the same run in threads.
 *
 *     node dist/scripts/fuzz-pod.js --inputs 1000000 --seed 1
 *
 * An input is one frame, handshake, request or message. Inputs that the pod has not read do not
 * count: the pod must have answered or processed the input, or have hung up because of it. The
 * script runs on Linux only, because it reads the workers' ports and the memory of each process
 * from /proc. The exit code is 1 if anything is wrong.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ProcessIdentity } from '../cluster/host/process-identity.ts';
import { parseRecord } from '../cluster/master/log-record.ts';
import { readToken } from '../cluster/net/token.ts';
import { type PodProcesses, readProcesses } from '../cluster/process/spawn.ts';
import { assert } from '../src/numerics/assert.ts';
import { mulberry32, type Random } from '../src/numerics/generator.ts';
import { bytes, count, milliseconds, table } from '../src/observe/format.ts';
import { commandOf } from './command.ts';
import { type Assault, type Attacked, assaults } from './fuzz-assaults.ts';
import type { End } from './fuzz-line.ts';

export interface FuzzPodOptions {
  readonly inputs: number;
  readonly seed: number;
  /** Number of connections of the attacker that are open at the same time. */
  readonly lines: number;
}

export interface FuzzPodResult {
  readonly inputs: number;
  readonly attackMs: number;
  /** `counts[assault][outcome]`: how many inputs of this kind of attack had this outcome. */
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /**
   * Resident memory of each process, in bytes: `early` in the second tenth of the inputs, `end` in
   * the last tenth. Each is the smallest of several samples, because a sample also counts garbage
   * that is not collected yet.
   */
  readonly memory: Readonly<Record<string, { readonly early: number; readonly end: number }>>;
  /** Number of steps committed during the attack. */
  readonly steps: number;
  /** Longest time between two successive commits of steps, in ms. */
  readonly longestGapMs: number;
  /** Number of steps whose weights were compared with those of the run in threads. */
  readonly compared: number;
  /** Size of the master's log, in bytes. */
  readonly logBytes: number;
  /** One text for each thing that is wrong. Empty if the pod was not disturbed. */
  readonly wrongs: readonly string[];
}

/**
 * Largest allowed growth of the memory of a process, in bytes, from the second tenth of the inputs
 * to the last tenth.
 */
const growthBytesMax = 64 * 2 ** 20;
const tpus = 2;
const job = ['--model', 'mlp', '--tpus', `${tpus}`, '--global-batch', '16', '--steps', '1000000'];
/** Number of samples of memory, spread evenly over the inputs. */
const samplesMax = 200;
/** Time, in ms, within which the pod must commit its first steps. */
const startMsLimit = 120_000;
/**
 * Longest time, in ms, of the run in threads. After the attack the script runs the job of the pod
 * once more, in threads, to compare the weights.
 */
const threadsMsLimit = 3_600_000;
/** The attack gives up if no input has had an outcome for this time, in ms. */
const stallMsLimit = 120_000;

export async function fuzzPod(options: FuzzPodOptions): Promise<FuzzPodResult> {
  const folder = mkdtempSync(join(tmpdir(), 'pod-fuzz-'));
  try {
    return await attackIn(folder, options);
  } finally {
    await pod('down', '--dir', folder);
    rmSync(folder, { recursive: true });
  }
}

async function attackIn(folder: string, options: FuzzPodOptions): Promise<FuzzPodResult> {
  await pod('up', '--serve', '--tpus', `${tpus}`, '--dir', folder);
  await pod('submit', '--dir', folder, '--', ...job);
  await until('the first steps', startMsLimit, () => commitsOf(folder).length > 2);
  const before = processesOf(folder);
  const attacked = await attackedIn(folder, before);
  const stepsBefore = commitsOf(folder).length;
  const begunMs = performance.now();
  const { inputs, counts, memory, ...thrown } = await throwAll(attacked, before, options);
  const attackMs = performance.now() - begunMs;
  await sleep(2000);
  const steps = commitsOf(folder).length - stepsBefore;
  const wrongs = [...thrown.wrongs, ...wrongsOf(folder, before, memory, steps)];
  const logBytes = readFileSync(join(folder, 'master.log')).length;
  await pod('down', '--dir', folder);
  const commits = commitsOf(folder);
  wrongs.push(...(await differencesFromThreads(folder, commits)));
  return {
    ...{ inputs, counts, memory, attackMs, steps, wrongs, logBytes },
    ...{ longestGapMs: longestGapMs(folder), compared: commits.length },
  };
}

// ----------------------------------------------------------------------------------------- the pod

const file = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts') ? '../dist/src/cli/main.js' : '../src/cli/main.js',
    import.meta.url,
  ),
);

async function pod(...words: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [file, ...words]);
  return stdout;
}

async function until(what: string, limitMs: number, holds: () => boolean): Promise<void> {
  for (const endMs = performance.now() + limitMs; !holds(); await sleep(100)) {
    assert(performance.now() < endMs, `expected ${what} within ${limitMs} ms`);
  }
}

function processesOf(folder: string): PodProcesses {
  const found = readProcesses(folder);
  assert(found !== undefined, `no pod in ${folder}`);
  return found;
}

interface Committed {
  readonly step: number;
  readonly digest: string;
}

function commitsOf(folder: string): readonly Committed[] {
  const path = join(folder, 'jobs', 'job-1', 'commits.jsonl');
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const record = parseRecord(line);
      return record !== undefined && 'commit' in record ? [record.commit] : [];
    });
}

/** Returns the JSON lines of a log file of the pod, parsed. */
function linesOf(path: string): readonly Readonly<Record<string, unknown>>[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((it) => it.startsWith('{')).map((it) => JSON.parse(it));
}

async function attackedIn(folder: string, { workers }: PodProcesses): Promise<Attacked> {
  const { controlPort, apiPort } = JSON.parse(readFileSync(join(folder, 'pod.json'), 'utf8'));
  const { token } = readToken({ POD_TOKEN_FILE: join(folder, 'token') });
  const status = JSON.parse(await pod('status', '--json', '--dir', folder));
  return {
    ...{
      token,
      control: { port: controlPort },
      api: { port: apiPort },
      generation: status.generation,
    },
    workers: workers.map((it) => listenersOf(pidOf(it))),
  };
}

/** Returns the TCP port and the unix socket on which a worker listens, read from /proc. */
function listenersOf(pid: number): { readonly ws: End; readonly unix: End } {
  const folder = `/proc/${pid}/fd`;
  const links = readdirSync(folder).map((fd) => readlinkSync(join(folder, fd)));
  const inodes = links.flatMap((it) => /^socket:\[(\d+)\]$/.exec(it)?.[1] ?? []);
  const rowsOf = (name: string): readonly (readonly string[])[] =>
    readFileSync(`/proc/${pid}/net/${name}`, 'utf8')
      .split('\n')
      .map((it) => it.trim().split(/\s+/));
  const listens = '0A';
  const tcp = rowsOf('tcp').find(
    ([, , , state, , , , , , inode = '']) => state === listens && inodes.includes(inode),
  );
  const unix = rowsOf('unix').find(
    ([, , , , , , inode = '', path]) => path !== undefined && inodes.includes(inode),
  );
  const [port, path] = [tcp?.[1]?.split(':')[1], unix?.[7]];
  assert(port !== undefined && path !== undefined, `process ${pid} does not listen`);
  return { ws: { port: Number.parseInt(port, 16) }, unix: { path } };
}

// -------------------------------------------------------------------------------------- the attack

interface Thrown {
  readonly inputs: number;
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly memory: FuzzPodResult['memory'];
  readonly wrongs: readonly string[];
}

type Memory = Readonly<Record<string, number>>;

async function throwAll(
  attacked: Attacked,
  processes: PodProcesses,
  { inputs, seed, lines }: FuzzPodOptions,
): Promise<Thrown> {
  const counts: Record<string, Record<string, number>> = {};
  let thrown = 0;
  let connections = 0;
  let lastMs = performance.now();
  let samples = 0;
  /** One entry for each tenth of the inputs: the smallest memory sample of each process. */
  const least: Memory[] = [];
  const sample = (): void => {
    samples = Math.floor((samplesMax * thrown) / inputs);
    const tenth = Math.min(9, Math.floor((10 * thrown) / inputs));
    least[tenth] = lesser(memoryOf(processes), least[tenth]);
  };
  const attack = async (): Promise<void> => {
    while (thrown < inputs && performance.now() - lastMs < stallMsLimit) {
      const random = mulberry32(seed * 1_000_003 + connections++);
      const { name, run } = choose(random);
      const outcomes = await run(attacked, random);
      const ofName = counts[name] ?? {};
      counts[name] = ofName;
      for (const outcome of outcomes) ofName[outcome] = (ofName[outcome] ?? 0) + 1;
      thrown += outcomes.length;
      if (outcomes.length > 0) lastMs = performance.now();
      if (samplesMax * thrown >= inputs * (samples + 1)) sample();
    }
  };
  await Promise.all(Array.from({ length: lines }, attack));
  const wrongs = [
    ...(thrown < inputs ? [`the attack stalled after ${thrown} inputs`] : []),
    ...wrongOutcomes(counts),
  ];
  sample();
  // Normally `early` is the memory in the second tenth of the inputs. A short attack may have no
  // sample in that tenth. Then `early` comes from the next tenth that has a sample.
  const early = least.find((it, tenth) => it !== undefined && tenth > 0);
  const memory = grown(early ?? {}, least.at(-1) ?? {});
  return { inputs: thrown, counts, memory, wrongs };
}

const weights = assaults.reduce((sum, { weight }) => sum + weight, 0);

function choose(random: Random): Assault {
  let left = random() * weights;
  const found = assaults.find(({ weight }) => {
    left -= weight;
    return left < 0;
  });
  assert(found !== undefined, 'an assault');
  return found;
}

/**
 * Returns a text for each forbidden outcome that occurred, and for each required outcome that did
 * not occur.
 */
function wrongOutcomes(counts: Thrown['counts']): string[] {
  const all = Object.entries(counts).flatMap(([name, ofName]) =>
    Object.keys(ofName).map((outcome) => ({ name, outcome })),
  );
  const bad = all.filter(
    ({ name, outcome }) =>
      outcome === 'waits' ||
      outcome === 'HTTP 500' ||
      outcome.includes('unexpected') ||
      (outcome.includes('welcome') && !name.includes('insider')),
  );
  const wrongs = bad.map(({ name, outcome }) => `${name}: ${outcome}`);
  for (const name of ['control: handshake', 'tensor (unix): handshake', 'tensor (ws): handshake']) {
    for (const code of ['token', 'version']) {
      if (counts[name]?.[code] === undefined)
        wrongs.push(`${name}: no input was refused with ${code}`);
    }
  }
  return wrongs;
}

// ------------------------------------------------------------------------------------- the verdict

function pidOf(it: ProcessIdentity | undefined): number {
  assert(it !== undefined, 'a process of the pod is missing');
  return it.pid;
}

/** Returns the resident memory of a process in bytes, or 0 if the process has ended. */
function residentBytes(pid: number): number {
  const path = `/proc/${pid}/status`;
  const found = existsSync(path) ? /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(path, 'utf8')) : null;
  return Number(found?.[1] ?? 0) * 1024;
}

function memoryOf({ master, workers }: PodProcesses): Memory {
  const ofWorkers = workers.map((it, tpu) => [`Cloud TPU ${tpu}`, residentBytes(pidOf(it))]);
  return Object.fromEntries([['master', residentBytes(pidOf(master))], ...ofWorkers]);
}

function lesser(one: Memory, other: Memory = one): Memory {
  return Object.fromEntries(
    Object.entries(one).map(([name, bytes]) => [name, Math.min(bytes, other[name] ?? bytes)]),
  );
}

function grown(early: Memory, end: Memory): FuzzPodResult['memory'] {
  const names = Object.keys(early);
  return Object.fromEntries(
    names.map((name) => [name, { early: early[name] ?? 0, end: end[name] ?? 0 }]),
  );
}

function wrongsOf(
  folder: string,
  before: PodProcesses,
  memory: FuzzPodResult['memory'],
  steps: number,
): string[] {
  const wrongs: string[] = [];
  const { all } = processesOf(folder);
  if (all.length !== before.all.length)
    wrongs.push(`expected ${before.all.length} processes, found ${all.length}`);
  for (const [name, { early, end }] of Object.entries(memory)) {
    if (end === 0) wrongs.push(`${name} has ended`);
    if (end - early > growthBytesMax) wrongs.push(`${name} grew by ${bytes(end - early)}`);
  }
  if (steps === 0) wrongs.push('no step was committed during the attack');
  const losses = ['lost', 'quarantined', 'suspected', 'worker-gone', 'refused'];
  for (const { msg, cause } of linesOf(join(folder, 'master.log'))) {
    if (losses.includes(String(msg))) wrongs.push(`the log of the master says: ${msg}: ${cause}`);
  }
  for (let tpu = 0; tpu < tpus; tpu++) {
    for (const { msg, cause } of linesOf(join(folder, `tpu-${tpu}.log`))) {
      if (msg !== 'master-gone' && msg !== 'link-trouble') continue;
      wrongs.push(`the log of Cloud TPU ${tpu} says: ${msg}: ${cause}`);
    }
  }
  return wrongs;
}

function longestGapMs(folder: string): number {
  const lines = linesOf(join(folder, 'master.log')).filter(({ msg }) => msg === 'step');
  const times = lines.map(({ time }) => Number(time));
  return times.reduce((longest, time, i) => Math.max(longest, time - (times[i - 1] ?? time)), 0);
}

/**
 * Runs the pod's job in threads up to the last step of `commits`, and compares the weights after
 * every step. Returns one text for each difference.
 */
async function differencesFromThreads(
  folder: string,
  commits: readonly Committed[],
): Promise<string[]> {
  const log = join(folder, 'threads.log');
  const child: ChildProcess = spawn(process.execPath, [file, 'train', ...job, '--log', log], {
    stdio: 'ignore',
  });
  let digests: ReadonlyMap<unknown, unknown> = new Map();
  const isThere = (): boolean => {
    if (!existsSync(log)) return false;
    const steps = linesOf(log).filter(({ msg }) => msg === 'step');
    digests = new Map(steps.map(({ step, digest }) => [step, digest]));
    return digests.size >= commits.length;
  };
  try {
    for (const endMs = performance.now() + threadsMsLimit; !isThere(); await sleep(1000)) {
      assert(child.exitCode === null, `pod train ended with ${child.exitCode}`);
      assert(
        performance.now() < endMs,
        `expected ${commits.length} steps of pod train within ${threadsMsLimit} ms`,
      );
    }
  } finally {
    child.kill('SIGKILL');
  }
  return commits.flatMap(({ step, digest }, i) => {
    if (step !== i + 1) return [`expected the commit of step ${i + 1}, found step ${step}`];
    const expected = digests.get(step);
    return expected === digest
      ? []
      : [`step ${step}: expected weights ${expected} as in threads, found ${digest}`];
  });
}

// ------------------------------------------------------------------------------------- the command

function show(result: FuzzPodResult): void {
  const rows = [['target', 'inputs', 'outcomes']];
  for (const { name } of assaults) {
    const outcomes = Object.entries(result.counts[name] ?? {}).sort(([, a], [, b]) => b - a);
    const sum = outcomes.reduce((total, [, many]) => total + many, 0);
    for (const [i, [outcome, many]] of outcomes.entries()) {
      rows.push([i === 0 ? name : '', i === 0 ? count(sum) : '', `${outcome} ${count(many)}`]);
    }
  }
  const { inputs, attackMs, steps, longestGapMs: gap, compared, logBytes, wrongs } = result;
  const rate = count((1000 * inputs) / attackMs);
  const lines = [
    ...table(rows),
    '',
    `${count(inputs)} inputs in ${milliseconds(attackMs)}: ${rate} a second`,
    ...Object.entries(result.memory).map(
      ([name, { early, end }]) =>
        `resident memory of ${name}: at least ${bytes(early)} in the second tenth of the attack, ${bytes(end)} in the last`,
    ),
    `${count(steps)} steps during the attack, the longest pause ${milliseconds(gap)}`,
    `weights after ${count(compared)} steps compared with those of a run in threads`,
    `size of the master's log: ${bytes(logBytes)}`,
    ...(wrongs.length === 0 ? ['nothing was wrong'] : wrongs.map((it) => `WRONG: ${it}`)),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { inputs, seed, lines } = commandOf('fuzz-pod')
    .option('--inputs <n>', 'number of inputs', '1000000')
    .option('--seed <n>', 'seed of the random inputs', '1')
    .option('--lines <n>', 'number of connections at a time', '32')
    .parse()
    .opts<Record<'inputs' | 'seed' | 'lines', string>>();
  const result = await fuzzPod({
    ...{ inputs: Number(inputs), seed: Number(seed), lines: Number(lines) },
  });
  show(result);
  process.exitCode = result.wrongs.length === 0 ? 0 : 1;
}
