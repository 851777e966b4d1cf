import type { TrainEvent } from '../experiment/event.ts';
import { codeOf, messageOf } from '../numerics/error.ts';

/**
 * Version of the fields of {@link RunEvent}. A change of the fields must raise the version if older
 * versions of this program would misread the changed events. An additional field does not raise it.
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
  /** Number of the membership to which the event belongs; absent if there is none yet. */
  readonly generation?: number;
}

/** The content of an event, before it has a number. */
export type RunFact = TrainEvent | PodEvent | Failed;

/**
 * An event of the cluster. It tells that a worker has joined, was lost or could not start, that a
 * spare worker waits, that a connection was turned away, or what a master found in its commit log.
 */
export interface PodEvent {
  readonly kind: 'pod';
  /** Name of the event, which is the `msg` of its log line: `joined`, `worker-gone`. */
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
   * Code of the error; null for an error without a code, which is a defect of this program. In the
   * record of a simulation it is always null.
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

/** Makes the event of an error that ended the run. */
export function failed(error: unknown): Failed {
  return { kind: 'failed', code: codeOf(error), message: messageOf(error) };
}

/** Kinds of events that can be told before the last check of the run has passed. */
const early: readonly RunFact['kind'][] = ['started', 'note', 'pod', 'failed'];

/**
 * True for an event that is told only after all checks of the run have passed. Once such an event
 * is told, the files of the run may be changed.
 */
export function isUnderWay({ kind }: RunFact): boolean {
  return !early.includes(kind);
}
