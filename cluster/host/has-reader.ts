import { findInLibc, type LibcFunction } from './libc.ts';

let poll: LibcFunction | string | undefined;

/**
 * Events that `poll` reports when a pipe, socket or terminal has no reader any more:
 * `POLLERR | POLLHUP` [poll(2)].
 */
const readerGone = 0x08 | 0x10;

/**
 * True if a pipe, socket or terminal still has a reader. Also true if the system cannot tell
 * whether there is a reader. If there is none, the next write then fails.
 */
export function hasReader(descriptor: number): boolean {
  poll ??= findInLibc('int poll(void *fds, unsigned long nfds, int timeout)');
  if (typeof poll === 'string') return true;
  // A `struct pollfd` has 8 bytes: 4 for the descriptor, 2 for the requested events, 2 for the
  // events that occurred.
  const asked = new Int32Array([descriptor, 0]);
  if (poll(asked, 1, 0).error !== undefined) return true;
  return ((new Int16Array(asked.buffer)[3] ?? 0) & readerGone) === 0;
}
