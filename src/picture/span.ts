import { type Element, element } from './markup.ts';
import type { Tone } from './palette.ts';

/** Look of a span. A colour can have two meanings: one for plain spans, one for striped spans. */
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

/** Draws a span in the picture `id`. A striped span needs the {@link stripes} of that picture. */
export function spanBox(id: string, { tone, texture = 'plain' }: SpanLook, box: Box): Element {
  const fill = texture === 'striped' ? { fill: `url(#${id}-${tone})` } : {};
  const colour = texture === 'striped' ? '' : ` ${tone}`;
  return element('rect', { class: `span${colour}`, ...fill, ...box });
}

/** Returns the SVG patterns for the striped spans of the picture `id`, one for each tone. */
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
