import type { RecordedEvent } from '../run/event.ts';

/** A range of times, in ms since the first event of the run. */
export interface Period {
  readonly from: number;
  readonly to: number;
}

/** Longest time from one event to the next, in ms: ten years. A longer time counts as ten years. */
const stepMsMax = 3.2e11;

/**
 * Clock of a recorded run: converts the wall times of its events to times in ms since the first
 * event. A wall clock may be set back; then an event has an earlier wall time than the event before
 * it. Between these two events no time passes on this clock.
 */
export class RunClock {
  readonly #elapsed: readonly number[];
  /** For each event, the latest wall time of this event and all events before it, in ms. */
  readonly #latest: readonly number[];
  readonly #masters: readonly number[];

  constructor(events: readonly Pick<RecordedEvent, 'time' | 'master'>[]) {
    const elapsed: number[] = [];
    const latest: number[] = [];
    for (const [i, { time }] of events.entries()) {
      const passed = i === 0 ? 0 : time - (events[i - 1]?.time ?? time);
      elapsed.push((elapsed[i - 1] ?? 0) + Math.min(stepMsMax, Math.max(0, passed)));
      latest.push(Math.max(latest[i - 1] ?? time, time));
    }
    this.#elapsed = elapsed;
    this.#latest = latest;
    this.#masters = events.map(({ master }) => master);
  }

  /** Returns the time of the event at `index`, in ms since the first event. */
  at(index: number): number {
    return this.#elapsed[index] ?? 0;
  }

  /** Converts a wall time, in ms, to the time in ms since the first event. */
  since(time: number): number {
    const before = lastAtMost(this.#latest, time);
    if (before < 0) return 0;
    const passed = time - (this.#latest[before] ?? time);
    const room = this.at(Math.min(before + 1, this.#elapsed.length - 1)) - this.at(before);
    return this.at(before) + Math.min(passed, room);
  }

  /**
   * Returns the periods in which the masters of the run told events. Between two masters there is a
   * pause. If the pause is longer than a quarter of the time of all masters together, it separates
   * two periods; otherwise it is a part of one period.
   */
  periods(): readonly Period[] {
    const ofMasters: Period[] = [];
    for (const [i, master] of this.#masters.entries()) {
      const last = ofMasters.at(-1);
      if (last === undefined || master !== this.#masters[i - 1]) {
        ofMasters.push({ from: this.at(i), to: this.at(i) });
      } else ofMasters[ofMasters.length - 1] = { from: last.from, to: this.at(i) };
    }
    const active = ofMasters.reduce((sum, { from, to }) => sum + to - from, 0);
    return joined(ofMasters, active / 4);
  }
}

/**
 * Joins two successive periods if the pause between them is at most `pauseMs`. Returns one empty
 * period for an empty list.
 */
function joined(periods: readonly Period[], pauseMs: number): readonly Period[] {
  const all: Period[] = [];
  for (const period of periods) {
    const last = all.at(-1);
    if (last === undefined || period.from - last.to > pauseMs) all.push(period);
    else all[all.length - 1] = { from: last.from, to: period.to };
  }
  return all.length === 0 ? [{ from: 0, to: 0 }] : all;
}

/**
 * Returns the index of the last element of a sorted list that is at most `value`; -1 if there is no
 * such element.
 */
function lastAtMost(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
