import { bf16FromF32Bits, f32FromBf16 } from '../src/numerics/bf16.ts';
import { bf16ByDefinition, bf16Quantum } from '../test/numerics/bf16-definition.ts';

/*
 * Converts every f32 to bf16 and holds the result against the definition:
 *   npm run compile && node dist/scripts/bf16-exhaustive.js
 */

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** How many of the 65,536 inputs with the given upper half convert otherwise than defined. */
function differencesIn(upper: number): number {
  const exponent = (upper >>> 7) & 0xff;
  return exponent === 0xff ? specialDifferencesIn(upper) : finiteDifferencesIn(upper, exponent);
}

function finiteDifferencesIn(upper: number, exponent: number): number {
  const quantum = bf16Quantum(exponent);
  let differences = 0;
  for (let lower = 0; lower < 0x1_0000; lower++) {
    const bits = ((upper << 16) | lower) >>> 0;
    word[0] = bits;
    const expected = bf16ByDefinition(float[0]!, quantum);
    const found = f32FromBf16(bf16FromF32Bits(bits));
    if (!Object.is(found, expected)) differences++;
  }
  return differences;
}

/** Infinities stay; NaN keeps its sign and upper payload, and becomes quiet. */
function specialDifferencesIn(upper: number): number {
  let differences = 0;
  for (let lower = 0; lower < 0x1_0000; lower++) {
    const infinite = (upper & 0x7f) === 0 && lower === 0;
    const expected = infinite ? upper : upper | 0x40;
    if (bf16FromF32Bits(((upper << 16) | lower) >>> 0) !== expected) differences++;
  }
  return differences;
}

let differences = 0;
for (let upper = 0; upper < 0x1_0000; upper++) differences += differencesIn(upper);
console.log(`${2 ** 32} inputs, ${differences} differ`);
process.exitCode = differences === 0 ? 0 : 1;
