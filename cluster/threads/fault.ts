import type { IciPort } from '../../src/chip/ports.ts';
import type { StepOrder } from '../../src/pod/messages.ts';

/** What befalls the thread of a Cloud TPU in the middle of a step: for tests. */
export interface ThreadFault {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  readonly kind: 'throw' | 'exit' | 'block';
}

/** The same port, until the fault's step starts its first all-reduce. */
export function withFault(ici: IciPort, fault: ThreadFault, present: () => StepOrder): IciPort {
  return {
    ...ici,
    start(bucket: number): void {
      const { program, step } = present();
      if (program === fault.program && step === fault.step) strike(fault.kind);
      ici.start(bucket);
    },
  };
}

function strike(kind: ThreadFault['kind']): void {
  if (kind === 'throw') throw new Error('injected fault');
  if (kind === 'exit') process.exit(7);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
