import type { WindowDimension } from './instruction.ts';

/** One dimension of a window; what is not given is none: no stride, padding, dilation, reversal. */
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

/** How many positions a window takes over a dimension of `size` elements. [XLA, window_util] */
export function windowPositions(size: number, window: WindowDimension): number {
  const base = paddedSize(size, window);
  const reach = dilated(window.size, window.windowDilation);
  return base < reach ? 0 : Math.floor((base - reach) / window.stride) + 1;
}

/**
 * The elements of the base with its holes and padding; negative padding must not make it less than
 * 0.
 */
export function paddedSize(size: number, window: WindowDimension): number {
  return dilated(size, window.baseDilation) + window.padLow + window.padHigh;
}

/**
 * The element of the base that offset `offset` of the window at `position` lies on, or -1 where
 * that is padding or a hole of the dilated base. `size` is the number of elements of the base.
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
