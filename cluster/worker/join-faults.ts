import { Injector } from '../../src/fault/injector.ts';
import { isJoinFault } from '../../src/fault/plan.ts';
import { fileLedger, readFaults } from '../runtime/fault-file.ts';

/** Faults that a plan has for the first join of a worker's process. */
export interface JoinFaults {
  /** Time, in ms, that the worker waits before it connects to the master. */
  readonly lateMs: number;
  /** True if a connection of another protocol version is opened before the worker connects. */
  readonly hasWrongVersion: boolean;
  /** True if the worker joins a second time, while its first connection lives. */
  readonly isTwice: boolean;
}

/**
 * Returns the faults that the plan of this run has for the first join of Cloud TPU `tpu`, and
 * records them as injected. A worker that replaces an earlier one gets none, because each fault
 * takes effect once. `tpu` is undefined if the master is to choose the Cloud TPU; a plan then has no
 * faults of joins.
 */
export function joinFaultsOf(
  tpu: number | undefined,
  env: Readonly<Record<string, string | undefined>>,
): JoinFaults {
  const file = readFaults(env);
  const planned = (file?.faults ?? []).flatMap((fault, index) =>
    isJoinFault(fault) && fault.tpu === tpu ? [{ index, fault }] : [],
  );
  if (file === undefined || planned.length === 0) return none;
  const injector = new Injector(planned, fileLedger(file.ledger));
  const due = injector.reached({ kind: 'membership', phase: 'joining', generation: 1 });
  const kinds = due.map(({ fault }) => fault.fault);
  return {
    lateMs: due.reduce((sum, { fault }) => sum + ('ms' in fault ? (fault.ms ?? 0) : 0), 0),
    hasWrongVersion: kinds.includes('wrong-version'),
    isTwice: kinds.includes('join-twice'),
  };
}

const none: JoinFaults = { lateMs: 0, hasWrongVersion: false, isTwice: false };
