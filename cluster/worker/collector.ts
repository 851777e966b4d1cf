import { getHeapStatistics } from 'node:v8';

/** Collects what nobody holds any more, at once. */
export type Collect = () => void;

/** Memory outside of the heap that may lie around before it is collected, in bytes. */
const leftoverBytesMax = 2 * 2 ** 20;
const lookMs = 2000;
/** Collections for each rise: what is in use during the first is free by the last. */
const collectionsPerRise = 3;

/**
 * Gives back what large messages have left: executables, parameters. Their bytes lie outside of the
 * heap, and the engine alone waits for 64 MB of them before it looks, in every worker.
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
