import { eventVersion, type RunEvent, type RunFact } from './event.ts';

/** A receiver of all events of a run, such as a log, a display or a file. */
export interface Sink {
  take(event: RunEvent): void;
  /** Called once after the last event. */
  end?(): void;
}

/**
 * The stream of the events of a run. It numbers each event and passes the event to every sink. All
 * sinks receive the same events in the same order.
 */
export class RunStream {
  readonly #sinks: readonly Sink[];
  readonly #waiting: RunEvent[] = [];
  #told = 0;
  /** Number of the present membership; undefined before the first membership. */
  generation: number | undefined;

  /** An event reaches the sinks in the order of `sinks`. */
  constructor(sinks: readonly Sink[]) {
    this.#sinks = sinks;
  }

  /**
   * Gives the next event to every sink. If a sink calls `tell` while it takes an event, the new
   * event waits until all sinks have taken the earlier event. If a sink throws, `tell` throws that
   * error, and the later sinks do not get the event.
   */
  tell(fact: RunFact): void {
    if (this.#waiting.push(this.#numbered(fact)) > 1) return;
    try {
      for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
        for (const sink of this.#sinks) sink.take(next);
        this.#waiting.shift();
      }
    } finally {
      this.#waiting.length = 0;
    }
  }

  /** Ends all sinks. */
  end(): void {
    for (const sink of this.#sinks) sink.end?.();
  }

  #numbered(fact: RunFact): RunEvent {
    const generation = generationIn(fact) ?? this.generation;
    const n = this.#told++;
    return { v: eventVersion, n, ...(generation !== undefined && { generation }), ...fact };
  }
}

/** Returns the number of the membership that an event itself names; undefined if it names none. */
function generationIn(fact: RunFact): number | undefined {
  if (fact.kind === 'note') return fact.note.generation;
  const named = fact.kind === 'pod' ? fact.fields['generation'] : undefined;
  return typeof named === 'number' ? named : undefined;
}
