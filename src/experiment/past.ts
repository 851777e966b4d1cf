import type { StepCommitted } from './event.ts';

/** What the commit log records about the earlier masters of a run. */
export interface EarlierMasters {
  /** Generation of the last membership; 0 if there was none. */
  readonly generation: number;
  /** The committed steps, in order. The run continues after the last of them. */
  readonly history: readonly StepCommitted[];
  /**
   * Number of recoveries from the loss of a Cloud TPU or of a master, up to the last committed
   * step.
   */
  readonly recoveries: number;
}

/** The past of a run that has had no master yet. */
export const noPast: EarlierMasters = { generation: 0, history: [], recoveries: 0 };
