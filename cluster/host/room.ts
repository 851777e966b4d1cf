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
  requireAddresses(engine.addressRoom(), memoryAddresses + threads * threadAddresses, who);
  requireTasks(engine.taskRoom(), threads, who);
}

/** As {@link requireThreads}, for a process for each Cloud TPU, a master and a supervisor. */
export function requireProcesses(tpus: number): void {
  const who = `${tpus} Cloud TPUs`;
  requireAddresses(engine.addressRoom(), memoryAddresses + threadAddresses, 'a Cloud TPU');
  requireTasks(engine.taskRoom(), tpus * workerTasks + 2 * masterTasks, who);
}

/** Why another thread cannot be started in this process, if so. */
export function lackForThread(): PodError | undefined {
  try {
    requireAddresses(engine.addressRoom(), threadAddresses, 'another thread');
    requireTasks(engine.taskRoom(), 1, 'another thread');
    return undefined;
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
}

function requireAddresses(room: Room | undefined, needed: number, who: string): void {
  if (room === undefined || room.most - room.used >= needed) return;
  const expected = `${inGiB(needed)} of free addresses`;
  const found = `${inGiB(room.most - room.used)} (${room.limit})`;
  const advice = 'ulimit -v unlimited lifts the limit';
  throw new PodError('out-of-memory', `${who}: expected ${expected}, found ${found}; ${advice}`);
}

function requireTasks(room: Room | undefined, needed: number, who: string): void {
  if (room === undefined || room.most - room.used >= needed) return;
  const expected = `room for ${needed} more thread${needed === 1 ? '' : 's'}`;
  const found = `room for ${Math.max(0, room.most - room.used)} (${room.limit})`;
  const advice = 'raise the limit, or use fewer Cloud TPUs';
  throw new PodError('out-of-threads', `${who}: expected ${expected}, found ${found}; ${advice}`);
}

function inGiB(bytes: number): string {
  return `${(Math.max(0, bytes) / 2 ** 30).toFixed(1)} GiB`;
}
