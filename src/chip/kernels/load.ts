/**
 * Instantiates a WASM module of kernels on a shared memory. `base64` is the module as
 * scripts/build-kernels.mjs writes it. `T` is the type of its exports; the caller keeps it equal to
 * the exports of the assembly source by hand.
 */
export function loadKernels<T>(base64: string, memory: WebAssembly.Memory): T {
  const module = new WebAssembly.Module(Buffer.from(base64, 'base64'));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as T;
}
