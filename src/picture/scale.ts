import { scaleLinear, scaleLog } from 'd3-scale';
import { assert, at } from '../numerics/assert.ts';

/** A range of numbers: of data, or of coordinates in px. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

/** A value that an axis labels. */
export interface Tick {
  /** Coordinate of the value, in px. */
  readonly at: number;
  readonly label: string;
}

/** A mapping from values of the data to coordinates. */
export interface Scale {
  /** Range of the coordinates, in px. */
  readonly range: Interval;
  /**
   * Returns the coordinate of a value, in px. A value below the smallest value of the scale gets
   * the coordinate of the smallest value. A value above the largest gets that of the largest.
   */
  readonly at: (value: number) => number;
  /** Values for an axis, in increasing order. */
  readonly ticks: readonly Tick[];
  /**
   * Coordinates, in px, of the centres of the cuts. A cut is a place on the axis that stands for
   * values that the scale leaves out.
   */
  readonly cuts: readonly number[];
}

/** Smallest distance between two labels of an axis along X, in px. */
const labelPx = 70;

/** Returns a linear scale with about `count` labels. */
export function linearScale(values: Interval, range: Interval, count?: number): Scale {
  const scale = scaleLinear(pair(values), pair(range)).clamp(true);
  const wanted = count ?? Math.max(2, Math.floor(Math.abs(range.to - range.from) / labelPx));
  const format = scale.tickFormat(wanted);
  const labelled = isPoint(values) ? [values.from] : scale.ticks(wanted);
  const ticks = labelled.map((value) => ({ at: scale(value), label: format(value) }));
  return { range, at: (value) => scale(finite(value)), ticks, cuts: [] };
}

/**
 * True if the two ends of the interval are equal or almost equal. For such an interval, d3-scale
 * fails or returns endless lists of labels.
 */
function isPoint({ from, to }: Interval): boolean {
  return Math.abs(to - from) <= 1e-9 * Math.max(1e-6, Math.abs(from), Math.abs(to));
}

/**
 * Returns a logarithmic scale of positive values. A value that is not positive gets the coordinate
 * of the smallest value of the scale. Labels are at 1, 2 and 5 times powers of ten. If these are
 * more than nine, labels are at powers of ten only.
 */
export function logScale(values: Interval, range: Interval): Scale {
  assert(values.from > 0 && values.to > 0, 'a logarithmic scale has positive values');
  const scale = scaleLog(pair(values), pair(range)).clamp(true);
  const all = scale.ticks().filter((value) => [1, 2, 5].includes(mantissa(value)));
  const shown = all.length <= 9 ? all : all.filter((value) => mantissa(value) === 1);
  const ticks = shown.map((value) => ({ at: scale(value), label: String(value) }));
  return { range, at: (value) => scale(Math.max(values.from, finite(value))), ticks, cuts: [] };
}

/** Units in which labels can state times, each with its length in ms. */
const units = [
  { name: 'ms', ms: 1 },
  { name: 's', ms: 1000 },
  { name: 'min', ms: 60_000 },
  { name: 'h', ms: 3_600_000 },
] as const;

/** A scale of times. */
export interface TimeScale extends Scale {
  /** Unit of the labels. */
  readonly unit: (typeof units)[number]['name'];
}

/**
 * Width, in px, of a cut. A cut is a place on the axis that stands for times that the scale leaves
 * out.
 */
const cutPx = 14;

/**
 * Returns a scale of times in ms. The scale shows the periods `pieces`, in order, and leaves out
 * the times between two periods. A cut on the axis stands for these times. One ms has the same
 * length in all periods.
 */
export function timeScale(pieces: readonly Interval[], range: Interval): TimeScale {
  assert(pieces.length > 0, 'a time scale has at least one piece');
  const total = pieces.reduce((sum, { from, to }) => sum + to - from, 0);
  const unit = units.findLast((it) => total >= 3 * it.ms) ?? units[0];
  const width = Math.max(0, range.to - range.from - cutPx * (pieces.length - 1));
  let left = range.from;
  const parts = pieces.map(({ from, to }) => {
    const share = total > 0 ? (to - from) / total : 1 / pieces.length;
    const right = Math.min(range.to, left + width * share);
    const values = { from: from / unit.ms, to: to / unit.ms };
    const scale = linearScale(values, { from: left, to: right }, (right - left) / labelPx);
    left = Math.min(range.to, right + cutPx);
    return { from, to, scale };
  });
  const at = (ms: number): number => {
    const part = parts.find(({ to }) => finite(ms) <= to) ?? parts.at(-1);
    return part?.scale.at(ms / unit.ms) ?? range.from;
  };
  const cuts = parts.slice(1).map(({ scale }) => scale.range.from - cutPx / 2);
  return { range, at, ticks: parts.flatMap((it) => it.scale.ticks), unit: unit.name, cuts };
}

function pair({ from, to }: Interval): [number, number] {
  return [finite(from), finite(to)];
}

function finite(value: number): number {
  assert(Number.isFinite(value), `expected a finite number, found ${value}`);
  return value;
}

/** Returns the digit d of a number d·10^n, where d is from 1 to 9 and n is a whole number. */
function mantissa(value: number): number {
  return Number(at(value.toExponential().split('e'), 0));
}
