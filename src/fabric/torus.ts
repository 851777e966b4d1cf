import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';

/** Size of a slice, in Cloud TPUs: columns along X, rows along Y. A Cloud TPU has 2×2 chips. */
export interface Topology {
  readonly columns: number;
  readonly rows: number;
}

/** Columns and rows of a grid whose nodes need not be Cloud TPUs. */
export type Grid = Topology;

/**
 * Directions in which a directed link can leave its chip. In the code, a direction is an index into
 * this array. Directions 0 and 1 are on axis X, directions 2 and 3 on axis Y. Directions 1 and 3
 * run towards smaller coordinates.
 */
export const directions = ['+x', '-x', '+y', '-y'] as const;
/** Index into {@link directions}. */
export type Direction = 0 | 1 | 2 | 3;
/** All directions, in the order of {@link directions}. */
export const allDirections: readonly Direction[] = [0, 1, 2, 3];
/** Axis of the torus: 0 is X, 1 is Y. */
export type Axis = 0 | 1;

/** Location of a chip: the worker that emulates the chip, and the chip's index on that worker. */
export interface Place {
  readonly worker: number;
  /**
   * Index of the chip among the chips of its worker. If a buffer has one copy for each chip of the
   * worker, the copy of this chip has the same index.
   */
  readonly index: number;
}

/**
 * A grid of chips in which every axis is a ring: a wrap-around link joins the last chip to the
 * first. The hardware has a wrap-around link only on a full axis of 16 chips. The emulator has one
 * on every axis. The number of the chip at (x, y) is y · width + x.
 */
export interface Torus {
  readonly width: number;
  readonly height: number;
  readonly workers: number;
  /** Location of every chip, indexed by chip number. */
  readonly places: readonly Place[];
}

const standardGrids: ReadonlyMap<number, Topology> = new Map(
  [
    [1, 1],
    [2, 1],
    [2, 2],
    [4, 2],
    [4, 4],
    [8, 4],
    [8, 8],
  ].map(([columns = 0, rows = 0]) => [columns * rows, { columns, rows }]),
);

/** Columns of the largest pod, in Cloud TPUs. The largest pod has 8×8 Cloud TPUs. */
export const maxColumns: number = tpuV2.podChipColumns / tpuV2.chipColumnsPerCloudTpu;
/** Rows of the largest pod, in Cloud TPUs. */
export const maxRows: number = tpuV2.podChipRows / tpuV2.chipRowsPerCloudTpu;

/**
 * Returns the standard grid of `tpus` Cloud TPUs. Throws PodError `bad-flag` if there is no
 * standard grid of that size.
 */
export function standardGrid(tpus: number): Topology {
  const topology = standardGrids.get(tpus);
  if (topology) return topology;
  const counts = [...standardGrids.keys()].join(', ');
  throw new PodError(
    'bad-flag',
    `${tpus} Cloud TPUs: expected one of ${counts}, or a topology CxR`,
  );
}

/** True if the grid is the standard grid for its number of Cloud TPUs. */
export function isStandardGrid({ columns, rows }: Topology): boolean {
  const standard = standardGrids.get(columns * rows);
  return standard?.columns === columns && standard.rows === rows;
}

/**
 * Parses the size of a grid of Cloud TPUs from a text such as `4x2` (columns x rows).
 *
 * @param origin Name of the flag or file that the text comes from, for messages.
 * @param most The largest grid that is accepted. By default, this is the largest pod, of 8×8 Cloud
 * TPUs.
 * @throws PodError `bad-flag` if the text has another form, or if the grid is empty or too large.
 */
export function parseTopology(
  text: string,
  origin = '--topology',
  most: Topology = { columns: maxColumns, rows: maxRows },
): Topology {
  const match = /^(\d{1,4})[x×](\d{1,4})$/i.exec(text);
  if (!match) {
    const expected = 'columns x rows of Cloud TPUs, such as 4x2';
    throw new PodError('bad-flag', `${origin}: expected ${expected}, found ${quote(text)}`);
  }
  const columns = Number(match[1]);
  const rows = Number(match[2]);
  if (columns < 1 || columns > most.columns || rows < 1 || rows > most.rows) {
    const expected = `1 to ${most.columns} columns and 1 to ${most.rows} rows of Cloud TPUs`;
    throw new PodError('bad-flag', `${origin}: expected ${expected}, found ${quote(text)}`);
  }
  return { columns, rows };
}

/** Returns the text of a grid, such as `4x2`, in the form that {@link parseTopology} reads. */
export function formatTopology({ columns, rows }: Topology): string {
  return `${columns}x${rows}`;
}

/** Number of chips of a Cloud TPU along X (`across`) and along Y (`down`). */
const { chipColumnsPerCloudTpu: across, chipRowsPerCloudTpu: down } = tpuV2;

/**
 * Returns the torus of a slice. Each worker has the four chips of one Cloud TPU. The Cloud TPU at
 * (column, row) has the worker number row · columns + column. The chip at (dx, dy) within a Cloud
 * TPU has the index 2 · dy + dx on its worker.
 */
export function podTorus({ columns, rows }: Topology): Torus {
  return makeTorus(across * columns, down * rows, columns * rows, (x, y) => ({
    worker: Math.floor(y / down) * columns + Math.floor(x / across),
    index: (y % down) * across + (x % across),
  }));
}

/**
 * Returns a torus with one chip on each worker. In other libraries for collective operations, such
 * a worker is called a rank.
 */
