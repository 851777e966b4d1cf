import { type Element, element, hint, type Markup, px } from './markup.ts';
import type { Interval, Scale } from './scale.ts';

/** What every picture has. */
export interface Frame {
  /** Name of the picture, unique on its page: letters, digits and hyphens. */
  readonly id: string;
  /** Title and description, in sentences, for people who do not see the picture. */
  readonly title: string;
  readonly description: string;
}

/** Width of every picture, in px of its own coordinates. A page may show it at another size. */
export const pictureWidth = 1200;

/** X coordinates at which the X axis of a chart begins and ends, in px. */
export const chartRange: Interval = { from: 130, to: pictureWidth - 50 };

/** Height of an axis along X with its labels, in px. */
export const axisPx = 42;

/** Draws a picture of the given height, in px. */
export function picture(
  { id, title, description }: Frame,
  height: number,
  ...children: readonly Markup[]
): Element {
  const attributes = {
    ...{ class: 'picture', role: 'img', viewBox: `0 0 ${pictureWidth} ${Math.ceil(height)}` },
    ...{ xmlns: 'http://www.w3.org/2000/svg', width: pictureWidth, height: Math.ceil(height) },
    'aria-labelledby': `${id}-title ${id}-text`,
  };
  return element(
    'svg',
    attributes,
    element('title', { id: `${id}-title` }, title),
    element('desc', { id: `${id}-text` }, description),
    ...children,
  );
}

/** Draws an axis along X at the height `y`, with grid lines up to the height `top`, both in px. */
export function axisBelow(scale: Scale, y: number, top: number, label: string): Element {
  const { from, to } = scale.range;
  const lines = scale.ticks.map(({ at }) =>
    element('path', { class: 'grid', d: `M${px(at)} ${px(top)}V${px(y)}` }),
  );
  const texts = scale.ticks.map(({ at, label: text }) =>
    element('text', { x: at, y: y + 17, 'text-anchor': 'middle' }, text),
  );
  return element(
    'g',
    {},
    ...lines,
    element('path', { class: 'axis', d: `M${px(from)} ${px(y)}H${px(to)}` }),
    ...scale.cuts.map((at) => cutAt(at, y)),
    ...texts,
    element('text', { class: 'muted', x: to, y: y + 32, 'text-anchor': 'end' }, label),
  );
}

/** Draws an axis along Y at `x`, with grid lines from `x` to `right`, both in px. */
export function axisLeft(scale: Scale, x: number, right: number, label: string): Element {
  const { from, to } = scale.range;
  const top = Math.min(from, to);
  return element(
    'g',
    {},
    ...scale.ticks.flatMap(({ at, label: text }) => [
      element('path', { class: 'grid', d: `M${px(x)} ${px(at)}H${px(right)}` }),
      element('text', { x: x - 8, y: at + 4, 'text-anchor': 'end' }, text),
    ]),
    element('path', { class: 'axis', d: `M${px(x)} ${px(from)}V${px(to)}` }),
    element('text', { class: 'muted', x: x - 8, y: top - 8, 'text-anchor': 'end' }, label),
  );
}

/** Draws two strokes across a time axis. They show that the axis leaves out a time there. */
function cutAt(x: number, y: number): Element {
  const strokes = [-5, 0].map((dx) => `M${px(x + dx)} ${px(y + 5)}L${px(x + dx + 5)} ${px(y - 5)}`);
  const what = hint('A time without events is left out here.');
  return element('g', {}, what, element('path', { class: 'axis', d: strokes.join('') }));
}
