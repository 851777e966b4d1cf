/**
 * Checks of Node and of the machine. A program runs these checks before it loads any other file.
 *
 * This file must run even in a Node that is too old, and under a limit that allows no further
 * thread. Otherwise it could not report these problems. Therefore it is a CommonJS module: the
 * loader of ES modules needs threads. And it has only syntax that Node 12 knows: no `?.`, no `??`,
 * no private methods. Other files import this file through engine.ts.
 */

/** Result of one check: what is required, and what was found. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly expected: string;
  readonly found: string;
  /** Advice for the user if the requirement is not met. */
  readonly advice: string;
  /** Error code if the requirement is not met; one of the codes in src/numerics/error.ts. */
  readonly code: 'unsupported-engine' | 'out-of-memory' | 'out-of-threads' | 'io';
}

/**
 * A limit of the operating system on this process or its user. `most` is the greatest amount that
 * the system allows; `used` is the amount in use now. Both are in bytes, or both are numbers of
 * tasks (processes and threads).
 */
export interface Room {
  readonly used: number;
  readonly most: number;
  /** Name and value of the limit, such as `ulimit -u 16`. */
  readonly limit: string;
}

/**
 * Form of the message that says why a program cannot start: text for people on standard error, or a
 * line of the log on standard output.
 */
export type Voice = { readonly to: 'people' } | { readonly to: 'log'; readonly role: string };

/** Functions that this file exports. */
export interface Engine {
  /** Checks all requirements. Returns one finding for each check, in the order of the checks. */
  inspect(): Finding[];
  /** Formats findings as a table, one line for each finding. */
  listing(findings: readonly Finding[]): string[];
  /**
   * Loads a program if every check has passed. Otherwise prints one line about the first check that
   * has failed, and sets the exit code of the process: 2 if Node lacks a feature, 4 if memory or
   * threads are missing, 5 if the limit on open files or the current folder is the problem.
   */
  start(voice: Voice, findings: readonly Finding[], load: () => Promise<unknown>): void;
  /**
   * Limit on the number of tasks (processes and threads). This user and this container may both
   * have a limit. In that case, returns the limit that leaves fewer tasks free. Undefined if
   * neither has a limit.
   */
  taskRoom(): Room | undefined;
  /** Limit on the address space of this process, in bytes; undefined if no limit applies. */
  addressRoom(): Room | undefined;
  /**
   * Limit on the private writable memory of this process (`ulimit -d`), in bytes; undefined if no
   * limit applies.
   */
  dataRoom(): Room | undefined;
}

// Node before 14.18 does not support `node:` in `require`.
// biome-ignore lint/style/useNodejsImportProtocol: see above
const fs: typeof import('node:fs') = require('fs');

/** Oldest supported version of Node, equal to `engines` in package.json. */
const oldest = { major: 20, minor: 19 };

const mib = 1048576;
/**
 * Address space, in bytes, that must be free before a program is loaded. Loading was measured to
 * need 0.4 GB with Node 24, and 0.6 GB with Node 20.
 */
const loadBytes = 640 * mib;
/**
 * Private writable memory, in bytes, that must be free before a program is loaded. It is checked if
 * `ulimit -d` limits this memory. Loading was measured to need 62 MB with Node 20.
 */
const loadDataBytes = 96 * mib;
/**
 * How many nested calls must fit into the stack. This number of calls takes 80 KB. By default the
 * stack of Node has 984 KB.
 */
const callsMin = 800;
/**
 * Number of files that this process must be allowed to have open at the same time. Loading a
 * program needs up to 120 of them.
 */
const filesMin = 192;
/**
 * If the limit on the tasks (processes and threads) of a user is higher than this number, the limit
 * is not checked. The check would have to count all tasks of the user, which takes time, and so
 * many tasks are rare.
 */
const taskLimitMax = 4096;

function inspect(): Finding[] {
  return [
    nodeVersion(),
    webAssembly(),
    simd(),
    sharedMemory(),
    workerThreads(),
    stack(),
    addresses(),
    data(),
    tasks(),
    openFiles(),
    presentFolder(),
  ];
}

function nodeVersion(): Finding {
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
  const wanted = `${oldest.major}.${oldest.minor}`;
  return {
    name: 'Node',
    ok: major > oldest.major || (major === oldest.major && minor >= oldest.minor),
    expected: `Node ${wanted} or newer`,
    found: process.versions.node,
    advice: 'install it from https://nodejs.org',
    code: 'unsupported-engine',
  };
}

