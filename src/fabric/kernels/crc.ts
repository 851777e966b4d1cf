import { crc32 } from 'node:zlib';
import { wasm } from './crc.wasm.ts';

/**
 * CRC-32 (IEEE 802.3, as zlib's) of frames in the emulator's memory, about six times as fast as
 * zlib's, which Node builds without carry-less multiplication.
 *
 * Modulo the CRC's polynomial, x^(8·5869) = x^(8·5835) + x^(8·5821) + 1: of the multiples with four
 * terms whose exponents are whole bytes, and two of which are a few lanes of 16 bytes apart from the
 * first, that of least degree, found by searching all. So a lane may be moved 34, 48 and 5869 bytes on,
 * all three times whole, and the CRC stays what it was: a message is folded into its last 5888 bytes by
 * exclusive ors alone, and what moves 34 and 48 bytes never leaves the registers. In the same way
 * x^(8·300) = x^(8·155) + x^(8·117) + x^(8·89) + 1 folds these into the last 304, of which zlib makes
 * the CRC. [The idea of sparse multiples is that of "Chorba: A novel CRC32 implementation", 2024.]
 */
export interface FrameCrc {
  /**
   * CRC-32 of a range of the memory; `address` in bytes. With `before`, of the range behind bytes whose
   * CRC-32 that is.
   */
  of(address: number, bytes: number, before?: number): number;
}

const laneBytes = 16;
/** Of the ring into which a message is folded. */
const ringBytes = 368 * laneBytes;
/** Into which the ring is folded: 300, as whole lanes. */
const tailBytes = 304;
/** Shorter ranges are left to zlib. */
const foldedBytesMin = 2 * ringBytes;

/** Behind the ring, where its beginning is repeated. */
const repeatedBytes = 2 * laneBytes;

/** What the kernel works on: zeros, the ring and a part of it again, and what it is folded into. */
export const crcScratchBytes: number = tailBytes + ringBytes + repeatedBytes + tailBytes;

interface Kernel {
  fold(ring: number, source: number, bytes: number, tail: number, initial: number): void;
}

/** CRCs over `memory`. The {@link crcScratchBytes} from `scratch` on (16-aligned) belong to it. */
export function frameCrc(memory: WebAssembly.Memory, scratch: number): FrameCrc {
  const module = new WebAssembly.Module(Buffer.from(wasm, 'base64'));
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  const { fold } = instance.exports as unknown as Kernel;
  const bytes = Buffer.from(memory.buffer);
  bytes.fill(0, scratch, scratch + crcScratchBytes);
  const ring = scratch + tailBytes;
  const tailAt = ring + ringBytes + repeatedBytes;
  const tail = bytes.subarray(tailAt, tailAt + tailBytes);
  return {
    of(address, count, before = 0) {
      if (count < foldedBytesMin) {
        return crc32(bytes.subarray(address, address + count), before);
      }
      const folded = count - (count % laneBytes);
      fold(ring, address, folded, tailAt, ~before);
      const crc = crc32(tail, zlibZero);
      if (folded === count) return crc;
      return crc32(bytes.subarray(address + folded, address + count), crc);
    },
  };
}

/** zlib complements before and after: what makes it begin with 0. */
const zlibZero = 0xffffffff;
