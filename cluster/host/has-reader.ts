import { findInLibc, type LibcFunction } from './libc.ts';

let poll: LibcFunction | string | undefined;

/** `POLLERR | POLLHUP` [poll(2)]. */
const readerGone = 0x08 | 0x10;

/**
 * False of a pipe, socket or terminal that nobody reads any more. True where the system does not
 * say: then the next write tells.
 */
export function hasReader(descriptor: number): boolean {
  poll ??= findInLibc('int poll(void *fds, unsigned long nfds, int timeout)');
  if (typeof poll === 'string') return true;
  // struct pollfd: the descriptor in 4 bytes, events asked for and found in 2 each.
  const asked = new Int32Array([descriptor, 0]);
  if (poll(asked, 1, 0).error !== undefined) return true;
  return ((new Int16Array(asked.buffer)[3] ?? 0) & readerGone) === 0;
}
