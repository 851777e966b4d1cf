import { crc32 } from 'node:zlib';
import { wasm } from './crc.wasm.ts';

const laneBytes = 16;
/** Size, in bytes, of the ring, a circular buffer into which a message is folded. */
const ringBytes = 368 * laneBytes;
/**
 * Size, in bytes, of the tail: the short message that is left at the end. The longest distance of
 * the second equation in {@link FrameCrc} is 300 bytes; 304 is the next multiple of a lane.
 */
const tailBytes = 304;
/**
 * Minimum length, in bytes, of a range that is folded. zlib computes the CRC of a shorter range
 * directly.
 */
const foldedBytesMin = 2 * ringBytes;

/**
 * Number of bytes behind the ring that repeat its beginning, so that reads need not wrap around.
 */
const repeatedBytes = 2 * laneBytes;

/**
 * Size, in bytes, of the kernel's working memory. The memory holds, in this order: zeros, the ring,
 * a copy of the ring's beginning, and the tail.
 */
export const crcScratchBytes: number = tailBytes + ringBytes + repeatedBytes + tailBytes;

/**
 * Number of bytes that are written before the CRC is updated with them. The bytes are then still in
 * the processor's nearest caches.
 */
export const cachedBytes = 65536;

/** A CRC-32 that is computed while its bytes arrive. */
export interface RunningCrc {
  /** Reports that the first `end` bytes of the range have arrived. `end` must not decrease. */
  take(end: number): void;
  /** The caller calls this when all bytes have arrived. Returns the CRC-32 of the bytes. */
  end(): number;
}

interface Kernel {
  begin(ring: number, at: number): void;
  move(ring: number, at: number, source: number, bytes: number): number;
  finish(ring: number, source: number, tail: number): void;
}

/** The compiled kernel; undefined until it is first used. */
let compiled: WebAssembly.Module | undefined;

/**
 * The kernel of each memory. A kernel has no state of its own, so all CRCs over a memory share one
 * kernel.
 */
const kernels: WeakMap<WebAssembly.Memory, Kernel> = new WeakMap();

function kernelOf(memory: WebAssembly.Memory): Kernel {
  const known = kernels.get(memory);
  if (known !== undefined) return known;
  compiled ??= new WebAssembly.Module(Buffer.from(wasm, 'base64'));
  const instance = new WebAssembly.Instance(compiled, { env: { memory } });
  const kernel = instance.exports as unknown as Kernel;
  kernels.set(memory, kernel);
  return kernel;
}

/**
 * CRC-32 (IEEE 802.3, as in zlib) of frames in the emulator's memory. It is about six times as fast
 * as the zlib in Node, which is built without carry-less multiplication.
 *
 * The method folds a message: it removes bytes from the beginning and xors them into later bytes,
 * such that the CRC stays the same. Two equations, which hold modulo the CRC's polynomial, say into
 * which later bytes:
 *
 *     x^(8·5869) = x^(8·5835) + x^(8·5821) + 1
 *     x^(8·300) = x^(8·155) + x^(8·117) + x^(8·89) + 1
 *
 * By the first equation, a lane (16 bytes) can be removed if it is xored into the message at three
 * places: 34, 48 and 5869 bytes further on. (34 = 5869 − 5835, 48 = 5869 − 5821.) Lanes are removed
 * until 5888 bytes are left. The distances 34 and 48 are short, so they need only the newest three
 * lanes, which stay in registers. By the second equation, more lanes are removed in the same way,
 * until 304 bytes are left. zlib computes the CRC of these 304 bytes.
 *
 * The first equation was found by a search among the multiples of the CRC's polynomial. Of the
 * multiples with the following properties, it has the least degree: it has four terms, its
 * exponents are multiples of 8 (whole bytes), and two of its terms are only a few lanes from the
 * highest term. The idea of such sparse multiples is that of "Chorba: A novel CRC32
 * implementation", 2024.
 */
export class FrameCrc implements RunningCrc {
  readonly #kernel: Kernel;
  readonly #memory: Buffer;
  readonly #ring: number;
  readonly #tail: Buffer;
  /** Byte address of the range whose CRC is being computed. */
  #address = 0;
  /** Length, in bytes, of the range whose CRC is being computed. */
  #bytes = 0;
  /**
   * Number of bytes at the start of the range that are folded into the ring. These are all bytes
   * but the last 5888 to 5903. If the range is too short to be folded, the number is 0.
   */
  #moving = 0;
  /** Number of bytes of the range that have been folded. */
  #moved = 0;
  /** Byte offset in the ring at which the next lane is stored. */
  #at = 0;

  /**
   * Computes CRCs of ranges of `memory`. This object owns the {@link crcScratchBytes} bytes from
   * the address `scratch` on, a multiple of 16.
   */
  constructor(memory: WebAssembly.Memory, scratch: number) {
    this.#kernel = kernelOf(memory);
    this.#memory = Buffer.from(memory.buffer);
    this.#memory.fill(0, scratch, scratch + crcScratchBytes);
    this.#ring = scratch + tailBytes;
    const tail = this.#ring + ringBytes + repeatedBytes;
    this.#tail = this.#memory.subarray(tail, tail + tailBytes);
  }

  /** Returns the CRC-32 of a range of the memory. `address` is a byte address. */
  of(address: number, bytes: number): number {
    this.begin(address, bytes);
    return this.end();
  }

  /**
   * Begins the CRC of a range whose bytes arrive piece by piece. An earlier range that has begun
   * and has not ended is dropped.
   */
  begin(address: number, bytes: number): void {
    this.#address = address;
    this.#bytes = bytes;
    this.#moved = 0;
    this.#moving = bytes < foldedBytesMin ? 0 : bytes - (bytes % laneBytes) - ringBytes;
    if (this.#moving === 0) return;
    this.#at = (ringBytes - (this.#moving % ringBytes)) % ringBytes;
    this.#kernel.begin(this.#ring, this.#at);
  }

  take(end: number): void {
    const moved = Math.min(end - (end % laneBytes), this.#moving);
    const count = moved - this.#moved;
    if (count <= 0) return;
    this.#at = this.#kernel.move(this.#ring, this.#at, this.#address + this.#moved, count);
    this.#moved = moved;
  }

  end(): number {
    if (this.#moving === 0) return this.#zlib(0, 0);
    this.take(this.#moving);
    this.#kernel.finish(this.#ring, this.#address + this.#moving, this.#tail.byteOffset);
    const folded = this.#moving + ringBytes;
    const crc = crc32(this.#tail, zlibZero);
    return folded === this.#bytes ? crc : this.#zlib(folded, crc);
  }

  /**
   * Returns the CRC of the whole range. `before` is the CRC of the bytes before offset `start`;
   * zlib continues that CRC with the bytes from `start` to the end of the range.
   */
  #zlib(start: number, before: number): number {
    const range = this.#memory.subarray(this.#address + start, this.#address + this.#bytes);
    return crc32(range, before);
  }
}

/**
 * Start value with which zlib computes the CRC of the tail. zlib inverts the bits of a start value.
 * So with 32 one bits, zlib's CRC register begins at 0.
 */
const zlibZero = 0xffffffff;
