/**
 * One dimension of a window. `size`, `stride`, `padLow` and `padHigh` are in elements. A dilation
 * of 1 means that there is no dilation.
 */
export interface WindowDimension {
  readonly size: number;
  readonly stride: number;
  readonly padLow: number;
  readonly padHigh: number;
  readonly baseDilation: number;
  readonly windowDilation: number;
  readonly reversal: boolean;
}

/**
 * Roles of the dimensions of a convolution's three arrays: input, kernel and output. The value of
 * `inputBatch`, for example, is the index of the input's dimension with the role "batch". The same
 * holds for the other fields. Entry i of each `Spatial` list belongs to dimension i of the window.
 */
export interface ConvolutionDimensions {
  readonly inputBatch: number;
  readonly inputFeature: number;
  readonly inputSpatial: readonly number[];
  readonly kernelInputFeature: number;
  readonly kernelOutputFeature: number;
  readonly kernelSpatial: readonly number[];
  readonly outputBatch: number;
  readonly outputFeature: number;
  readonly outputSpatial: readonly number[];
}

/**
 * Makes one dimension of a window. The defaults are stride 1 and no padding, dilation or reversal.
 */
export function windowDimension(
  given: Pick<WindowDimension, 'size'> & Partial<WindowDimension>,
): WindowDimension {
  return {
    size: given.size,
    stride: given.stride ?? 1,
    padLow: given.padLow ?? 0,
    padHigh: given.padHigh ?? 0,
    baseDilation: given.baseDilation ?? 1,
    windowDilation: given.windowDilation ?? 1,
    reversal: given.reversal ?? false,
  };
}

/** Number of positions of a window over a dimension of `size` elements. [XLA, window_util] */
export function windowPositions(size: number, window: WindowDimension): number {
  const base = paddedSize(size, window);
  const reach = dilated(window.size, window.windowDilation);
  return base < reach ? 0 : Math.floor((base - reach) / window.stride) + 1;
}

/**
 * Returns the size of a dimension after dilation and padding, in elements. Negative padding may
 * lead to a size below 0; shape inference refuses such a window.
 */
export function paddedSize(size: number, window: WindowDimension): number {
  return dilated(size, window.baseDilation) + window.padLow + window.padHigh;
}

/**
 * Returns the index of the element that lies at a given place of a window. `size` is the number of
 * elements of the dimension, `position` the index of the window's position, and `offset` the index
 * of the place within the window. Returns −1 if the place is padding or a gap that dilation makes
 * between elements.
 */
export function windowElement(
  position: number,
  offset: number,
  size: number,
  window: WindowDimension,
): number {
  const place = position * window.stride + offset * window.windowDilation - window.padLow;
  if (place < 0 || place % window.baseDilation !== 0) return -1;
  const element = place / window.baseDilation;
  return element < size ? element : -1;
}

function dilated(size: number, dilation: number): number {
  return size === 0 ? 0 : (size - 1) * dilation + 1;
}
