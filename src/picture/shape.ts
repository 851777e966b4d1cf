import { type Element, element, px } from './markup.ts';
import type { Tone } from './palette.ts';

/** Forms of a mark. `triangle` points up, `wedge` points down. */
export const shapes = [
  'circle',
  'ring',
  'square',
  'diamond',
  'triangle',
  'wedge',
  'cross',
  'plus',
  'bar',
] as const;
/** One of {@link shapes}. */
export type Shape = (typeof shapes)[number];

/** Look of a mark. Marks with different meanings differ in their shape, not only in their tone. */
export interface MarkLook {
  readonly shape: Shape;
  readonly tone: Tone;
}

/** Distance from the centre of a mark to its edge, in px. */
export const markRadius = 5.5;

/** Draws a mark whose centre is at (x, y), both in px. */
export function markAt({ shape, tone }: MarkLook, x: number, y: number): Element {
  const outline = outlines[shape];
  const d = outline.map((part) => pathOf(part, x, y)).join('');
  return element('path', { class: `mark ${tone}`, d, 'fill-rule': 'evenodd' });
}

type Points = readonly (readonly [x: number, y: number])[];

/** Outlines of the shapes, in units of {@link markRadius}. Y points down. */
const outlines: Readonly<Record<Shape, readonly Points[]>> = {
  circle: [polygon(16, 0.95)],
  ring: [polygon(16, 1), polygon(16, 0.45)],
  square: [corners(0.85, 0.85)],
  diamond: [polygon(4, 1.15)],
  triangle: [polygon(3, 1.15)],
  wedge: [polygon(3, 1.15).map(([x, y]) => [x, -y] as const)],
  cross: [plus(1.15, 0.34).map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2])],
  plus: [plus(1.1, 0.34)],
  bar: [corners(0.35, 1.1)],
};

/** Returns a regular polygon with its first corner at the top. */
function polygon(sides: number, radius: number): Points {
  return Array.from({ length: sides }, (_, i) => {
    const angle = (2 * Math.PI * i) / sides;
    return [radius * Math.sin(angle), -radius * Math.cos(angle)] as const;
  });
}

function corners(x: number, y: number): Points {
  return [
    [-x, -y],
    [x, -y],
    [x, y],
    [-x, y],
  ];
}

/**
 * Returns a plus sign around (0, 0). Each of the four arms has the length `reach`, measured from
 * the centre, and the width 2 · `half`.
 */
function plus(reach: number, half: number): Points {
  const arm: Points = [
    [-half, -reach],
    [half, -reach],
    [half, -half],
  ];
  return [0, 1, 2, 3].flatMap((turns) => arm.map((point) => turned(point, turns)));
}

/** Rotates a point around (0, 0) by `quarters` quarter turns. */
function turned([x, y]: Points[number], quarters: number): Points[number] {
  return quarters === 0 ? [x, y] : turned([-y, x], quarters - 1);
}

function pathOf(points: Points, x: number, y: number): string {
  const all = points.map(([dx, dy]) => `${px(x + dx * markRadius)} ${px(y + dy * markRadius)}`);
  return `M${all.join('L')}Z`;
}