export function flatTorus(width: number, height: number): Torus {
  return makeTorus(width, height, width * height, (x, y) => ({ worker: y * width + x, index: 0 }));
}

/** Number of chips of the whole torus. */
export function chipCount(torus: Torus): number {
  return torus.width * torus.height;
}

/** Number of chips along the given axis. */
export function axisLength(torus: Torus, axis: Axis): number {
  return axis === 0 ? torus.width : torus.height;
}

/** Coordinate of the given chip on the given axis. */
export function position(torus: Torus, chip: number, axis: Axis): number {
  return axis === 0 ? chip % torus.width : Math.floor(chip / torus.width);
}

/**
 * Returns the number of the neighbouring chip to which the link from `chip` in `direction` leads.
 */
export function neighbour(torus: Torus, chip: number, direction: Direction): number {
  const axis = axisOf(direction);
  const length = axisLength(torus, axis);
  const from = position(torus, chip, axis);
  const to = (from + (isForward(direction) ? 1 : length - 1)) % length;
  return chip + (to - from) * (axis === 0 ? 1 : torus.width);
}

/** Returns the worker that emulates the given chip, and the chip's index on that worker. */
export function placement(torus: Torus, chip: number): Place {
  return at(torus.places, chip);
}

/** Returns the numbers of the given worker's chips, in the order of their indices on the worker. */
export function chipsOf(torus: Torus, worker: number): readonly number[] {
  const chips: number[] = [];
  for (const [chip, place] of torus.places.entries()) {
    if (place.worker === worker) chips[place.index] = chip;
  }
  return chips;
}

/**
 * Returns the numbers of the directed links that lead from other workers to the given worker. They
 * are ordered by the index of the chip that they enter, and for one chip by direction.
 */
export function enteringLinks(torus: Torus, worker: number): readonly number[] {
  const links: number[] = [];
  for (const chip of chipsOf(torus, worker)) {
    for (const direction of allDirections) {
      const from = neighbour(torus, chip, opposite(direction));
      if (placement(torus, from).worker !== worker) links.push(linkNumber(from, direction));
    }
  }
  return links;
}

/** Returns the number of the link that leaves `chip` in `direction`. */
export function linkNumber(chip: number, direction: Direction): number {
  return chip * directions.length + direction;
}

/** Returns the number of the link that enters `chip` in `direction`. */
export function linkInto(torus: Torus, chip: number, direction: Direction): number {
  return linkNumber(neighbour(torus, chip, opposite(direction)), direction);
}

/** Returns the axis along which the given direction runs. */
export function axisOf(direction: Direction): Axis {
  return direction < 2 ? 0 : 1;
}

/** True if the direction runs towards larger coordinates. */
export function isForward(direction: Direction): boolean {
  return (direction & 1) === 0;
}

/** Returns the opposite direction on the same axis. */
export function opposite(direction: Direction): Direction {
  return (direction ^ 1) as Direction;
}

/** Number of directed links of the torus. Link number = chip · 4 + direction. */
export function linkCount(torus: Torus): number {
  return chipCount(torus) * directions.length;
}

/** Returns the name of a chip in messages and reports, from its coordinates: `chip(3,1)`. */
export function chipName(torus: Torus, chip: number): string {
  return `chip(${position(torus, chip, 0)},${position(torus, chip, 1)})`;
}

/**
 * Returns the name of a directed link in reports and faults: the chip that the link leaves, then
 * the direction, as in `chip(3,1)+x`.
 */
export function linkName(torus: Torus, link: number): string {
  return `${chipName(torus, link >> 2)}${at(directions, link & 3)}`;
}

/** Where a directed link leaves. */
export interface LinkSource {
  /** The worker whose chip the link leaves. */
  readonly worker: number;
  /** Direction of the link: `+x`, `-x`, `+y` or `-y`. */
  readonly direction: (typeof directions)[number];
}

/** Returns the worker from which a directed link leaves, and the direction of the link. */
export function linkSource(torus: Torus, link: number): LinkSource {
  return { worker: placement(torus, link >> 2).worker, direction: at(directions, link & 3) };
}

/**
 * Returns the number of the link with the given name: 4 · (number of the chip that it leaves) +
 * direction. Throws `bad-flag` if the text is not the name of a link, or if the torus has no such
 * link.
 */
export function parseLinkName(torus: Torus, name: string): number {
  const match = /^chip\((\d{1,4}),(\d{1,4})\)([+-][xy])$/.exec(name);
  if (!match) {
    throw new PodError('bad-flag', `link ${quote(name)}: expected a name such as chip(3,1)+x`);
  }
  const x = Number(match[1]);
  const y = Number(match[2]);
  if (x >= torus.width || y >= torus.height) {
    const size = `${torus.width}×${torus.height}`;
    throw new PodError('bad-flag', `link ${quote(name)}: the slice has ${size} chips`);
  }
  const direction = directions.indexOf(match[3] as (typeof directions)[number]) as Direction;
  return linkNumber(y * torus.width + x, direction);
}

function makeTorus(
  width: number,
  height: number,
  workers: number,
  place: (x: number, y: number) => Place,
): Torus {
  assert(width >= 1 && height >= 1, `a torus of ${width}×${height} chips`);
  const places = Array.from({ length: width * height }, (_, chip) =>
    place(chip % width, Math.floor(chip / width)),
  );
  return { width, height, workers, places };
}
