import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chartRange } from '../../src/picture/frame.ts';
import { type LaneChart, laneChart } from '../../src/picture/lanes.ts';
import { lineChart, lineRange } from '../../src/picture/lines.ts';
import { markupText } from '../../src/picture/markup.ts';
import { pictureStyle, tones } from '../../src/picture/palette.ts';
import { linearScale } from '../../src/picture/scale.ts';
import { markAt, type Shape, shapes } from '../../src/picture/shape.ts';
import { attributesIn, elements, parseXml, textOf } from './xml.ts';

const text = fc.string({ unit: 'binary' });
const tone = fc.constantFrom(...tones);
const time = fc.double({ min: -10, max: 110, noNaN: true });
const spanLook = fc.record({
  tone,
  texture: fc.constantFrom('plain' as const, 'striped' as const),
});
const markLook = fc.record({ tone, shape: fc.constantFrom(...shapes) });

const chart: fc.Arbitrary<LaneChart> = fc.integer({ min: 1, max: 50 }).chain((count) => {
  const lane = fc.nat(count - 1);
  return fc.record({
    ...{ id: fc.constant('a'), title: text, description: text, xLabel: text },
    lanes: fc.array(text, { minLength: count, maxLength: count }),
    spans: fc.array(
      fc
        .record({ firstLane: lane, a: time, b: time, look: spanLook, hint: text, label: text })
        .map(({ a, b, ...it }) => ({
          ...it,
          from: Math.min(a, b),
          to: Math.max(a, b),
          target: 'b',
        })),
    ),
    marks: fc.array(fc.record({ lane, at: time, look: markLook, hint: text })),
    x: fc.constant(linearScale({ from: 0, to: 100 }, chartRange)),
    legend: fc.array(fc.record({ mark: markLook, text }), { maxLength: 12 }),
  });
});

test('a chart of lanes is well-formed, has every lane and span, and no number that is none', () => {
  fc.assert(
    fc.property(chart, (it) => {
      const root = parseXml(markupText(laneChart(it)));
      const plain = JSON.stringify(attributesIn(root));
      expect(plain).not.toMatch(/NaN|Infinity|undefined/);
      const links = elements(root, 'a');
      expect(links).toHaveLength(it.spans.length);
      const ends = elements(root, 'text').filter(({ attributes }) => attributes['x'] === '120');
      expect(ends).toHaveLength(it.lanes.length);
      const [, , ...viewBox] = root.attributes['viewBox']?.split(' ').map(Number) ?? [];
      for (const { attributes } of elements(root, 'rect')) {
        const [right, bottom] = [
          Number(attributes['x'] ?? 0) + Number(attributes['width']),
          Number(attributes['y'] ?? 0) + Number(attributes['height']),
        ];
        expect(right).toBeLessThanOrEqual(viewBox[0] ?? 0);
        expect(bottom).toBeLessThanOrEqual(viewBox[1] ?? 0);
      }
    }),
    { numRuns: 60 },
  );
});

test('marks close to each other are drawn beside each other, or as one if they look the same', () => {
  const mark = (at: number, shape: Shape, hint: string) => ({
    ...{ lane: 0, at, hint, look: { shape, tone: 'ink' as const } },
  });
  const root = parseXml(
    markupText(
      laneChart({
        ...{ id: 'a', title: '', description: '', xLabel: '', lanes: [''], spans: [] },
        marks: [mark(50, 'cross', 'one'), mark(50.1, 'cross', 'two'), mark(50.2, 'wedge', 'three')],
        x: linearScale({ from: 0, to: 100 }, chartRange),
        legend: [],
      }),
    ),
  );
  const hints = elements(root, 'g').flatMap((it) => elements(it, 'title').map(textOf));
  expect([...new Set(hints)]).toEqual(['one\ntwo', 'three']);
  expect(elements(root, 'path').filter((it) => it.attributes['class'] === 'lead')).toHaveLength(1);
});

test('a line has a gap where a value is unknown', () => {
  const points = [1, 2, Number.NaN, 4, 5].map((y, x) => ({ x, y }));
  const root = parseXml(
    markupText(
      lineChart({
        ...{ id: 'a', title: 'a', description: 'b', xLabel: 'x', yLabel: 'y' },
        x: linearScale({ from: 0, to: 4 }, lineRange.x),
        y: linearScale({ from: 0, to: 5 }, lineRange.y),
        series: [
          { label: 'a', tone: 'blue', points },
          { label: 'b', tone: 'ink', form: 'dots', points },
        ],
      }),
    ),
  );
  const line = elements(root, 'path').find((it) => it.attributes['class']?.startsWith('line'));
  expect(line?.attributes['d']?.match(/M/g)).toHaveLength(2);
  expect(elements(root, 'circle')).toHaveLength(4);
});

test('all shapes differ', () => {
  const drawn = shapes.map((shape) => markupText(markAt({ shape, tone: 'ink' }, 10, 10)));
  expect(new Set(drawn).size).toBe(shapes.length);
});

test('every colour is readable on the page, in light and in dark', () => {
  const [light = '', dark = ''] = [...pictureStyle.matchAll(/:root\{([^}]*)\}/g)].map(
    ([, it]) => it,
  );
  for (const scheme of [light, dark]) {
    const colours = new Map([...scheme.matchAll(/--(\w+):(#\w{6})/g)].map(([, a, b]) => [a, b]));
    const against = (name: string): number => contrast(colours.get(name), colours.get('paper'));
    for (const name of ['ink', 'muted']) expect(against(name)).toBeGreaterThan(4.5);
    for (const name of tones) expect(against(name)).toBeGreaterThan(1.5);
  }
});

/** Contrast of two colours, from 1 to 21. [WCAG 2.2, contrast ratio] */
function contrast(a = '', b = ''): number {
  const [dark = 0, light = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5]
    .map((i) => Number.parseInt(colour.slice(i, i + 2), 16) / 255)
    .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
