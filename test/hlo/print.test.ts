import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { opcodes } from '../../src/hlo/ops.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { floatText } from '../../src/hlo/text/literal.ts';
import { bodiesOf, mapInstructions, postOrder, withOperands } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import { f32FromBits } from '../../src/numerics/f32-ops.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { arbitraryModule } from './programs.ts';
import { difference } from './same.ts';

describe('random programs', () => {
  test('are well typed, and parse(print(module)) is the same module', () => {
    fc.assert(
      fc.property(arbitraryModule(), ({ module }) => {
        verify(module);
        const text = print(module);
        const back = parse(text);
        verify(back);
        expect(difference(module, back)).toBeUndefined();
        expect(print(back)).toBe(text);
      }),
      { numRuns: 400 },
    );
  });

  test('contain every opcode', () => {
    const seen = new Set<string>();
    const visit = (it: HloInstruction): void => {
      seen.add(it.opcode);
      for (const body of bodiesOf(it)) postOrder(body.root).forEach(visit);
    };
    for (const { module } of fc.sample(arbitraryModule({ opcodes }), { seed: 1, numRuns: 400 })) {
      postOrder([...module.entry.parameters, module.entry.root]).forEach(visit);
    }
    expect([...seen].sort()).toEqual([...opcodes].sort());
  });

  test('stay the same object when a rewrite changes nothing', () => {
    fc.assert(
      fc.property(arbitraryModule(), ({ module }) => {
        expect(mapInstructions(module.entry, withOperands)).toBe(module.entry);
      }),
    );
  });
});

test('the shortest text of an f32 reads back to its bits', () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), (bits) => {
      const value = f32FromBits(bits);
      const back = Number(floatText(value).replace('nan', 'NaN').replace('inf', 'Infinity'));
      expect(Math.fround(back)).toBe(value);
    }),
    { numRuns: 2000 },
  );
  expect(floatText(Math.fround(0.1))).toBe('0.1');
  // XLA's parser would drop the sign of "-0", because it reads "-0" as an integer.
  expect(floatText(-0)).toBe('-0.0');
});

test("an alias is printed as an output and a whole parameter in XLA's syntax", () => {
  const x = b.parameter(0, arrayShape('f32', [2]));
  const alias = [{ output: 0, parameter: 0 }];
  const header = (root: HloInstruction): string => print(b.module('m', [x], root, alias));
  expect(header(b.tuple([b.negate(x)]))).toContain('={ {0}: (0, {}, may-alias) }\n');
  expect(header(b.negate(x))).toContain('={ {}: (0, {}, may-alias) }\n');
});

test('verify, print and parse take a chain of 20,000 instructions', () => {
  const x = b.parameter(0, arrayShape('f32', []));
  let root: HloInstruction = x;
  for (let i = 0; i < 20_000; i++) root = b.add(root, x);
  const module = b.module('chain', [x], root);
  verify(module);
  expect(postOrder(parse(print(module)).entry.root)).toHaveLength(20_001);
});

describe('print', () => {
  test("writes XLA's text format", () => {
    const image = b.parameter(0, arrayShape('f32', [2, 8, 8, 3]), 'image');
    const kernel = b.parameter(1, arrayShape('f32', [3, 3, 3, 4]));
    const window = [0, 1].map(() => b.windowDimension({ size: 3, stride: 2, padHigh: 1 }));
    const dimensions = {
      inputBatch: 0,
      inputFeature: 3,
      inputSpatial: [1, 2],
      kernelInputFeature: 2,
      kernelOutputFeature: 3,
      kernelSpatial: [0, 1],
      outputBatch: 0,
      outputFeature: 3,
      outputSpatial: [1, 2],
    };
    const result = b.named(b.convolution(image, kernel, { window, dimensions }), 'conv1');
    expect(print(b.module('small', [image, kernel], result))).toBe(`HloModule small

ENTRY %main (parameter.0: f32[2,8,8,3], parameter.1: f32[3,3,3,4]) -> f32[2,4,4,4] {
  %parameter.0 = f32[2,8,8,3] parameter(0), metadata={op_name="image"}
  %parameter.1 = f32[3,3,3,4] parameter(1)
  ROOT %convolution.2 = f32[2,4,4,4] convolution(%parameter.0, %parameter.1), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_01io->b01f, metadata={op_name="conv1"}
}
`);
  });

  test('abbreviates constants of more than `elementsMax` elements', () => {
    const long = b.concatenate(
      [
        b.full('f32', [4], 1),
        b.constant({ shape: arrayShape('f32', [5]), data: new Float32Array(5) }),
      ],
      0,
    );
    const text = print(b.module('long', [], long), { elementsMax: 4 });
    expect(text).toContain('f32[5] constant({...})');
    expect(text).toContain('f32[] constant(1)');
    expect(() => parse(text)).toThrow('expected a value of type f32');
  });
});
