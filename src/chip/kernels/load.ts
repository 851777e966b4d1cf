/**
 * Instantiates a WASM module of kernels on a shared memory and returns the exports. `base64` is the
 * module as scripts/build-kernels.mjs writes it. `T` is the type of the exports. Nothing checks
 * that the module has these exports, so the caller must keep `T` equal to the assembly source.
 */
export function loadKernels<T>(base64: string, memory: WebAssembly.Memory): T {
  const module = new WebAssembly.Module(Buffer.from(base64, 'base64'));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as T;
}
