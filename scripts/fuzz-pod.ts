/**
 * Throws broken frames, handshakes, requests and messages at a pod of processes while it trains: at its
 * master's control port and API, and at its workers' tensor ports and unix sockets. Then holds what it
 * did to what it would have done in peace: nobody ended or was lost, memory has hardly grown, and every
 * step has the weights of the same run in threads.
 *
 *     node dist/scripts/fuzz-pod.js --inputs 1000000 --seed 1
 *
 * An input is a frame, a handshake or a request that a listening end has answered, worked off, or hung
 * up on; what was not read is not counted. Linux only: where the workers listen, and how much memory
 * each process has, is in /proc. Exits 1 if anything is wrong.
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
import { bytes, count, milliseconds, table } from '../src/observe/format.ts';
import { commandOf } from './command.ts';
import { type Assault, type Attacked, assaults } from './fuzz-assaults.ts';
import { mulberry32, type Random } from './fuzz-inputs.ts';
import type { End } from './fuzz-line.ts';

export interface FuzzPodOptions {
  readonly inputs: number;
  readonly seed: number;
  /** Connections at a time. */
  readonly lines: number;
}

export interface FuzzPodResult {
  readonly inputs: number;
  readonly attackMs: number;
  /** By assault, then by what came of an input. */
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /**
   * Resident memory in bytes, by process: the least of many samples in the second tenth of the inputs and
   * in the last, since what waits for the collector is not what is kept.
   */
  readonly memory: Readonly<Record<string, { readonly early: number; readonly end: number }>>;
  /** Steps that were committed while inputs were thrown, and the longest time between two, in ms. */
  readonly steps: number;
  readonly longestGapMs: number;
  /** Steps whose weights were held to those of threads. */
  readonly compared: number;
  /** Of the master's log, in bytes. */
  readonly logBytes: number;
  /** What is wrong, if anything. */
  readonly wrongs: readonly string[];
}

/** The most by which a process may grow from the second tenth of the inputs to the last, in bytes. */
const growthBytesMax = 64 * 2 ** 20;
const tpus = 2;
const job = ['--model', 'mlp', '--tpus', `${tpus}`, '--global-batch', '16', '--steps', '1000000'];
/** Of memory, spread over the inputs. */
const samplesMax = 200;
/** How long a pod may take to start, and the same run in threads to come as far, in ms. */
const startMsLimit = 120_000;
const threadsMsLimit = 3_600_000;
/** So long without an input, and the attack has come to nothing, in ms. */
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
    assert(performance.now() < endMs, `${what}: not within ${limitMs} ms`);
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

/** Lines of a log of a pod. */
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

/** Where a worker listens, as the kernel knows it. */
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
  /** The least of the samples, by tenth of the inputs. */
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
    ...(thrown < inputs ? [`the attack came to a stop after ${thrown} inputs`] : []),
    ...wrongOutcomes(counts),
  ];
  sample();
  // Of the second tenth, or where all was over sooner than a sample could be taken in it, the next.
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

/** Outcomes that must not be, and those that must. */
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
      if (counts[name]?.[code] === undefined) wrongs.push(`${name}: none was refused for ${code}`);
    }
  }
  return wrongs;
}

// ------------------------------------------------------------------------------------- the verdict

/** Resident bytes of a process; 0 of one that has ended. */
function pidOf(it: ProcessIdentity | undefined): number {
  assert(it !== undefined, 'a process of the pod is missing');
  return it.pid;
}

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
  if (all.length !== before.all.length) wrongs.push(`${all.length} processes, were ${before.all}`);
  for (const [name, { early, end }] of Object.entries(memory)) {
    if (end === 0) wrongs.push(`${name} has ended`);
    if (end - early > growthBytesMax) wrongs.push(`${name} grew by ${bytes(end - early)}`);
  }
  if (steps === 0) wrongs.push('no step was committed meanwhile');
  const losses = ['lost', 'quarantined', 'suspected', 'worker-gone', 'refused'];
  for (const { msg, cause } of linesOf(join(folder, 'master.log'))) {
    if (losses.includes(String(msg))) wrongs.push(`the master says: ${msg}: ${cause}`);
  }
  for (let tpu = 0; tpu < tpus; tpu++) {
    for (const { msg, cause } of linesOf(join(folder, `tpu-${tpu}.log`))) {
      if (msg !== 'master-gone' && msg !== 'link-trouble') continue;
      wrongs.push(`Cloud TPU ${tpu} says: ${msg}: ${cause}`);
    }
  }
  return wrongs;
}

function longestGapMs(folder: string): number {
  const lines = linesOf(join(folder, 'master.log')).filter(({ msg }) => msg === 'step');
  const times = lines.map(({ time }) => Number(time));
  return times.reduce((longest, time, i) => Math.max(longest, time - (times[i - 1] ?? time)), 0);
}

/** Runs the same in threads until it has come as far, and compares the weights after every step. */
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
      assert(performance.now() < endMs, `threads: not as far within ${threadsMsLimit} ms`);
    }
  } finally {
    child.kill('SIGKILL');
  }
  return commits.flatMap(({ step, digest }, i) => {
    if (step !== i + 1) return [`step ${step} was committed where ${i + 1} is next`];
    const expected = digests.get(step);
    return expected === digest ? [] : [`step ${step}: ${digest}, in threads ${expected}`];
  });
}

// ------------------------------------------------------------------------------------- the command

function show(result: FuzzPodResult): void {
  const rows = [['thrown at', 'inputs', 'what came of them']];
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
        `${name}: at least ${bytes(early)} resident in the second tenth, ${bytes(end)} in the last`,
    ),
    `${count(steps)} steps meanwhile, the longest pause ${milliseconds(gap)}`,
    `weights after ${count(compared)} steps held to those of threads`,
    `the master's log: ${bytes(logBytes)}`,
    ...(wrongs.length === 0 ? ['nothing is wrong'] : wrongs.map((it) => `WRONG: ${it}`)),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { inputs, seed, lines } = commandOf('fuzz-pod')
    .option('--inputs <n>', 'how many', '1000000')
    .option('--seed <n>', 'of what is thrown', '1')
    .option('--lines <n>', 'connections at a time', '32')
    .parse()
    .opts<Record<'inputs' | 'seed' | 'lines', string>>();
  const result = await fuzzPod({
    ...{ inputs: Number(inputs), seed: Number(seed), lines: Number(lines) },
  });
  show(result);
  process.exitCode = result.wrongs.length === 0 ? 0 : 1;
}