function webAssembly(): Finding {
  const ok = typeof WebAssembly === 'object' && typeof WebAssembly.validate === 'function';
  return {
    name: 'WebAssembly',
    ok,
    expected: 'WebAssembly',
    found: ok ? 'yes' : 'none',
    advice: withoutFlags('such as --jitless'),
    code: 'unsupported-engine',
  };
}

/**
 * WebAssembly module that is valid only if Node supports SIMD. Its one function adds two 128-bit
 * vectors [WebAssembly, SIMD].
 */
const simdModule = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 123, 123, 1, 123, 3, 2, 1, 0],
  ...[10, 11, 1, 9, 0, 32, 0, 32, 1, 253, 228, 1, 11],
];

function simd(): Finding {
  const ok = webAssembly().ok && WebAssembly.validate(new Uint8Array(simdModule));
  return {
    name: 'SIMD',
    ok,
    expected: 'SIMD of WebAssembly',
    found: ok ? '128 bits' : 'none',
    advice: `use a processor with SSE 4.1 or NEON, and ${withoutFlags('that turn SIMD off')}`,
    code: 'unsupported-engine',
  };
}

/**
 * WebAssembly module that is valid only if Node supports shared memory. It has one page of memory
 * that threads can share [WebAssembly, threads].
 */
const sharedModule = [0, 97, 115, 109, 1, 0, 0, 0, 5, 4, 1, 3, 1, 1];

function sharedMemory(): Finding {
  const ok =
    typeof SharedArrayBuffer === 'function' &&
    typeof Atomics === 'object' &&
    webAssembly().ok &&
    WebAssembly.validate(new Uint8Array(sharedModule));
  return {
    name: 'shared memory',
    ok,
    expected: 'SharedArrayBuffer, Atomics and shared memory of WebAssembly',
    found: ok ? 'yes' : 'not all of them',
    advice: withoutFlags('that turn them off'),
    code: 'unsupported-engine',
  };
}

interface Permission {
  has(scope: string): boolean;
}

function workerThreads(): Finding {
  const { permission } = process as { readonly permission?: Permission };
  const ok = permission === undefined || permission.has('worker');
  return {
    name: 'threads',
    ok,
    expected: 'threads',
    found: ok ? 'yes' : 'none: node was started with --permission',
    advice: 'start node with --allow-worker, or without --permission',
    code: 'unsupported-engine',
  };
}

function stack(): Finding {
  const calls = callsThatFit(0);
  const ok = calls >= callsMin;
  return {
    name: 'stack',
    ok,
    expected: `a stack of at least ${callsMin} calls`,
    found: ok ? 'enough' : `a stack of ${calls} calls`,
    advice: 'start node without --stack-size (the default, 984, suffices)',
    code: 'unsupported-engine',
  };
}

/**
 * Returns how many nested calls fit into the stack, but at most `callsMin`. To find out, the
 * function calls itself until the stack is full. `calls` is the number of nested calls so far; the
 * first caller passes 0.
 */
function callsThatFit(calls: number): number {
  if (calls >= callsMin) return calls;
  try {
    return callsThatFit(calls + 1);
  } catch {
    return calls;
  }
}

function addresses(): Finding {
  const room = addressRoom();
  const free = room === undefined ? Number.POSITIVE_INFINITY : room.most - room.used;
  return {
    name: 'address space',
    ok: free >= loadBytes,
    expected: `${inMiB(loadBytes)} of free address space to load a program`,
    found: room === undefined ? 'no limit' : `${inMiB(free)} (${room.limit})`,
    advice: 'raise the limit (ulimit -v unlimited)',
    code: 'out-of-memory',
  };
}

function data(): Finding {
  const room = dataRoom();
  const free = room === undefined ? Number.POSITIVE_INFINITY : room.most - room.used;
  return {
    name: 'room for data',
    ok: free >= loadDataBytes,
    expected: `${inMiB(loadDataBytes)} of free memory for data to load a program`,
    found: room === undefined ? 'no limit' : `${inMiB(free)} (${room.limit})`,
    advice: 'raise the limit (ulimit -d unlimited)',
    code: 'out-of-memory',
  };
}

function tasks(): Finding {
  const room = taskRoom();
  const free = room === undefined ? Number.POSITIVE_INFINITY : room.most - room.used;
  const needed = poolThreads();
  return {
    name: 'room for threads',
    ok: free >= needed,
    expected: `room for ${needed} more threads to load a program`,
    found: room === undefined ? 'no limit' : `room for ${Math.max(0, free)} (${room.limit})`,
    advice: 'raise the limit, or end other programs of this user',
    code: 'out-of-threads',
  };
}

