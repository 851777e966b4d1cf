import { getHeapStatistics } from 'node:v8';

/** Runs a full garbage collection at once (`gc` of `--expose-gc`). */
export type Collect = () => void;

/**
 * If the memory outside of V8's heap has grown by more than this number of bytes since the last
 * garbage collection, garbage is collected `collectionsPerRise` times.
 */
const leftoverBytesMax = 2 * 2 ** 20;
/** Period of the checks of the memory outside of the heap, in ms. */
const lookMs = 2000;
/**
 * How many garbage collections follow, one at each check, when the memory outside of V8's heap has
 * grown by more than `leftoverBytesMax`. One would not be enough, because memory that is still in
 * use at the first collection may be free at the last.
 */
const collectionsPerRise = 3;

/**
 * Makes this process free, from time to time, the memory that large messages (executables,
 * parameters) have left behind. This memory lies outside of V8's heap, and V8 itself frees it so
 * late that up to 64 MB of it would gather in every worker. Does nothing if `collect` is undefined.
 */
export function collectLeftovers(collect: Collect | undefined): void {
  if (collect === undefined) return;
  let kept = 0;
  let due = 0;
  setInterval(() => {
    if (getHeapStatistics().external_memory > kept + leftoverBytesMax) due = collectionsPerRise;
    if (due === 0) return;
    due--;
    collect();
    kept = getHeapStatistics().external_memory;
  }, lookMs).unref();
}
