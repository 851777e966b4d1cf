import type { IciPort } from '../../src/chip/ports.ts';
import type { StepOrder } from '../../src/pod/messages.ts';

/** What befalls the thread of a Cloud TPU in the middle of a step, once in its life: for tests. */
export interface ThreadFault {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  /** `corrupt` flips a bit of a gradient's sum: the weights of this replica come out wrong. */
  readonly kind: 'throw' | 'exit' | 'block' | 'corrupt';
  /** Which thread in turn it befalls, from 0, or every one; the first unless given. */
  readonly life?: number | 'every';
  /** How often, when the step is run again in the same life; once unless given. */
  readonly times?: number;
  /** When its programs are being loaded, whatever the step. */
  readonly whileLoading?: boolean;
}

/** The faults that befall this life of a Cloud TPU. */
export function faultsOf(
  faults: readonly ThreadFault[],
  tpu: number,
  life: number,
): readonly ThreadFault[] {
  return faults.filter((it) => it.tpu === tpu && (it.life === 'every' || (it.life ?? 0) === life));
}

/**
 * The same port, until a fault's step starts its first all-reduce, or ends it if it is to be
 * corrupted. `corrupt` flips a bit of the sum of a bucket.
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

/** Lets what befalls a thread that loads happen. */
export function failWhileLoading(faults: readonly ThreadFault[]): void {
  const fault = faults.find(({ whileLoading }) => whileLoading);
  if (fault !== undefined) trigger(fault.kind);
}

function trigger(kind: ThreadFault['kind']): void {
  if (kind === 'throw') throw new Error('injected fault');
  if (kind === 'exit') process.exit(7);
  if (kind === 'block') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