function openFiles(): Finding {
  const limit = softLimit('Max open files');
  return {
    name: 'open files',
    ok: limit === undefined || limit >= filesMin,
    expected: `room for ${filesMin} open files`,
    found: limit === undefined ? 'no limit' : `room for ${limit} (ulimit -n ${limit})`,
    advice: 'raise the limit',
    code: 'io',
  };
}

function presentFolder(): Finding {
  let found = 'yes';
  try {
    process.cwd();
  } catch {
    found = 'a folder that was removed';
  }
  return {
    name: 'current folder',
    ok: found === 'yes',
    expected: 'a current folder that exists',
    found,
    advice: 'change to another folder (cd)',
    code: 'io',
  };
}

/**
 * Number of threads in the pool of Node. Node starts all of them at once when it loads ES modules
 * [libuv, UV_THREADPOOL_SIZE].
 */
function poolThreads(): number {
  const size = Number.parseInt(process.env['UV_THREADPOOL_SIZE'] || '4', 10);
  return Math.min(1024, Math.max(1, size || 1));
}

function addressRoom(): Room | undefined {
  return memoryRoom('Max address space', 'VmSize', 'ulimit -v');
}

function dataRoom(): Room | undefined {
  return memoryRoom('Max data size', 'VmData', 'ulimit -d');
}

function memoryRoom(limitName: string, usedName: string, command: string): Room | undefined {
  const limit = softLimit(limitName);
  const used = kiBOf(usedName);
  if (limit === undefined || used === undefined) return undefined;
  return { used: used * 1024, most: limit, limit: `${command} ${Math.floor(limit / 1024)}` };
}

function taskRoom(): Room | undefined {
  const ofContainer = containerTaskRoom();
  const ofUser = userTaskRoom();
  if (ofUser === undefined) return ofContainer;
  if (ofContainer === undefined) return ofUser;
  return ofUser.most - ofUser.used < ofContainer.most - ofContainer.used ? ofUser : ofContainer;
}

/**
 * Limit on the tasks (processes and threads) of this user, and the number of tasks that the user
 * has now. Undefined in two cases:
 *
 * - The limit is above `taskLimitMax`, so it is not checked.
 * - The user is root, or this process has the right to exceed limits. The system does not apply the
 *   limit to such a process [setrlimit(2)].
 */
function userTaskRoom(): Room | undefined {
  const most = softLimit('Max processes');
  if (most === undefined || most > taskLimitMax) return undefined;
  const uid = process.getuid === undefined ? 0 : process.getuid();
  if (uid === 0 || isPrivileged()) return undefined;
  return { used: tasksOf(uid), most, limit: `ulimit -u ${most}` };
}

/**
 * True if this process has the capability `CAP_SYS_ADMIN` or `CAP_SYS_RESOURCE` [capabilities(7)].
 */
function isPrivileged(): boolean {
  const found = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status'));
  if (found === null) return false;
  const high = Number.parseInt(String(found[1]).slice(-8, -4), 16);
  return (high & (1 << (21 - 16))) !== 0 || (high & (1 << (24 - 16))) !== 0;
}

