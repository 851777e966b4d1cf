import type { IciPort } from '../../src/chip/ports.ts';
import type { StepOrder } from '../../src/pod/messages.ts';

/** A fault injected into the thread of a Cloud TPU in the middle of a step, for tests. */
export interface ThreadFault {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  /**
   * Kind of the fault. `throw` throws an error, `exit` ends the thread, and `block` makes the
   * thread wait for ever. `corrupt` flips a bit of a summed gradient, so that this Cloud TPU gets
   * wrong weights.
   */
  readonly kind: 'throw' | 'exit' | 'block' | 'corrupt';
  /**
   * Number of the thread in which the fault is injected: 0 is the first thread of the Cloud TPU, 1
   * is its first replacement, and so on. Default 0. `every` injects the fault in all of these
   * threads.
   */
  readonly life?: number | 'every';
  /**
   * How many times the fault is injected in the same thread, which may run the step more than once.
   * Default 1.
   */
  readonly times?: number;
  /**
   * True if the fault is injected while the thread loads its programs. `program` and `step` are
   * then ignored.
   */
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
 * Wraps an ICI port so that faults are injected during all-reduces. `present` returns the running
 * step. Faults of the kinds `throw`, `exit` and `block` are injected when their step starts its
 * first all-reduce. A `corrupt` fault is injected when an all-reduce of its step has finished: the
 * wrapper calls the function `corrupt`, which flips a bit of the bucket's sum.
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
