import { expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { bytesOf, type Literal, literalFrom, literalOfBytes } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

const count = 4096;
const f32 = arrayShape('f32', [count]);
/** Signalling NaN: an engine that copies it as a float may set the bit 0x00400000. */
const words = Uint32Array.from({ length: count }, (_, i) => 0x7f800001 + i);
const signalling = literalOfBytes(f32, new Uint8Array(words.buffer));
const odd = literalFrom(arrayShape('pred', [count]), (i) => i % 2);

const x = b.parameter(0, f32);
const p = b.parameter(1, odd.shape);

test.each<[string, HloInstruction]>([
  ['reverse', b.reverse(b.reverse(x, [0]), [0])],
  ['concatenate', b.slice(b.concatenate([x, x], 0), [0], [count])],
  ['select', b.select(p, x, x)],
  [
    'pad',
    b.slice(b.pad(x, b.scalar('f32', 0), { low: [1], high: [0], interior: [0] }), [1], [count + 1]),
  ],
  ['reshape', b.reshape(b.reshape(x, [64, 64]), [count])],
  ['transpose', b.reshape(b.transpose(b.reshape(x, [1, count]), [1, 0]), [count])],
])('a %s keeps the bits of a NaN', (_, root) => {
  const inputs: readonly Literal[] = [signalling, odd];
  const [found] = evaluate(b.module('m', [x, p], root), { parameters: inputs }).values;
  expect(Buffer.compare(bytesOf(found!), bytesOf(signalling))).toBe(0);
});
