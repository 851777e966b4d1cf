import v8 from 'node:v8';

/**
 * A module of one function, (v128, v128, v128) → v128, that is `f32x4.relaxed_madd` of its
 * parameters: it validates where the engine knows relaxed SIMD. [WebAssembly relaxed-simd]
 */
const relaxedMaddModule: Uint8Array<ArrayBuffer> = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x08, 0x01, 0x60, 0x03, 0x7b, 0x7b, 0x7b, 0x01, 0x7b], // one type
  ...[0x03, 0x02, 0x01, 0x00], // one function of it
  ...[0x0a, 0x0d, 0x01, 0x0b, 0x00], // its code, 11 bytes, no locals
  ...[0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfd, 0x85, 0x02, 0x0b], // f32x4.relaxed_madd
);

/** Whether this thread can compile relaxed SIMD as things are. */
export function relaxedSimdSupported(): boolean {
  return WebAssembly.validate(relaxedMaddModule);
}

/**
 * Turns relaxed SIMD on where the engine has it behind a flag (Node 20), for this thread, and
 * says whether it is there. Every entry point and worker calls it before a kernel is compiled.
 * Newer engines do not know the flag and print a complaint, so they are not asked.
 */
export function enableRelaxedSimd(): boolean {
  if (relaxedSimdSupported()) return true;
  if (Number.parseInt(process.versions.node, 10) < 22) {
    v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  }
  return relaxedSimdSupported();
}
