import type { WindowDimension } from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import { type Affine, plus, shifted, times } from './affine.ts';
import type { Point } from './value.ts';

/**
 * A place along one dimension of the dilated form of an array. In the dilated form, neighbouring
 * elements of the array are `step` places apart.
 */
export interface Place {
  readonly place: Affine;
  readonly step: number;
}

/**
 * Returns the place of one element of a window, such as a window of a reduce-window. The place is
 * an index into the dilated operand, which has gaps between its elements. `point` is the index of
 * the window, `offsets` the index of the element within the window. `Elements.locate` takes the
 * result.
 */
export function windowPlaces(
  window: readonly WindowDimension[],
  point: Point,
  offsets: readonly Affine[],
): Place[] {
  return window.map((it, d) => ({
    place: shifted(
      plus(times(at(point, d), it.stride), times(at(offsets, d), it.windowDilation)),
      -it.padLow,
    ),
    step: it.baseDilation,
  }));
}

/** Every index into an array of the given sizes, in row-major order. */
export function positions(sizes: readonly number[]): number[][] {
  return sizes.reduce<number[][]>(
    (list, size) => list.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i])),
    [[]],
  );
}
