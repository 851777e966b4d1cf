import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';

/** A slice as a grid of Cloud TPUs: columns along X, rows along Y. Each has 2×2 chips. */
export interface Topology {
  readonly columns: number;
  readonly rows: number;
}

/** Columns and rows of any kind of node. */
export type Grid = Topology;

/**
 * The way a directed link leaves its chip. The number of a direction is its index here: axis =
 * direction >> 1 (0 is X, 1 is Y), and an odd one runs towards smaller coordinates.
 */
export const directions = ['+x', '-x', '+y', '-y'] as const;
/** Index into {@link directions}. */
export type Direction = 0 | 1 | 2 | 3;
/** 0 is X, 1 is Y. */
export type Axis = 0 | 1;

/** Which worker holds a chip, and as which of its copies. */
export interface Place {
  readonly worker: number;
  /** Index among the chips of that worker: the copy of a `chip` buffer that is this chip's. */
  readonly index: number;
}

/**
 * Chips on a grid, every axis closed to a ring (hardware has the wrap-around link only on a full
 * axis of 16; every slice here has it). Chip number = y · width + x.
 */
export interface Torus {
  readonly width: number;
  readonly height: number;
  readonly workers: number;
  /** By chip number. */
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

/** The largest pod: 8×8 Cloud TPUs. */
export const maxColumns: number = tpuV2.podChipColumns / tpuV2.chipColumnsPerCloudTpu;
/** Rows of the largest pod. */
export const maxRows: number = tpuV2.podChipRows / tpuV2.chipRowsPerCloudTpu;

/** The standard grid of `tpus` Cloud TPUs. Throws `bad-flag` when there is none. */
export function standardGrid(tpus: number): Topology {
  const topology = standardGrids.get(tpus);
  if (topology) return topology;
  const counts = [...standardGrids.keys()].join(', ');
  throw new PodError(
    'bad-flag',
    `${tpus} Cloud TPUs: expected one of ${counts}, or a topology CxR`,
  );
}

/** Whether a grid is the standard one of its number of Cloud TPUs. */
export function isStandardGrid({ columns, rows }: Topology): boolean {
  const standard = standardGrids.get(columns * rows);
  return standard?.columns === columns && standard.rows === rows;
}

/**
 * Reads a grid such as `4x2`: 1 to 8 columns and rows of Cloud TPUs.
 *
 * @param origin of the text, for messages.
 * @throws PodError `bad-flag` when it is none.
 */
export function parseTopology(text: string, origin = '--topology'): Topology {
  const match = /^(\d{1,4})[x×](\d{1,4})$/i.exec(text);
  if (!match) {
    const expected = 'columns x rows of Cloud TPUs, such as 4x2';
    throw new PodError('bad-flag', `${origin}: expected ${expected}, found ${quote(text)}`);
  }
  const columns = Number(match[1]);
  const rows = Number(match[2]);
  if (columns < 1 || columns > maxColumns || rows < 1 || rows > maxRows) {
    const expected = `1 to ${maxColumns} columns and 1 to ${maxRows} rows of Cloud TPUs`;
    throw new PodError('bad-flag', `${origin}: expected ${expected}, found ${quote(text)}`);
  }
  return { columns, rows };
}

/** `4x2`, as {@link parseTopology} reads it. */
export function formatTopology({ columns, rows }: Topology): string {
  return `${columns}x${rows}`;
}

/** Chips of a Cloud TPU along X and along Y. */
const { chipColumnsPerCloudTpu: across, chipRowsPerCloudTpu: down } = tpuV2;

/**
 * The chips of a slice, four on a worker. Cloud TPU (column, row) is worker row · columns +
 * column; its chip (dx, dy) has index dy · 2 + dx.
 */
export function podTorus({ columns, rows }: Topology): Torus {
  return makeTorus(across * columns, down * rows, columns * rows, (x, y) => ({
    worker: Math.floor(y / down) * columns + Math.floor(x / across),
    index: (y % down) * across + (x % across),
  }));
}

/** A torus with one chip on a worker: what other collectives libraries call ranks. */
export function flatTorus(width: number, height: number): Torus {
  return makeTorus(width, height, width * height, (x, y) => ({ worker: y * width + x, index: 0 }));
}

/** Chips of the whole torus. */
export function chipCount(torus: Torus): number {
  return torus.width * torus.height;
}

/** Chips along an axis. */
export function axisLength(torus: Torus, axis: Axis): number {
  return axis === 0 ? torus.width : torus.height;
}

/** Coordinate of a chip along an axis. */
export function position(torus: Torus, chip: number, axis: Axis): number {
  return axis === 0 ? chip % torus.width : Math.floor(chip / torus.width);
}

/** The chip that the link leaving `chip` in `direction` leads to. */
export function neighbour(torus: Torus, chip: number, direction: Direction): number {
  const axis = axisOf(direction);
  const length = axisLength(torus, axis);
  const from = position(torus, chip, axis);
  const to = (from + (isForward(direction) ? 1 : length - 1)) % length;
  return chip + (to - from) * (axis === 0 ? 1 : torus.width);
}

/** The worker that holds a chip, and which of its chips it is. */
export function placement(torus: Torus, chip: number): Place {
  return at(torus.places, chip);
}

/** Chip numbers of a worker, by index. */
export function chipsOf(torus: Torus, worker: number): readonly number[] {
  const chips: number[] = [];
  for (const [chip, place] of torus.places.entries()) {
    if (place.worker === worker) chips[place.index] = chip;
  }
  return chips;
}

/** The axis along which a direction leads. */
export function axisOf(direction: Direction): Axis {
  return direction < 2 ? 0 : 1;
}

/** Whether the direction runs towards larger coordinates. */
export function isForward(direction: Direction): boolean {
  return (direction & 1) === 0;
}

/** The direction back. */
export function opposite(direction: Direction): Direction {
  return (direction ^ 1) as Direction;
}

/** Directed links are numbered chip · 4 + direction. */
export function linkCount(torus: Torus): number {
  return chipCount(torus) * directions.length;
}

/** `chip(3,1)`. */
export function chipName(torus: Torus, chip: number): string {
  return `chip(${position(torus, chip, 0)},${position(torus, chip, 1)})`;
}

/** The directed link that leaves a chip, as reports and faults name it: `chip(3,1)+x`. */
export function linkName(torus: Torus, link: number): string {
  return `${chipName(torus, link >> 2)}${at(directions, link & 3)}`;
}

/** The number of the link with that name. Throws `bad-flag` when the torus has no such link. */
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
  return (y * torus.width + x) * 4 + directions.indexOf(match[3] as (typeof directions)[number]);
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
