import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Due } from '../../src/fault/injector.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { draftBeside } from '../../src/files/write.ts';
import { PodError } from '../../src/numerics/error.ts';
import { blockThread } from '../host/block-thread.ts';

/**
 * Faults that a worker in a container cannot inject itself. The worker asks the *runner*, which is
 * the command `pod chaos run` outside of the containers, to inject them with Docker.
 */
const outsideFaults = [
  'kill',
  'pause',
  'partition',
  'master-kill',
  'master-pause',
  'master-cut-off',
] as const;

/** A fault of one of these kinds. */
export type OutsideFault = Fault & { readonly fault: (typeof outsideFaults)[number] };

/** True if the runner injects the fault into a pod of containers. */
export function isOutside(fault: Fault): fault is OutsideFault {
  return (outsideFaults as readonly string[]).includes(fault.fault);
}

/** A worker in a container asks the runner to inject a fault, and stands still meanwhile. */
export interface Request {
  /** Index of the fault in the plan. */
  readonly index: number;
  /** Name of the worker's machine: the first digits of the id of its container. */
  readonly host: string;
}

/** Longest time, in ms, that a worker waits until a fault that it has asked for is injected. */
const answerMsLimit = 60_000;
/** Time, in ms, after which a waiting worker looks again for the answer. */
const lookMs = 5;

/**
 * Asks the runner to inject those of the faults that it injects, and stands still until it has done
 * so. Returns the other faults. `folder` is the folder that the container shares with the runner;
 * outside of a container it is undefined, and nothing is asked.
 *
 * @throws PodError `worker-silent` if the runner does not answer in time.
 */
export function askOutside(folder: string | undefined, due: readonly Due[]): readonly Due[] {
  if (folder === undefined) return due;
  const outside = due.filter(({ fault }) => isOutside(fault));
  if (outside.length > 0) askRunner(folder, outside);
  return due.filter(({ fault }) => !isOutside(fault));
}

/** Asks for all faults before it waits for one, because the first may end the worker. */
function askRunner(folder: string, due: readonly Due[]): void {
  for (const { index } of due) post(folder, `ask-${index}`, { index, host: hostname() });
  const deadlineMs = performance.now() + answerMsLimit;
  for (const { index } of due) {
    while (!existsSync(join(folder, `done-${index}`))) {
      if (performance.now() > deadlineMs) throw unanswered(index);
      blockThread(lookMs);
    }
  }
}

function unanswered(index: number): PodError {
  const expected = `pod chaos run to inject it within ${answerMsLimit / 1000} s`;
  return new PodError(
    'worker-silent',
    `fault ${index} of the plan: expected ${expected}, found no answer; end this pod (pod chaos heal)`,
  );
}

/** Returns the requests in the shared folder that are not in `known` yet. */
export function newRequests(folder: string, known: ReadonlySet<number>): readonly Request[] {
  return readdirSync(folder).flatMap((name) => {
    const index = Number(/^ask-(\d{1,9})$/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(index) || known.has(index)) return [];
    const { host } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Request;
    return [{ index, host: String(host) }];
  });
}

/** Tells the worker that asked for a fault that it may go on. */
export function answerRequest(folder: string, index: number): void {
  post(folder, `done-${index}`, {});
}

/**
 * Tells the command `pod chaos run` that this worker knows faults that are injected from outside.
 * Workers of an older image do not tell it, and the command then ends with an error.
 */
export function greetRunner(folder: string): void {
  post(folder, `here-${hostname()}`, {});
}

/** True if a worker has called {@link greetRunner}. */
export function hasGreeting(folder: string): boolean {
  return readdirSync(folder).some((name) => name.startsWith('here-'));
}

/** Writes a file of the shared folder in one piece, so that no reader finds a part of it. */
function post(folder: string, name: string, value: object): void {
  const path = join(folder, name);
  const draft = draftBeside(path);
  writeFileSync(draft, JSON.stringify(value));
  renameSync(draft, path);
}
