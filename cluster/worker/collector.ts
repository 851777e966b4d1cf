import { getHeapStatistics } from 'node:v8';

/** Runs a full garbage collection at once (`gc` of `--expose-gc`). */
export type Collect = () => void;

/**
 * Largest growth, in bytes, of the memory outside of V8's heap since the last garbage collection.
 * If the memory has grown by more, garbage is collected `collectionsPerRise` times.
 */
const leftoverBytesMax = 2 * 2 ** 20;
/** Period of the checks of the memory outside of the heap, in ms. */
const lookMs = 2000;
/**
 * Number of garbage collections, one at each check, after the memory has grown by more than
 * `leftoverBytesMax`. One collection is not enough: memory that is still in use at the first may be
 * free at the last.
 */
const collectionsPerRise = 3;

/**
 * Frees, from time to time, memory that large messages (executables, parameters) have left behind
 * in this process. This memory lies outside of V8's heap. V8 itself frees it so late that up to 64
 * MB of it would gather in every worker. Does nothing if `collect` is undefined.
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
