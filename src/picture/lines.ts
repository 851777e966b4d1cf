import { axisBelow, axisLeft, axisPx, chartRange, type Frame, picture } from './frame.ts';
import { type LegendEntry, legend } from './legend.ts';
import { type Element, element, hint, px } from './markup.ts';
import type { Tone } from './palette.ts';
import type { Interval, Scale } from './scale.ts';

/** A picture of values along an axis, as one line or several. */
export interface LineChart extends Frame {
  /** `x` and `y` are the scales along X and Y. Their ranges are those of {@link lineRange}. */
  readonly x: Scale;
  readonly y: Scale;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
}

/** A line and its meaning. */
export interface Series {
  readonly label: string;
  readonly tone: Tone;
  /** `dots` draws each point on its own. Default: `line`. */
  readonly form?: 'line' | 'dots';
  readonly points: readonly Point[];
}

/** A point of a line. A point whose value is not finite makes a gap in the line. */
export interface Point {
  readonly x: number;
  readonly y: number;
  /** Text that is shown while the pointer is over a dot. */
  readonly hint?: string;
}

/**
 * Coordinates at which a {@link LineChart} begins and ends along X and Y, in px. The range of Y
 * goes from the bottom of the chart to its top.
 */
export const lineRange: { readonly x: Interval; readonly y: Interval } = {
  x: chartRange,
  y: { from: 220, to: 28 },
};

/** Draws a chart of lines. */
export function lineChart(chart: LineChart): Element {
  const { id, x, y, series } = chart;
  const bottom = lineRange.y.from;
  const entries = series.map(({ label, tone, form }): LegendEntry => {
    return { mark: { tone, shape: form === 'dots' ? 'circle' : 'square' }, text: label };
  });
  const key = legend(id, entries, chartRange.from, bottom + axisPx);
  return picture(
    chart,
    bottom + axisPx + key.height + 4,
    axisLeft(y, lineRange.x.from, lineRange.x.to, chart.yLabel),
    axisBelow(x, bottom, lineRange.y.to, chart.xLabel),
    ...series.flatMap((it) => (it.form === 'dots' ? dotsOf(it, chart) : [lineOf(it, chart)])),
    key.drawn,
  );
}

function lineOf({ tone, points, label }: Series, { x, y }: LineChart): Element {
  let pen = 'M';
  const parts = points.map((point) => {
    if (!isFinitePoint(point)) {
      pen = 'M';
      return '';
    }
    const part = `${pen}${px(x.at(point.x))} ${px(y.at(point.y))}`;
    pen = 'L';
    return part;
  });
  const line = element('path', { class: `line stroke-${tone}`, d: parts.join('') });
  return element('g', {}, hint(label), line);
}

function dotsOf({ tone, points, label }: Series, { x, y }: LineChart): readonly Element[] {
  return points.filter(isFinitePoint).map((point) => {
    const place = { cx: x.at(point.x), cy: y.at(point.y), r: 3.5 };
    return element(
      'g',
      {},
      hint(point.hint ?? label),
      element('circle', { class: `mark ${tone}`, ...place }),
    );
  });
}

function isFinitePoint({ x, y }: Point): boolean {
  return Number.isFinite(x) && Number.isFinite(y);
}
