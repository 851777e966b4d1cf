import { at } from '../numerics/assert.ts';

/**
 * A glyph: one way of writing a digit. Strokes are polylines in the unit box, x to the right, y
 * down. Stroke s has the points [starts[s], starts[s + 1]); point p is (x[p], y[p]).
 */
export interface Glyph {
  readonly starts: Int32Array;
  readonly x: Float64Array;
  readonly y: Float64Array;
}

/**
 * How many straight lines replace a curve between two neighbouring knots. Knots are the points
 * through which the curve goes.
 */
const piecesPerSpan = 3;

/** All glyphs, as `glyphs[digit][variant]`. */
export const glyphs: readonly (readonly Glyph[])[] = handwriting().map((variants) =>
  variants.map(glyphOf),
);

/** The largest number of points of a glyph. */
export const glyphPointsMax: number = Math.max(...glyphs.flat().map((glyph) => glyph.x.length));

/**
 * Curves of one way of writing a digit, separated by `;`. A curve is a list of knots `x,y x,y …`,
 * the points through which the curve goes.
 */
type Writing = string;

/**
 * Returns the hand-drawn curves of each digit's variants. Knots are in the order of the pen's
 * movement.
 */
function handwriting(): readonly (readonly Writing[])[] {
  return [
    [
      '.50,.05 .24,.20 .15,.52 .27,.86 .52,.95 .76,.80 .85,.48 .75,.16 .50,.05',
      '.62,.08 .34,.12 .20,.48 .33,.88 .62,.90 .78,.54 .70,.18 .48,.05 .36,.16',
      '.40,.05 .20,.30 .24,.72 .50,.95 .76,.74 .80,.32 .62,.07 .38,.06',
      '.55,.10 .25,.28 .16,.62 .38,.90 .70,.78 .86,.42 .70,.14 .52,.12',
    ],
    [
      '.50,.04 .50,.35 .50,.66 .50,.96',
      '.30,.26 .44,.16 .53,.04; .53,.04 .52,.35 .52,.66 .52,.96',
      '.32,.24 .45,.15 .52,.05; .52,.05 .52,.36 .51,.66 .51,.94; .28,.95 .50,.94 .74,.95',
      '.60,.04 .54,.36 .46,.68 .40,.96',
    ],
    [
      '.18,.26 .32,.09 .58,.06 .78,.24 .70,.48 .46,.70 .18,.94; .18,.94 .38,.93 .60,.93 .84,.93',
      '.20,.24 .44,.05 .76,.20 .66,.50 .38,.82 .18,.90 .24,.74 .46,.80 .64,.93 .86,.86',
      '.20,.14 .50,.05 .76,.22 .64,.48 .36,.72 .16,.92; .16,.92 .40,.86 .62,.92 .84,.96',
      '.24,.10 .56,.06 .74,.30 .50,.64 .20,.92; .20,.92 .50,.94 .80,.90',
    ],
    [
      '.20,.14 .48,.04 .74,.18 .66,.40 .42,.47; .42,.47 .70,.54 .82,.74 .58,.95 .18,.88',
      '.20,.07 .40,.07 .60,.07 .78,.07; .78,.07 .62,.24 .44,.41; .44,.41 .72,.48 .80,.72 .56,.95 .18,.88',
      '.24,.10 .58,.05 .74,.24 .54,.42 .40,.46 .58,.48 .80,.66 .64,.92 .34,.95 .18,.84',
      '.22,.20 .44,.05 .70,.14 .68,.36 .46,.46; .46,.46 .74,.58 .72,.84 .44,.96 .20,.80',
    ],
    [
      '.28,.05 .23,.30 .17,.56; .17,.56 .40,.56 .62,.56 .86,.55; .68,.24 .67,.50 .66,.72 .65,.96',
      '.66,.04 .48,.24 .30,.46 .12,.66; .12,.66 .38,.66 .62,.66 .88,.65; .66,.04 .66,.34 .66,.66 .65,.96',
      '.22,.06 .18,.32 .26,.50 .50,.52 .74,.42; .80,.05 .76,.36 .72,.66 .70,.96',
      '.34,.04 .26,.26 .16,.50; .16,.50 .38,.52 .60,.50 .84,.48; .62,.18 .58,.46 .54,.70 .50,.96',
    ],
    [
      '.78,.06 .62,.06 .46,.06 .30,.07; .30,.07 .27,.24 .25,.44; .25,.44 .52,.36 .78,.54 .76,.80 .50,.95 .18,.86',
      '.30,.08 .28,.24 .24,.42; .24,.42 .54,.38 .76,.60 .64,.88 .40,.96 .16,.84; .30,.08 .46,.09 .62,.07 .80,.05',
      '.78,.09 .54,.06 .34,.12 .28,.30 .42,.44 .66,.54 .76,.74 .56,.93 .20,.90',
      '.84,.10 .60,.12 .40,.09; .40,.09 .34,.26 .30,.44; .30,.44 .54,.46 .68,.64 .58,.86 .30,.94',
    ],
    [
      '.70,.06 .44,.20 .24,.50 .24,.80 .46,.95 .72,.86 .74,.64 .54,.53 .32,.62 .23,.76',
      '.58,.04 .40,.30 .26,.58 .28,.86 .52,.96 .74,.80 .66,.58 .44,.56 .27,.70',
      '.44,.04 .28,.34 .21,.66 .36,.93 .64,.93 .78,.72 .60,.55 .36,.62 .24,.76',
      '.80,.08 .50,.18 .26,.44 .18,.74 .38,.94 .64,.88 .68,.68 .48,.60 .24,.72',
    ],
    [
      '.16,.08 .38,.08 .60,.08 .82,.08; .82,.08 .66,.36 .52,.66 .42,.96',
      '.18,.10 .40,.08 .62,.08 .82,.09; .82,.09 .62,.40 .52,.68 .46,.95; .34,.50 .50,.50 .64,.49 .78,.49',
      '.16,.22 .20,.08; .20,.08 .42,.12 .62,.10 .82,.06; .82,.06 .70,.30 .54,.56 .48,.95',
      '.20,.12 .48,.06 .76,.12 .70,.40 .52,.70 .42,.96',
    ],
    [
      '.72,.18 .50,.05 .28,.20 .38,.42 .64,.58 .78,.78 .52,.96 .24,.78 .38,.56 .62,.42 .76,.22 .62,.08',
      '.50,.06 .30,.14 .32,.38 .52,.46 .70,.36 .70,.14 .50,.06; .52,.46 .26,.58 .22,.82 .50,.96 .78,.84 .76,.58 .52,.46',
      '.78,.10 .50,.05 .30,.18 .44,.40 .66,.62 .64,.86 .42,.95 .26,.80 .44,.56 .66,.36 .78,.10',
      '.62,.10 .36,.10 .34,.34 .60,.52 .72,.78 .48,.95 .28,.78 .42,.54 .66,.34 .62,.10',
    ],
    [
      '.74,.24 .52,.06 .27,.20 .30,.44 .54,.50 .74,.30; .74,.22 .74,.46 .70,.70 .60,.96',
      '.74,.22 .48,.05 .24,.24 .34,.48 .60,.46 .76,.24; .76,.24 .78,.54 .72,.82 .50,.95 .26,.88',
      '.68,.12 .40,.06 .22,.28 .38,.46 .64,.36 .76,.14; .76,.14 .70,.40 .62,.68 .54,.96',
      '.66,.08 .34,.14 .26,.40 .50,.52 .70,.36 .74,.12 .68,.44 .52,.74 .36,.96',
    ],
  ];
}

