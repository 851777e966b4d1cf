import type { SeenEvent } from '../fault/seen.ts';
import { parseJson } from '../files/json.ts';
import { eventSchema } from '../run/schema.ts';
import { seenOf, type Told } from './chaos-observation.ts';
import { LogTail } from './log-tail.ts';

/** Time, in ms, between two looks at the record of a run for new events. */
export const lookMs = 100;

/** Tells the events of a record while a run appends them, and keeps them. */
export class Follower {
  readonly told: Told[] = [];
  readonly #tail: LogTail;
  readonly #tell: (event: SeenEvent) => void;
  readonly #copy: (line: string) => void;

  /** `copy` is called with each line of the record before its event is told. */
  constructor(
    path: string,
    tell: (event: SeenEvent) => void,
    copy: (line: string) => void = () => undefined,
  ) {
    this.#tail = new LogTail(path);
    this.#tell = tell;
    this.#copy = copy;
  }

  /** Tells the events that were appended since the last call. */
  look(): void {
    for (const line of this.#tail.lines()) {
      this.#copy(line);
      const event = eventSchema.parse(parseJson(line));
      const it: Told = { ms: event.time, event };
      this.told.push(it);
      const seen = seenOf(it);
      if (seen !== undefined) this.#tell(seen);
    }
  }
}
