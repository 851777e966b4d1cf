import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { Grid } from '../../src/fabric/torus.ts';
import { type Due, dueAt, type Ledger } from '../../src/fault/injector.ts';
import { type Fault, isLinkFault } from '../../src/fault/plan.ts';
import { greetRunner } from '../containers/request.ts';

/** Environment variable with the path of a file of faults. Set only while a fault plan runs. */
export const faultsVariable = 'POD_FAULTS';

/** Contents of a file of faults, as JSON. */
export interface FaultFile {
  readonly faults: readonly Fault[];
  /** Path of the ledger: a file to which workers append a line for each fault that they inject. */
  readonly ledger: string;
  /**
   * Folder through which workers in containers ask `pod chaos run`, which runs outside of the
   * containers, to inject faults. Absent for other kinds of pods.
   */
  readonly requests?: string;
}

/**
 * Reads the file of faults that the variable {@link faultsVariable} names. Returns undefined if
 * this variable is not set. In a container, also tells `pod chaos run` that the file was read.
 */
export function readFaults(
  env: Readonly<Record<string, string | undefined>>,
): FaultFile | undefined {
  const path = env[faultsVariable];
  if (path === undefined) return undefined;
  const file = JSON.parse(readFileSync(path, 'utf8')) as FaultFile;
  if (file.requests !== undefined) greetRunner(file.requests);
  return file;
}

/**
 * The faults of a file that concern one Cloud TPU, and the paths `ledger` and `requests` of the
 * file.
 */
export type FaultsOfTpu = Omit<FaultFile, 'faults'> & { readonly faults: readonly Due[] };

/** Returns the faults of a file for one Cloud TPU; undefined if the file has none for it. */
export function faultsFor(tpu: number, grid: Grid, file: FaultFile): FaultsOfTpu | undefined {
  const due = dueAt(tpu, file.faults, grid);
  return due.length === 0 ? undefined : { ...file, faults: due };
}

/** True if the file has a fault of a link, whichever Cloud TPU the link belongs to. */
export function breaksLinks({ faults }: FaultFile): boolean {
  return faults.some(isLinkFault);
}

/**
 * Returns a ledger, the record of the injected faults. It is a file that all processes of a pod
 * share. Each line has the index of a fault and the time of its injection, in ms. The line is
 * written before the fault takes effect. So the ledger also has the faults that kill the process.
 */
export function fileLedger(path: string): Ledger {
  return {
    has: (index) => readLedger(path).some((it) => it.index === index),
    record(index) {
      appendFileSync(path, `${index} ${absoluteMs()}\n`);
    },
  };
}

/** Returns the injections of a ledger file, in order. A file that does not exist has none. */
export function readLedger(
  path: string,
): readonly { readonly index: number; readonly ms: number }[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  return lines.map((line) => {
    const [index, ms] = line.split(' ').map(Number);
    return { index: index ?? 0, ms: ms ?? 0 };
  });
}

/** Returns the time, in ms, on a clock that all threads and processes of the machine share. */
export function absoluteMs(): number {
  return performance.timeOrigin + performance.now();
}
