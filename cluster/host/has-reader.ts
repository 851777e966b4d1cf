import { findInLibc, type LibcFunction } from './libc.ts';

let poll: LibcFunction | string | undefined;

/** `POLLERR | POLLHUP` [poll(2)]. */
const readerGone = 0x08 | 0x10;

/**
 * Whether a pipe, socket or terminal still has a reader. True where the system does not say: then the next
 * write fails if it has none.
 */
export function hasReader(descriptor: number): boolean {
  poll ??= findInLibc('int poll(void *fds, unsigned long nfds, int timeout)');
  if (typeof poll === 'string') return true;
  // A `struct pollfd` has 8 bytes: the descriptor in 4, the events asked for in 2, the events found in 2.
  const asked = new Int32Array([descriptor, 0]);
  if (poll(asked, 1, 0).error !== undefined) return true;
  return ((new Int16Array(asked.buffer)[3] ?? 0) & readerGone) === 0;
}
