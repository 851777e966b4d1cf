import v8 from 'node:v8';

/**
 * A WASM module with one function, which applies `f32x4.relaxed_madd` to its three parameters. The
 * module is valid only if the JavaScript engine supports relaxed SIMD. [WebAssembly relaxed-simd]
 */
const relaxedMaddModule: Uint8Array<ArrayBuffer> = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x08, 0x01, 0x60, 0x03, 0x7b, 0x7b, 0x7b, 0x01, 0x7b], // one type: three v128 to v128
  ...[0x03, 0x02, 0x01, 0x00], // one function of that type
  ...[0x0a, 0x0d, 0x01, 0x0b, 0x00], // its code, 11 bytes, no locals
  ...[0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfd, 0x85, 0x02, 0x0b], // f32x4.relaxed_madd
);

/** True if this thread can compile relaxed SIMD with the engine flags that are set now. */
export function relaxedSimdSupported(): boolean {
  return WebAssembly.validate(relaxedMaddModule);
}

/**
 * Enables relaxed SIMD for this thread. Returns true if relaxed SIMD is available. Every entry
 * point and worker calls this function before it compiles a kernel. In Node 20 relaxed SIMD needs
 * an engine flag, which this function sets. Node 22 and newer print a warning for the unknown flag,
 * so the function does not set the flag there.
 */
export function enableRelaxedSimd(): boolean {
  if (relaxedSimdSupported()) return true;
  if (Number.parseInt(process.versions.node, 10) < 22) {
    v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  }
  return relaxedSimdSupported();
}
