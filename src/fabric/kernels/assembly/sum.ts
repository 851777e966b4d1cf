// Kernels that sum and copy f32 vectors at any byte addresses in the shared memory. `count` is the
// number of elements of a vector. The target range must be the same as a source range, or must not
// overlap with any source range.

/** target = a + b. */
export function add(target: usize, a: usize, b: usize, count: usize): void {
  const wide = target + ((count & ~15) << 2);
  const end = target + (count << 2);
  while (target < wide) {
    const s0 = f32x4.add(v128.load(a, 0), v128.load(b, 0));
    const s1 = f32x4.add(v128.load(a, 16), v128.load(b, 16));
    const s2 = f32x4.add(v128.load(a, 32), v128.load(b, 32));
    const s3 = f32x4.add(v128.load(a, 48), v128.load(b, 48));
    v128.store(target, s0, 0);
    v128.store(target, s1, 16);
    v128.store(target, s2, 32);
    v128.store(target, s3, 48);
    target += 64;
    a += 64;
    b += 64;
  }
  while (target < end) {
    f32.store(target, f32.load(a) + f32.load(b));
    target += 4;
    a += 4;
    b += 4;
  }
}

/** target = source. */
export function copy(target: usize, source: usize, count: usize): void {
  const wide = target + ((count & ~15) << 2);
  const end = target + (count << 2);
  while (target < wide) {
    const s0 = v128.load(source, 0);
    const s1 = v128.load(source, 16);
    const s2 = v128.load(source, 32);
    const s3 = v128.load(source, 48);
    v128.store(target, s0, 0);
    v128.store(target, s1, 16);
    v128.store(target, s2, 32);
    v128.store(target, s3, 48);
    target += 64;
    source += 64;
  }
  while (target < end) {
    f32.store(target, f32.load(source));
    target += 4;
    source += 4;
  }
}
