import { PodError } from '../../src/numerics/error.ts';
import type { Room } from './engine.cts';
import { engine } from './engine.ts';

const mib = 2 ** 20;
/**
 * Addresses that the engine reserves for a shared memory of any size, in bytes: 8 GiB for what 32
 * bits can name with an offset, up to 2 GiB of guards, and some for its own heap.
 */
const memoryAddresses = 10.5 * 2 ** 30;
/** Addresses that the engine reserves for a thread: its heap, its code and its stack, in bytes. */
const threadAddresses = 640 * mib;
/**
 * Data, in the sense of `ulimit -d`, that a small run takes besides its threads, and that a thread takes,
 * in bytes: 140 and 25 MiB were measured with the network mlp, 240 with cnn.
 */
const runData = 256 * mib;
const threadData = 40 * mib;
/** Threads of a worker and of a master or supervisor on this machine; measured. */
const workerTasks = 7;
const masterTasks = 9;

/**
 * Refuses to start threads in this process where they could not all be started: the engine reserves
 * many addresses, and where a limit of the system does not allow that, it ends without a word.
 *
 * @throws PodError `out-of-memory` or `out-of-threads`.
 */
export function requireThreads(threads: number, who: string): void {
  const lack = lackForThreads(threads, who);
  if (lack !== undefined) throw lack;
}

/** Why a run with so many threads cannot be started in this process, if so. */
export function lackForThreads(threads: number, who: string): PodError | undefined {
  return (
    lackOfAddresses(memoryAddresses + threads * threadAddresses, who) ??
    lackOfData(runData + threads * threadData, who) ??
    lackOfTasks(threads, who)
  );
}

/** Why another thread cannot be started in this process, if so. */
export function lackForThread(): PodError | undefined {
  const who = 'another thread';
  return (
    lackOfAddresses(threadAddresses, who) ?? lackOfData(threadData, who) ?? lackOfTasks(1, who)
  );
}

/** As {@link requireThreads}, for a process for each Cloud TPU, a master and a supervisor. */
export function requireProcesses(tpus: number): void {
  const lack =
    lackOfAddresses(memoryAddresses + threadAddresses, 'a Cloud TPU') ??
    lackOfData(runData + threadData, 'a Cloud TPU') ??
    lackOfTasks(tpus * workerTasks + 2 * masterTasks, `${tpus} Cloud TPUs`);
  if (lack !== undefined) throw lack;
}

function lackOfAddresses(needed: number, who: string): PodError | undefined {
  const room = engine.addressRoom();
  return lackOfMemory(needed, who, { room, what: 'addresses', advice: 'ulimit -v unlimited' });
}

function lackOfData(needed: number, who: string): PodError | undefined {
  const room = engine.dataRoom();
  return lackOfMemory(needed, who, { room, what: 'data', advice: 'ulimit -d unlimited' });
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
