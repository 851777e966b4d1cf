import type { StepCommitted } from './event.ts';

/** Records of the earlier masters of a run, from the commit log. */
export interface EarlierMasters {
  /**
   * Number of the last *generation* of the earlier masters; 0 if there were none. A new generation
   * begins each time a master decides which workers run the slice.
   */
  readonly generation: number;
  /** The committed steps, in order. The run continues after the last committed step. */
  readonly history: readonly StepCommitted[];
  /**
   * Number of recoveries from the loss of a Cloud TPU or of a master, up to the last committed
   * step.
   */
  readonly recoveries: number;
}

/** Records for a run that has had no earlier master. */
export const noPast: EarlierMasters = { generation: 0, history: [], recoveries: 0 };