function glyphOf(writing: Writing): Glyph {
  const strokes = writing.split(';').map((curve) => polyline(knotsOf(curve)));
  const starts = [0];
  for (const stroke of strokes) starts.push(at(starts, starts.length - 1) + stroke.length);
  const points = strokes.flat();
  return {
    starts: Int32Array.from(starts),
    x: Float64Array.from(points, (point) => point.x),
    y: Float64Array.from(points, (point) => point.y),
  };
}

interface Point {
  readonly x: number;
  readonly y: number;
}

function knotsOf(curve: string): Point[] {
  return curve
    .trim()
    .split(' ')
    .map((knot) => knot.split(',').map(Number))
    .map((pair) => ({ x: at(pair, 0), y: at(pair, 1) }));
}

/** Returns the points of a polyline that replaces the curve through all knots. */
function polyline(knots: readonly Point[]): Point[] {
  const points = [at(knots, 0)];
  for (let span = 0; span + 1 < knots.length; span++) {
    const a = at(knots, Math.max(span - 1, 0));
    const b = at(knots, span);
    const c = at(knots, span + 1);
    const d = at(knots, Math.min(span + 2, knots.length - 1));
    for (let piece = 1; piece <= piecesPerSpan; piece++) {
      const t = piece / piecesPerSpan;
      points.push({ x: catmullRom(a.x, b.x, c.x, d.x, t), y: catmullRom(a.y, b.y, c.y, d.y, t) });
    }
  }
  return points;
}

/**
 * Returns one coordinate of a point on a smooth curve between two neighbouring knots. a, b, c and d
 * are the same coordinate of four successive knots, and the curve goes from knot b (t = 0) to knot
 * c (t = 1). The coordinate is a cubic polynomial of t with the slopes ½(c-a) at t = 0 and ½(d-b)
 * at t = 1. [Catmull, Rom 1974]
 */
function catmullRom(a: number, b: number, c: number, d: number, t: number): number {
  const cubic = 3 * (b - c) + d - a;
  const square = 2 * a - 5 * b + 4 * c - d;
  return b + 0.5 * t * (c - a + t * (square + t * cubic));
}
