import type { TrainEvent } from '../experiment/event.ts';
import { codeOf, messageOf } from '../numerics/error.ts';

/**
 * Version of the fields of {@link RunEvent}. Raise it if a change of the fields would make older
 * versions of this program misread the events. A new field alone is no reason to raise it.
 */
export const eventVersion = 1;

/**
 * An event of a run, as every sink of the run receives it. Log, progress, metrics, status, report
 * and run folder are made from these events and from nothing else.
 */
export type RunEvent = Numbered & RunFact;

/** Fields that `RunStream` adds to each {@link RunFact}. */
export interface Numbered {
  readonly v: typeof eventVersion;
  /** Number of the event, from 0. If a run has several masters, each master counts from 0. */
  readonly n: number;
  /** Number of the membership in which the event happened; absent before the first membership. */
  readonly generation?: number;
}

/** The content of an event, before it has a number. */
export type RunFact = TrainEvent | PodEvent | Failed;

/**
 * An event that the cluster tells. For example, a worker has joined, was lost or could not start; a
 * spare worker waits; or a connection was turned away.
 */
export interface PodEvent {
  readonly kind: 'pod';
  /**
   * Name of the event, such as `joined` or `worker-gone`. The log line of the event has it as
   * `msg`.
   */
  readonly msg: string;
  /** Level of the log line. */
  readonly level: 'info' | 'warn';
  /** The other fields of the log line. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The run ended with an error. */
export interface Failed {
  readonly kind: 'failed';
  /**
   * Code of the error. Null if the error has no code, which means a defect of this program. In the
   * record of a simulation the code is always null.
   */
  readonly code: string | null;
  readonly message: string;
}

/** An event as the run folder holds it. */
export type RecordedEvent = RunEvent & {
  /** Wall time, in ms since 1970, at which the event was told. */
  readonly time: number;
  /** Number of the master that told the event: 0 for the first master of the run, then 1, …. */
  readonly master: number;
};

/** Returns an event without its version and its number, if it has them. */
export function withoutNumber<T extends RunFact>(event: T): Omit<T, 'v' | 'n'> {
  const { v: _, n: __, ...rest } = event as T & Partial<Numbered>;
  return rest;
}

/** Returns the event that tells of `error`, the error that ended the run. */
export function failed(error: unknown): Failed {
  return { kind: 'failed', code: codeOf(error), message: messageOf(error) };
}

/** Kinds of events that can be told while the run is still being checked. */
const early: readonly RunFact['kind'][] = ['started', 'note', 'pod', 'failed'];

/**
 * True for an event that is told only after all checks of the run have passed. From then on the run
 * may change its files.
 */
export function isUnderWay({ kind }: RunFact): boolean {
  return !early.includes(kind);
}
