import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Counts the segments of this process. A segment is a file whose memory several processes share.
 * `open` is the number of open segments. `mapped` is the number of ranges of memory to which a
 * segment is mapped.
 */
export function segmentsHere(): { readonly open: number; readonly mapped: number } {
  const open = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('/tpu-pod-');
    } catch {
      // The descriptor is closed by now. This is always so for the descriptor with which
      // `readdirSync` read the folder.
      return false;
    }
  });
  const mapped = readFileSync('/proc/self/maps', 'utf8').match(/\/tpu-pod-/g) ?? [];
  return { open: open.length, mapped: mapped.length };
}
