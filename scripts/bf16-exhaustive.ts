import { bf16FromF32Bits } from '../src/numerics/bf16.ts';
import { bf16ByDefinition, bf16Quantum } from '../test/numerics/bf16-definition.ts';
import { script } from './command.ts';

/*
 * Converts each of the 2^32 f32 values to bf16 and compares the result with the definition:
 *   npm run compile && node dist/scripts/bf16-exhaustive.js
 */

/**
 * The script converts all f32 values in rounds. A round converts the 65,536 values that have the
 * same upper 16 bits. All rounds use the same two memories. Each memory can be read as numbers or
 * as bits:
 *
 * - the f32 values: `values` as numbers, `inputs` as bits;
 * - the expected bf16 results, widened to f32: `expected` as numbers, `expectedBits` as bits.
 */
const inputs = new Uint32Array(0x1_0000);
const values = new Float32Array(inputs.buffer);
const expected = new Float32Array(0x1_0000);
const expectedBits = new Uint32Array(expected.buffer);

/** Counts the f32 values with the given upper 16 bits that `bf16FromF32Bits` converts wrongly. */
function differencesIn(upper: number): number {
  const exponent = (upper >>> 7) & 0xff;
  return exponent === 0xff ? specialDifferencesIn(upper) : finiteDifferencesIn(upper, exponent);
}

function finiteDifferencesIn(upper: number, exponent: number): number {
  const quantum = bf16Quantum(exponent);
  for (let lower = 0; lower < 0x1_0000; lower++) inputs[lower] = (upper << 16) | lower;
  for (let lower = 0; lower < 0x1_0000; lower++) {
    expected[lower] = bf16ByDefinition(values[lower]!, quantum);
  }
  let differences = 0;
  for (let lower = 0; lower < 0x1_0000; lower++) {
    if ((bf16FromF32Bits(inputs[lower]!) << 16) >>> 0 !== expectedBits[lower]) differences++;
  }
  return differences;
}

/**
 * Counts wrong conversions of infinities and NaNs with the given upper 16 bits. The expected result
 * of an infinity is the same infinity. The expected result of a NaN is a quiet NaN with the sign
 * and the upper payload bits of the input.
 */
function specialDifferencesIn(upper: number): number {
  let differences = 0;
  for (let lower = 0; lower < 0x1_0000; lower++) {
    const infinite = (upper & 0x7f) === 0 && lower === 0;
    const expected = infinite ? upper : upper | 0x40;
    if (bf16FromF32Bits(((upper << 16) | lower) >>> 0) !== expected) differences++;
  }
  return differences;
}

script(
  'bf16-exhaustive',
  'convert every f32 to bf16 and compare each result with the definition (takes minutes)',
  '',
).parse();
let differences = 0;
for (let upper = 0; upper < 0x1_0000; upper++) differences += differencesIn(upper);
console.log(`${2 ** 32} inputs, ${differences} wrong results`);
process.exitCode = differences === 0 ? 0 : 1;
