/**
 * Measures a pod of containers: the memory of each container after a given step was committed, and
 * the time from `docker compose up` to the first step. Needs Docker with Compose, and the built
 * image.
 *
 *   npm run compile && docker compose build && node dist/scripts/cluster-memory.js --tpus 64
 *
 * The memory of a container is the figure that `docker stats` prints: the memory of its cgroup
 * without inactive file pages, because the kernel can drop these pages. Processor time counts only
 * the processes of the containers. The load average of the machine is printed as well, because it
 * shows how busy the machine was with other work.
 */
import { execFile } from 'node:child_process';
import { request } from 'node:http';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { quantiles } from '../src/experiment/statistics.ts';
import { messageOf } from '../src/numerics/error.ts';
import { bytes, milliseconds, table } from '../src/observe/format.ts';
import { commandOf } from './command.ts';

interface Options {
  readonly tpus: string;
  readonly args: string;
  readonly step: string;
  readonly project: string;
}

/** The fields of a line of the master's log that this script reads. */
interface Line {
  readonly time: number;
  readonly msg: string;
  readonly step?: number;
}

/** The fields of Docker's statistics of a container that this script reads. */
interface Stats {
  readonly memory_stats: {
    readonly usage: number;
    readonly stats: Readonly<Record<string, number>>;
  };
  readonly cpu_stats: { readonly cpu_usage: { readonly total_usage: number } };
}

/** Memory of one container, in bytes, and processor time of its processes, in ms. */
interface Use {
  readonly name: string;
  readonly used: number;
  readonly anonymous: number;
  readonly busyMs: number;
}

const runMsLimit = 600_000;
const socketPath: string = (process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock').replace(
  /^unix:\/\//,
  '',
);

const options = commandOf('cluster-memory')
  .option('--tpus <n>', 'number of workers', '8')
  .option('--args <flags>', 'flags of pod train', '--model cnn --steps 1000 --evaluate 512')
  .option('--step <k>', 'measure after the commit of this step', '3')
  .option('--project <name>', 'name of the Compose project', 'pod-memory')
  .parse()
  .opts<Options>();
const env = { ...process.env, TPUS: options.tpus, POD_ARGS: options.args };
const master = `${options.project}-master-1`;

await down();
try {
  process.stdout.write(`${(await measure()).join('\n')}\n`);
} catch (error) {
  // The error is printed before `docker compose down` runs, because `down` may fail too and would
  // hide the error.
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
await down();

/** Starts a pod, waits until step `--step` is committed, and returns the lines of the report. */
async function measure(): Promise<string[]> {
  const loadBefore = load();
  const upMs = Date.now();
  await compose('up', '--detach');
  const startedMs = Date.now();
  const lines = await untilStep(Number(options.step));
  const ids = (await compose('ps', '--quiet')).trim().split('\n');
  const uses = await Promise.all(ids.map(useOf));
  const since = (it: Line | undefined): string =>
    it === undefined ? '–' : milliseconds(it.time - upMs);
  const said = (msg: string): Line | undefined => lines.find((it) => it.msg === msg);
  return [
    ...table([
      ['containers', 'number', 'memory p50', 'max', 'sum', 'anonymous', 'processor time'],
      rowOf(
        'workers',
        uses.filter(({ name }) => name !== master),
      ),
      rowOf(
        'master',
        uses.filter(({ name }) => name === master),
      ),
      rowOf('all', uses),
    ]),
    '',
    ...table([
      ['time from docker compose up', ''],
      ['all containers started', milliseconds(startedMs - upMs)],
      ['master listens', since(said('listening'))],
      ['programs compiled', since(said('started'))],
      ['last worker joined', since(lines.findLast(({ msg }) => msg === 'joined'))],
      ['all workers ready', since(said('ready'))],
      ['first step', since(said('step'))],
    ]),
    '',
    `load of this machine: ${loadBefore} before, ${load()} at the end`,
  ];
}

function rowOf(name: string, uses: readonly Use[]): string[] {
  const { p50, max } = quantiles(uses.map(({ used }) => used));
  const sum = (of: (use: Use) => number): number => uses.reduce((all, it) => all + of(it), 0);
  return [
    ...[name, String(uses.length), bytes(p50), bytes(max), bytes(sum(({ used }) => used))],
    bytes(sum(({ anonymous }) => anonymous)),
    milliseconds(sum(({ busyMs }) => busyMs)),
  ];
}

/**
 * Waits until the master has committed step `step`. Returns all lines of the master's log so far.
 * Throws if the master ends first, or if the step is not committed within `runMsLimit`.
 */
async function untilStep(step: number): Promise<Line[]> {
  const deadlineMs = performance.now() + runMsLimit;
  for (; performance.now() < deadlineMs; await sleep(500)) {
    const lines = parse(await docker('logs', master));
    if (lines.some((it) => it.msg === 'step' && (it.step ?? 0) >= step)) return lines;
    const state = await docker('inspect', '--format', '{{.State.Status}}', master);
    const last = JSON.stringify(lines.at(-1));
    if (state.trim() === 'exited') throw new Error(`the master ended before step ${step}: ${last}`);
  }
  throw new Error(`no step ${step} within ${milliseconds(runMsLimit)}`);
}

function parse(text: string): Line[] {
  return text
    .split('\n')
    .filter((it) => it.startsWith('{'))
    .map((it) => JSON.parse(it) as Line);
}

/**
 * Returns the memory and the processor time of a container. The memory leaves out inactive file
 * pages, as the figure of `docker stats` does.
 */
async function useOf(id: string): Promise<Use> {
  const name = (await docker('inspect', '--format', '{{.Name}}', id)).trim().replace(/^\//, '');
  const { memory_stats: memory, cpu_stats: cpu } = await stats(id);
  const { total_inactive_file, inactive_file, total_rss, anon } = memory.stats;
  return {
    name,
    used: memory.usage - (total_inactive_file ?? inactive_file ?? 0),
    anonymous: total_rss ?? anon ?? 0,
    busyMs: cpu.cpu_usage.total_usage / 1e6,
  };
}

/**
 * Asks the Docker engine over its socket for the statistics of a container. (The command `docker
 * stats` is not enough: it prints rounded figures, and no total of processor time.)
 */
function stats(id: string): Promise<Stats> {
  return new Promise((resolve, reject) => {
    const path = `/containers/${id}/stats?stream=false&one-shot=true`;
    request({ socketPath, path, timeout: 30_000 }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString();
        if (response.statusCode === 200) resolve(JSON.parse(text) as Stats);
        else
          reject(
            new Error(
              `the Docker engine answered ${path} with status ${response.statusCode}: ${text}`,
            ),
          );
      });
    })
      .on('timeout', () =>
        reject(new Error(`the Docker engine did not answer ${path} within 30 s`)),
      )
      .on('error', reject)
      .end();
  });
}

function load(): string {
  return (loadavg()[0] ?? 0).toFixed(1);
}

async function down(): Promise<void> {
  await compose('down', '--volumes', '--timeout', '1');
}

function compose(...args: string[]): Promise<string> {
  return docker('compose', '--project-name', options.project, ...args);
}

async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('docker', args, { env, maxBuffer: 1 << 28 });
  return stdout;
}
