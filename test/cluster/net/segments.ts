import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Counts this process's open files of segments (memory shared with other processes), and the ranges
 * of its memory to which such files are mapped.
 */
export function segmentsHere(): { readonly open: number; readonly mapped: number } {
  const open = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('/tpu-pod-');
    } catch {
      // This descriptor was open only while the folder was listed.
      return false;
    }
  });
  const mapped = readFileSync('/proc/self/maps', 'utf8').match(/\/tpu-pod-/g) ?? [];
  return { open: open.length, mapped: mapped.length };
}
