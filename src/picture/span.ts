import { type Element, element } from './markup.ts';
import type { Tone } from './palette.ts';

/**
 * Look of a span, the rectangle of something that lasts. A plain and a striped span of the same
 * colour can have different meanings.
 */
export interface SpanLook {
  readonly tone: Tone;
  /** `striped` spans have gaps between stripes. Default: `plain`. */
  readonly texture?: 'plain' | 'striped';
}

/** Position and size of a rectangle, in px. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Draws a span. `id` is the name of the picture. If the span is striped, the picture must also
 * contain the patterns that {@link stripes} returns.
 */
export function spanBox(id: string, { tone, texture = 'plain' }: SpanLook, box: Box): Element {
  const fill = texture === 'striped' ? { fill: `url(#${id}-${tone})` } : {};
  const colour = texture === 'striped' ? '' : ` ${tone}`;
  return element('rect', { class: `span${colour}`, ...fill, ...box });
}

/**
 * Returns SVG patterns that fill striped spans: one pattern for each tone of the striped looks in
 * `looks`. `id` is the name of the picture.
 */
export function stripes(id: string, looks: readonly SpanLook[]): Element {
  const tones = new Set(looks.filter(({ texture }) => texture === 'striped').map((it) => it.tone));
  const size = { width: 6, height: 6, patternUnits: 'userSpaceOnUse' };
  const patterns = [...tones].map((tone) =>
    element(
      'pattern',
      { id: `${id}-${tone}`, ...size, patternTransform: 'rotate(45)' },
      element('rect', { class: 'gap', width: 6, height: 6 }),
      element('rect', { class: tone, width: 3.4, height: 6 }),
    ),
  );
  return element('defs', {}, ...patterns);
}
