import type { StepCommitted } from './event.ts';

/** What earlier masters of the same run have written down. */
export interface Past {
  /** The last membership that there was; 0 for none. */
  readonly generation: number;
  /** The steps that were committed, in order. The run stands after the last of them. */
  readonly history: readonly StepCommitted[];
  /** How often the run went on after a loss, of a Cloud TPU or of its master, before the last of them. */
  readonly recoveries: number;
}

/** Nothing has happened before. */
export const noPast: Past = { generation: 0, history: [], recoveries: 0 };
