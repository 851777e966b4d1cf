import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { broken } from '../../src/numerics/assert.ts';
import { findInLibc, type LibcFunction } from '../host/libc.ts';

/**
 * Memory that two processes of one host share: a file without a name in the host's memory, which each
 * maps over a range of its own. Node cannot map files, so koffi calls `mmap`. Whatever is missing for it
 * (a platform, `/dev/shm`, room there) is said in a line and not thrown: there is always the socket.
 */
export interface SegmentOffer {
  /** The process that made it, and its number of the open file. */
  readonly pid: number;
  readonly fd: number;
  /** Which file that has to be: numbers of processes may mean others elsewhere. */
  readonly device: bigint;
  readonly inode: bigint;
}

/** Ranges that are mapped begin and end at multiples of this: no system has larger pages. */
export const mapBytes = 65536;
export const offerBytes = 24;

const folder = '/dev/shm';

/** Flags of `mmap` on Linux. */
const protections = { read: 1, write: 2 } as const;
const flags = { shared: 0x01, private: 0x02, fixed: 0x10, anonymous: 0x20 } as const;

/** Looked for when it is first needed: most processes of containers never do. */
let mmap: LibcFunction | string | undefined;

/** `mmap`, or why there is none. */
function findMmap(): LibcFunction | string {
  if (process.platform !== 'linux') return `no shared memory on ${process.platform}`;
  return findInLibc(
    'intptr_t mmap(void *at, size_t bytes, int protection, int flags, int fd, int64_t start)',
  );
}

/**
 * Makes a segment of zeros over `range` of a memory, for which all of its memory is set aside. It is
 * offered until `close`, which leaves it mapped. Gives why not where that cannot be.
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

/** Maps what another process of this host offers over `range`, to be read. Gives why not, if so. */
export function mapSegment(offer: Uint8Array, range: Uint8Array): string | undefined {
  if (offer.length !== offerBytes) return `an offer of ${offer.length} bytes`;
  const { pid, fd, device, inode } = decodeOffer(offer);
  let file: number | undefined;
  try {
    // Not waited for, should it be a pipe.
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

/** Makes a range zeros of this process alone, as before something was mapped there. */
export function unmapSegment(range: Uint8Array): void {
  const refused = map(
    range,
    -1,
    protections.read | protections.write,
    flags.private | flags.anonymous,
  );
  if (refused !== undefined) broken(`a segment that stays mapped: ${refused}`);
}

/** Maps a file over a range of a memory, or nothing but zeros. Gives why not, if so. */
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
  return String(error instanceof Error ? error.message : error).split('\n', 1)[0] ?? '';
}
