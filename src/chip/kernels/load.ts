/**
 * Instantiates a kernel module (base64, see scripts/build-kernels.mjs) over a shared memory.
 * `T` is what the module exports: kept beside its assembly source by hand.
 */
export function loadKernels<T>(base64: string, memory: WebAssembly.Memory): T {
  const module = new WebAssembly.Module(Buffer.from(base64, 'base64'));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as T;
}
