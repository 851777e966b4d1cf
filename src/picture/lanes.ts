import { axisBelow, axisPx, chartRange, type Frame, picture, pictureWidth } from './frame.ts';
import { type LegendEntry, legend } from './legend.ts';
import { type Element, element, hint, type Markup, px } from './markup.ts';
import type { Scale } from './scale.ts';
import { type MarkLook, markAt, markRadius } from './shape.ts';
import { type SpanLook, spanBox, stripes } from './span.ts';

/**
 * A picture of things that happen along an axis. The lanes (rows) lie below each other. Spans are
 * drawn in the order of the list, so a later span covers an earlier one. Marks are drawn over all
 * spans.
 */
export interface LaneChart extends Frame {
  /** Labels of the lanes. */
  readonly lanes: readonly string[];
  readonly spans: readonly Span[];
  readonly marks: readonly Mark[];
  /** Scale along X. Its range lies within {@link chartRange}. */
  readonly x: Scale;
  readonly xLabel: string;
  readonly legend: readonly LegendEntry[];
}

/** Something that lasts, in one lane or in several lanes that follow each other. */
export interface Span {
  readonly firstLane: number;
  /** Default: `firstLane`. */
  readonly lastLane?: number;
  readonly from: number;
  readonly to: number;
  readonly look: SpanLook;
  /** Text that is shown while the pointer is over the span. */
  readonly hint: string;
  /** Place on the page to which a click on the span leads, without `#`. */
  readonly target?: string;
  /** Short text inside the span. It is left out if the span is too narrow for it. */
  readonly label?: string;
}

/** Something that happens at one value of the axis. */
export interface Mark {
  readonly lane: number;
  readonly at: number;
  readonly look: MarkLook;
  readonly hint: string;
}

const top = 8;
/** Smallest width of a drawn span, in px. A narrower span gets this width. */
const narrowest = 0.75;

/** Draws a chart of lanes. */
export function laneChart(chart: LaneChart): Element {
  const { id, lanes, x, spans, marks } = chart;
  const lanePx = lanes.length <= 40 ? 20 : 14;
  const bottom = top + lanes.length * lanePx;
  const key = legend(id, chart.legend, chartRange.from, bottom + axisPx);
  const looks = [...spans.map(({ look }) => look), ...chart.legend.flatMap(spanLook)];
  return picture(
    chart,
    bottom + axisPx + key.height + 4,
    stripes(id, looks),
    axisBelow(x, bottom, top, chart.xLabel),
    ...spans.map((span) => spanIn(chart, span, lanePx)),
    ...separators(lanes.length, lanePx),
    ...lanes.map((label, i) => {
      const y = top + (i + 0.5) * lanePx + 4;
      return element('text', { x: chartRange.from - 10, y, 'text-anchor': 'end' }, label);
    }),
    ...placed(marks, x).map((it) => markIn(it, lanePx)),
    key.drawn,
  );
}

function spanLook(entry: LegendEntry): readonly SpanLook[] {
  return 'span' in entry ? [entry.span] : [];
}

function spanIn({ id, x }: LaneChart, span: Span, lanePx: number): Element {
  const { firstLane, lastLane = firstLane, from, to, look, target } = span;
  const left = x.at(from);
  const width = Math.max(narrowest, x.at(to) - left);
  const y = top + firstLane * lanePx + 1;
  const height = (lastLane - firstLane + 1) * lanePx - 2;
  const box = spanBox(id, look, { x: left, y, width, height });
  const shown: Markup[] = [hint(span.hint), box, ...labelIn(span, left, width, y, lanePx)];
  if (target === undefined) return element('g', {}, ...shown);
  return element('a', { href: `#${target}` }, ...shown);
}

/**
 * Returns the label of a span, placed in the span's first lane. Returns nothing if the span has no
 * room for the label.
 */
