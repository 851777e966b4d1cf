import { PodError } from '../../src/numerics/error.ts';
import type { Room } from './engine.cts';
import { engine } from './engine.ts';

const mib = 2 ** 20;
/**
 * Address space, in bytes, that must be free for one WebAssembly memory. Node reserves up to 10 GiB
 * for a memory of any size: 8 GiB cover all sums of a 32-bit address and a 32-bit offset, and up to
 * 2 GiB are guard pages. The remaining 0.5 GiB are for the heap of Node.
 */
const memoryAddresses = 10.5 * 2 ** 30;
/** Address space that Node reserves for the heap, code and stack of a thread, in bytes. */
const threadAddresses = 640 * mib;
/**
 * Memory, in bytes, that must be free under the limit `ulimit -d` before a run starts. A process
 * needs `runData`, plus `threadData` for each of its threads. Measured: a run takes 140 MiB with
 * the network `mlp` and 240 MiB with `cnn`, and each thread takes 25 MiB.
 */
const runData = 256 * mib;
const threadData = 40 * mib;
/**
 * `workerTasks`: number of threads of a worker process. `masterTasks`: number of threads of a
 * master process, and also of a supervisor process. Both numbers are measured.
 */
const workerTasks = 7;
const masterTasks = 9;

/**
 * Checks that the limits of the system allow this process to run `threads` threads. Node reserves
 * so much address space for each thread that it could otherwise end without a message. `who` says
 * in messages what needs the threads, such as "8 Cloud TPUs in one process".
 *
 * @throws PodError `out-of-memory` or `out-of-threads`.
 */
export function requireThreads(threads: number, who: string): void {
  const lack = lackForThreads(threads, who);
  if (lack !== undefined) throw lack;
}

/**
 * Returns undefined if the limits of the system allow this process to run `threads` threads.
 * Otherwise returns the error, which names the limit.
 */
export function lackForThreads(threads: number, who: string): PodError | undefined {
  return (
    lackOfAddresses(memoryAddresses + threads * threadAddresses, who) ??
    lackOfData(runData + threads * threadData, who) ??
    lackOfTasks(threads, who)
  );
}

/**
 * Returns undefined if the limits of the system allow this process to start one more thread.
 * Otherwise returns the error, which names the limit.
 */
export function threadLimitError(): PodError | undefined {
  const who = 'another thread';
  return (
    lackOfAddresses(threadAddresses, who) ?? lackOfData(threadData, who) ?? lackOfTasks(1, who)
  );
}

/**
 * Checks that the limits of the system allow a pod of processes: one process for each of `tpus`
 * Cloud TPUs, a master and a supervisor. The limits on memory apply to each process alone. So each
 * limit on memory is compared with what one worker process needs.
 *
 * @throws PodError `out-of-memory` or `out-of-threads`.
 */
export function requireProcesses(tpus: number): void {
  const lack =
    lackOfAddresses(memoryAddresses + threadAddresses, 'a Cloud TPU') ??
    lackOfData(runData + threadData, 'a Cloud TPU') ??
    lackOfTasks(tpus * workerTasks + 2 * masterTasks, `${tpus} Cloud TPUs`);
  if (lack !== undefined) throw lack;
}

function lackOfAddresses(needed: number, who: string): PodError | undefined {
  const room = engine.addressRoom();
  return lackOfMemory(needed, who, { room, what: 'address space', advice: 'ulimit -v unlimited' });
}

function lackOfData(needed: number, who: string): PodError | undefined {
  const room = engine.dataRoom();
  return lackOfMemory(needed, who, {
    room,
    what: 'memory for data',
    advice: 'ulimit -d unlimited',
  });
}

interface Memory {
  readonly room: Room | undefined;
  readonly what: string;
  readonly advice: string;
}

function lackOfMemory(
  needed: number,
  who: string,
  { room, what, advice }: Memory,
): PodError | undefined {
  if (room === undefined || room.most - room.used >= needed) return undefined;
  const expected = `${inGiB(needed)} of free ${what}`;
  const found = `${inGiB(room.most - room.used)} (${room.limit})`;
  return new PodError(
    'out-of-memory',
    `${who}: expected ${expected}, found ${found}; ${advice} lifts the limit`,
  );
}

function lackOfTasks(needed: number, who: string): PodError | undefined {
  const room = engine.taskRoom();
  if (room === undefined || room.most - room.used >= needed) return undefined;
  const expected = `room for ${needed} more thread${needed === 1 ? '' : 's'}`;
  const found = `room for ${Math.max(0, room.most - room.used)} (${room.limit})`;
  const advice = 'raise the limit, or use fewer Cloud TPUs';
  return new PodError('out-of-threads', `${who}: expected ${expected}, found ${found}; ${advice}`);
}

function inGiB(bytes: number): string {
  return `${(Math.max(0, bytes) / 2 ** 30).toFixed(1)} GiB`;
}