function tasksOf(uid: number): number {
  let count = 0;
  for (const name of entries('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = read(`/proc/${name}/status`);
    const owner = /^Uid:\s*(\d+)/m.exec(status);
    const threads = /^Threads:\s*(\d+)/m.exec(status);
    if (owner !== null && threads !== null && Number(owner[1]) === uid) count += Number(threads[1]);
  }
  return count;
}

function containerTaskRoom(): Room | undefined {
  const groups = read('/proc/self/cgroup');
  const one = /^0::(\/.*)$/m.exec(groups);
  const several = /^\d+:(?:[^:]*,)?pids(?:,[^:]*)?:(\/.*)$/m.exec(groups);
  const folders = [
    ...(several === null ? [] : [`/sys/fs/cgroup/pids${several[1]}`, '/sys/fs/cgroup/pids']),
    ...(one === null ? [] : [`/sys/fs/cgroup${one[1]}`, '/sys/fs/cgroup']),
  ];
  for (const folder of folders) {
    const most = Number.parseInt(read(`${folder}/pids.max`), 10);
    const used = Number.parseInt(read(`${folder}/pids.current`), 10);
    if (most >= 0 && used >= 0) return { used, most, limit: `pids.max of its cgroup is ${most}` };
  }
  return undefined;
}

/**
 * Returns the soft limit `name` of this process from /proc/self/limits [proc_pid_limits(5)].
 * Returns undefined if the limit is `unlimited`, or if the system does not have that file.
 */
function softLimit(name: string): number | undefined {
  const line = read('/proc/self/limits')
    .split('\n')
    .find((it) => it.startsWith(name));
  const value = Number.parseInt(line === undefined ? '' : line.slice(name.length), 10);
  return Number.isFinite(value) ? value : undefined;
}

function kiBOf(name: string): number | undefined {
  const found = new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(read('/proc/self/status'));
  return found === null ? undefined : Number(found[1]);
}

/**
 * Returns the contents of a small file, or an empty string if the file cannot be read. For example,
 * systems other than Linux have no files in /proc.
 */
function read(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function entries(path: string): string[] {
  try {
    return fs.readdirSync(path);
  } catch {
    return [];
  }
}

/**
 * Returns advice to a user whose Node lacks a feature. If Node is too old, the advice is to install
 * a newer Node. Otherwise a flag has turned the feature off, and the advice is to start Node
 * without such flags. `which` describes these flags.
 */
function withoutFlags(which: string): string {
  if (!nodeVersion().ok) return 'install a newer Node';
  const flags = flagsInUse();
  const found = flags.length === 0 ? '' : `; the present flags are ${flags.slice(0, 4).join(' ')}`;
  return `start node without flags ${which}${found}`;
}

/** Returns the flags of this Node process, from its command line and from `NODE_OPTIONS`. */
function flagsInUse(): string[] {
  return [...process.execArgv, ...(process.env['NODE_OPTIONS'] || '').split(/\s+/)]
    .filter((it) => /^--[\w-]+/.test(it))
    .map((it) => it.slice(0, 40));
}

function inMiB(bytes: number): string {
  return `${Math.max(0, Math.floor(bytes / mib))} MiB`;
}

function listing(findings: readonly Finding[]): string[] {
  const width = Math.max(...findings.map((it) => it.name.length));
  return findings.map(({ ok, name, found, advice, expected }) => {
    const start = `${ok ? 'ok' : 'no'}  ${name.padEnd(width)}  `;
    return ok ? `${start}${found}` : `${start}expected ${expected}, found ${found}; ${advice}`;
  });
}

function start(voice: Voice, findings: readonly Finding[], load: () => Promise<unknown>): void {
  const missing = findings.find((it) => !it.ok);
  if (missing === undefined) {
    load().catch((error: unknown) => refuse(voice, loadError(error)));
    return;
  }
  const { code, expected, found, advice } = missing;
  const exitCode = code === 'unsupported-engine' ? 2 : code === 'io' ? 5 : 4;
  refuse(voice, { code, exitCode, message: `expected ${expected}, found ${found}; ${advice}` });
}

interface Refusal {
  readonly code: string;
  readonly exitCode: number;
  readonly message: string;
}

/** Converts an error from loading the files of a program to a message and an exit code. */
function loadError(error: unknown): Refusal {
  const why = String(error instanceof Error ? error.message : error).replace(/\s+/g, ' ');
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  const message = `the program could not be loaded: ${why.slice(0, 300)}`;
  if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND' || code === 'ENOENT') {
    return {
      code: 'io',
      exitCode: 5,
      message: `${message}; run npm ci, which installs and builds everything`,
    };
  }
  if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) {
    return { code: 'io', exitCode: 5, message };
  }
  if (flagsInUse().length === 0) {
    return { code: 'a mistake in pod itself, please report it', exitCode: 1, message };
  }
  // The files exist, and this Node is a supported version. So the cause must be a flag of Node, or
  // a module that a flag preloads.
  const advice = withoutFlags('that change Node');
  return { code: 'unsupported-engine', exitCode: 2, message: `${message}; ${advice}` };
}

function refuse(voice: Voice, { code, exitCode, message }: Refusal): void {
  process.exitCode = exitCode;
  if (voice.to === 'people') {
    process.stderr.write(`pod: ${code}: ${message}\n`);
    return;
  }
  const line = { level: 50, time: Date.now(), role: voice.role, code, msg: message };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const engine: Engine = { inspect, listing, start, taskRoom, addressRoom, dataRoom };
module.exports = engine;
