import type { IciPort } from '../../src/chip/ports.ts';
import type { StepOrder } from '../../src/pod/messages.ts';

/** A fault injected into the thread of a Cloud TPU in the middle of a step, for tests. */
export interface ThreadFault {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  /**
   * What the fault does. `throw` throws an error, `exit` ends the thread, and `block` makes the
   * thread wait for ever. `corrupt` flips a bit of a gradient's sum, so that this replica gets
   * wrong weights.
   */
  readonly kind: 'throw' | 'exit' | 'block' | 'corrupt';
  /**
   * Index of the thread, among all threads that the Cloud TPU has had, in which the fault is
   * injected. Default 0, the first thread; `every` means all of them.
   */
  readonly life?: number | 'every';
  /** Number of times the fault is injected if the same thread runs the step again. Default 1. */
  readonly times?: number;
  /** True if the fault is injected while the thread loads its programs, whatever `step` says. */
  readonly whileLoading?: boolean;
}

/** Returns the faults for thread number `life`, from 0, of Cloud TPU `tpu`. */
export function faultsOf(
  faults: readonly ThreadFault[],
  tpu: number,
  life: number,
): readonly ThreadFault[] {
  return faults.filter((it) => it.tpu === tpu && (it.life === 'every' || (it.life ?? 0) === life));
}

/**
 * Wraps an ICI port so that faults are injected during all-reduces. `throw`, `exit` and `block`
 * happen when the step of the fault starts its first all-reduce. `corrupt` happens when an
 * all-reduce of that step has finished: it calls `corrupt`, which flips a bit of the bucket's sum.
 * `present` returns the step that is running.
 */
export function withFaults(
  ici: IciPort,
  faults: readonly ThreadFault[],
  present: () => StepOrder,
  corrupt: (bucket: number) => void,
): IciPort {
  const left = faults.map(({ times }) => times ?? 1);
  const isDue = (kinds: readonly ThreadFault['kind'][]): ThreadFault | undefined => {
    const { program, step } = present();
    const index = faults.findIndex(
      (it, i) =>
        it.program === program && it.step === step && kinds.includes(it.kind) && left[i]! > 0,
    );
    if (index >= 0) left[index] = left[index]! - 1;
    return faults[index];
  };
  return {
    ...ici,
    start(bucket: number): void {
      const fault = isDue(['throw', 'exit', 'block']);
      if (fault !== undefined) trigger(fault.kind);
      ici.start(bucket);
    },
    finish(bucket: number): void {
      ici.finish(bucket);
      if (isDue(['corrupt']) !== undefined) corrupt(bucket);
    },
  };
}

/** Injects the fault that is planned for the loading of programs, if there is one. */
export function failWhileLoading(faults: readonly ThreadFault[]): void {
  const fault = faults.find(({ whileLoading }) => whileLoading);
  if (fault !== undefined) trigger(fault.kind);
}

function trigger(kind: ThreadFault['kind']): void {
  if (kind === 'throw') throw new Error('injected fault');
  if (kind === 'exit') process.exit(7);
  if (kind === 'block') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
