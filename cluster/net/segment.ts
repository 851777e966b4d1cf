import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { broken } from '../../src/numerics/assert.ts';
import { messageOf } from '../../src/numerics/error.ts';
import { findInLibc, type LibcFunction } from '../host/libc.ts';

/**
 * Offer of a segment to a peer. A segment is memory that two processes of one host share. It is a
 * file without a name in the memory file system `/dev/shm`. Each of the two processes maps the file
 * over a range of its own memory with `mmap`.
 *
 * The functions of this file do not throw if a segment cannot be made or mapped. They return the
 * reason in one line instead, because payloads can always go through the socket.
 */
export interface SegmentOffer {
  /**
   * `pid` is the id of the process that made the segment. `fd` is the descriptor of the file in
   * that process.
   */
  readonly pid: number;
  readonly fd: number;
  /**
   * Device and inode of the file. The receiver checks that the file it opens has the same device
   * and inode, because in another container the number `pid` may belong to another process.
   */
  readonly device: bigint;
  readonly inode: bigint;
}

/**
 * Unit of mapping, in bytes. Mapped ranges begin and end at multiples of this unit. The unit is a
 * multiple of the page size of every system.
 */
export const mapBytes = 65536;
export const offerBytes = 24;

const folder = '/dev/shm';

/** Flags of `mmap` on Linux. */
const protections = { read: 1, write: 2 } as const;
const flags = { shared: 0x01, private: 0x02, fixed: 0x10, anonymous: 0x20 } as const;

/**
 * The function `mmap`, or the reason why `mmap` is not available. Undefined until the first use:
 * many processes never use `mmap`, so it is looked up only then.
 */
let mmap: LibcFunction | string | undefined;

/** Looks up the function `mmap`. Returns the reason in one line if `mmap` is not available. */
function findMmap(): LibcFunction | string {
  if (process.platform !== 'linux') return `no shared memory on ${process.platform}`;
  return findInLibc(
    'intptr_t mmap(void *at, size_t bytes, int protection, int flags, int fd, int64_t start)',
  );
}

/**
 * Makes a segment full of zeros, reserves memory for the whole segment, and maps the segment over
 * `range`. Returns `offer`, the bytes that offer the segment to the peer, and the function `close`.
 * After a call of `close` no peer can map the segment any more, but in this process the segment
 * stays mapped. If the segment cannot be made, returns the reason in one line instead.
 */
export function makeSegment(
  range: Uint8Array,
): { readonly offer: Buffer; readonly close: () => void } | string {
  let fd: number | undefined;
  try {
    const path = `${folder}/tpu-pod-${randomBytes(16).toString('hex')}`;
    fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    const zeros = new Uint8Array(Math.min(range.length, 16 * mapBytes));
    for (let at = 0; at < range.length; ) {
      at += writeSync(fd, zeros, 0, Math.min(zeros.length, range.length - at));
    }
    const opened = fd;
    const refused = map(range, opened, protections.read | protections.write, flags.shared);
    if (refused === undefined) {
      const { dev: device, ino: inode } = fstatSync(opened, { bigint: true });
      const offer = encodeOffer({ pid: process.pid, fd: opened, device, inode });
      return { offer, close: () => closeSync(opened) };
    }
    closeSync(opened);
    return refused;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    return firstLine(error);
  }
}

/**
 * Maps a segment, which another process of this host has offered, over `range` for reading only.
 * Returns undefined if the segment is mapped, otherwise the reason in one line.
 */
export function mapSegment(offer: Uint8Array, range: Uint8Array): string | undefined {
  if (offer.length !== offerBytes) return `an offer of ${offer.length} bytes`;
  const { pid, fd, device, inode } = decodeOffer(offer);
  let file: number | undefined;
  try {
    // If the offer is wrong, the descriptor may lead to a pipe. Without `O_NONBLOCK`, `openSync`
    // would then wait for a writer of that pipe.
    file = openSync(`/proc/${pid}/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
    const it = fstatSync(file, { bigint: true });
    const isIt = it.isFile() && it.dev === device && it.ino === inode;
    if (!isIt || it.size !== BigInt(range.length)) return 'a segment of another host';
    return map(range, file, protections.read, flags.shared);
  } catch (error) {
    return firstLine(error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Unmaps a segment: `range` becomes private memory full of zeros, as before the mapping. */
export function unmapSegment(range: Uint8Array): void {
  const refused = map(
    range,
    -1,
    protections.read | protections.write,
    flags.private | flags.anonymous,
  );
  if (refused !== undefined) broken(`a segment that stays mapped: ${refused}`);
}

/**
 * Maps a file over a range of memory. `fd` is the descriptor of the file; if `fd` is −1, memory
 * full of zeros is mapped instead. `protection` and `how` are the access rights and the flags for
 * `mmap`. Returns undefined if the range is mapped, otherwise the reason in one line.
 */
function map(range: Uint8Array, fd: number, protection: number, how: number): string | undefined {
  mmap ??= findMmap();
  if (typeof mmap === 'string') return mmap;
  const { error } = mmap(range, range.length, protection, how | flags.fixed, fd, 0);
  return error === undefined ? undefined : `mmap: ${error}`;
}

function encodeOffer({ pid, fd, device, inode }: SegmentOffer): Buffer {
  const offer = Buffer.alloc(offerBytes);
  offer.writeUInt32LE(pid, 0);
  offer.writeUInt32LE(fd, 4);
  offer.writeBigUInt64LE(device, 8);
  offer.writeBigUInt64LE(inode, 16);
  return offer;
}

function decodeOffer(offer: Uint8Array): SegmentOffer {
  const bytes = Buffer.from(offer.buffer, offer.byteOffset, offer.length);
  const [device, inode] = [bytes.readBigUInt64LE(8), bytes.readBigUInt64LE(16)];
  return { pid: bytes.readUInt32LE(0), fd: bytes.readUInt32LE(4), device, inode };
}

function firstLine(error: unknown): string {
  return messageOf(error).split('\n', 1)[0] ?? '';
}