function labelIn(
  { label = '', look }: Span,
  left: number,
  width: number,
  y: number,
  lanePx: number,
): readonly Element[] {
  const isNarrow = width < label.length * 7 + 4;
  if (label === '' || isNarrow || lanePx < 16) return [];
  const place = { x: left + width / 2, y: y + lanePx / 2 + 3, 'text-anchor': 'middle' };
  return [element('text', { ...place, class: isStrong(look) ? 'inverse' : undefined }, label)];
}

/** True if text in the usual colour has little contrast with the colour of a span. */
function isStrong({ tone, texture }: SpanLook): boolean {
  return texture !== 'striped' && !['grey', 'sky', 'orange'].includes(tone);
}

/**
 * Returns the lines between the lanes. They are drawn over the spans, so a span over several lanes
 * looks cut into rows.
 */
function separators(lanes: number, lanePx: number): readonly Element[] {
  const width = chartRange.to - chartRange.from;
  return Array.from({ length: Math.max(0, lanes - 1) }, (_, i) =>
    element('rect', {
      ...{ class: 'gap', 'pointer-events': 'none', x: chartRange.from, width },
      ...{ y: top + (i + 1) * lanePx - 1, height: 2 },
    }),
  );
}

/** A mark, or several marks of one lane and one look that are too close together to tell apart. */
interface MarkGroup {
  readonly look: MarkLook;
  readonly lane: number;
  readonly hints: string[];
  /** Coordinate of the first mark, in px. */
  readonly x: number;
}

/** A group of marks, and the X coordinate at which it is drawn, in px. */
interface Placed extends MarkGroup {
  readonly shownX: number;
}

/** A mark may be drawn to the right of its value, by at most this distance in px. */
const shiftMax = 66;

/**
 * Puts marks of the same lane and the same look into groups. A mark belongs to a group if it is
 * less than the width of a mark away from the first mark of the group.
 */
function grouped(marks: readonly Mark[], scale: Scale): readonly MarkGroup[] {
  const groups: MarkGroup[] = [];
  const open = new Map<string, MarkGroup>();
  for (const { lane, at, look, hint: text } of [...marks].sort((a, b) => a.at - b.at)) {
    const key = `${lane} ${look.shape} ${look.tone}`;
    const x = scale.at(at);
    const group = open.get(key);
    if (group !== undefined && x - group.x < 2 * markRadius) {
      group.hints.push(text);
      continue;
    }
    const next: MarkGroup = { look, lane, hints: [text], x };
    open.set(key, next);
    groups.push(next);
  }
  return groups;
}

/**
 * Returns where each group of marks is drawn. A group is drawn at its own value if it covers no
 * earlier group of its lane there. Otherwise the group is drawn further to the right, with a line
 * to its value. If that place is too far from the value, the group is drawn at its value and covers
 * the earlier group.
 */
function placed(marks: readonly Mark[], scale: Scale): readonly Placed[] {
  const ends = new Map<number, number>();
  return grouped(marks, scale).map((group) => {
    const { x, lane } = group;
    const free = (ends.get(lane) ?? Number.NEGATIVE_INFINITY) + 2 * markRadius + 1;
    const isFar = free - x > shiftMax || free > pictureWidth - markRadius;
    const shownX = isFar ? x : Math.max(x, free);
    ends.set(lane, Math.max(shownX, ends.get(lane) ?? shownX));
    return { ...group, shownX };
  });
}

/** Largest number of hints that are shown for one group of marks. */
const hintsMax = 12;

function hintOf({ hints }: MarkGroup): string {
  const more = hints.length > hintsMax ? [`and ${hints.length - hintsMax} more`] : [];
  return [...hints.slice(0, hintsMax), ...more].join('\n');
}

function markIn(group: Placed, lanePx: number): Element {
  const { lane, look, x, shownX } = group;
  const y = top + (lane + 0.5) * lanePx;
  const corner = px(y - lanePx / 2 + 2);
  const lead = element('path', { class: 'lead', d: `M${px(x)} ${corner}V${px(y)}H${px(shownX)}` });
  const drawn = markAt(look, shownX, y);
  return element('g', {}, hint(hintOf(group)), ...(shownX > x ? [lead] : []), drawn);
}
