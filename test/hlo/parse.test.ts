import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { Constant } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { verify } from '../../src/hlo/verify.ts';
import { f32FromBf16 } from '../../src/numerics/bf16.ts';
import { PodError } from '../../src/numerics/error.ts';
import { valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { arbitraryModule } from './programs.ts';

/**
 * HLO text as XLA's tools may write it. It has layouts, comments, shapes of operands, and some
 * names without a percent sign.
 */
const foreign = `HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[2,3]{1,0})->(f32[3]{0})}, input_output_alias={ {0}: (0, {}, may-alias) }

region_0.4 {
  Arg_0.5 = f32[] parameter(0)
  Arg_1.6 = f32[] parameter(1)
  ROOT add.7 = f32[] add(f32[] Arg_0.5, f32[] Arg_1.6)
}

/* the entry */
ENTRY %main.10 (Arg_0.1: f32[2,3]) -> (f32[2,3], f32[3]) { // and so on
  %Arg_0.1 = f32[2,3]{1,0} parameter(0), sharding={replicated}
  %constant.2 = f32[] constant(0.25)
  %broadcast.3 = f32[2,3]{1,0:T(8,128)} broadcast(f32[] %constant.2), dimensions={}, metadata={op_type="mul" op_name="jit(f)/mul" source_line=3}
  %multiply.4 = f32[2,3]{1,0} multiply(%Arg_0.1, %broadcast.3)
  %reduce.8 = f32[3]{0} reduce(%multiply.4, %constant.2), dimensions={0}, to_apply=region_0.4
  ROOT %tuple.9 = (f32[2,3]{1,0}, f32[3]{0}) tuple(%multiply.4, /*index=1*/%reduce.8)
}
`;

describe('parse', () => {
  test("reads XLA's own style", () => {
    const module = parse(foreign);
    verify(module);
    expect(module.aliases).toEqual([{ output: 0, parameter: 0 }]);
    const data = {
      shape: module.entry.parameters[0]!.shape,
      data: new Float32Array([1, 2, 3, 4, 5, 6]),
    };
    const { values } = evaluate(module, { parameters: [data as never] });
    expect(values.map(valuesOf)).toEqual([
      [0.25, 0.5, 0.75, 1, 1.25, 1.5],
      [1.5, 2, 2.5],
    ]);
    expect(print(module)).toContain('metadata={op_name="jit(f)/mul"}');
  });

  test('reads attributes of XLA that do not belong to the program', () => {
    const text = `HloModule m, entry_computation_layout={(f32[2]{0})->(f32[2]{0}, token[])}, frontend_attributes={a="{b}"}, replica_count=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (x: f32[2]) -> (f32[2], token[]) {
  %x = f32[2]{0:T(128)} parameter(0), parameter_replication={false}, sharding={devices=[2]0,1 metadata={op_name="x"}}
  %token = token[] after-all()
  %fed = (f32[2]{0}, token[]) infeed(%token), infeed_config="\\001", frontend_attributes={k="v"}
  %data = f32[2]{0} get-tuple-element(%fed), index=0, origin={{"data"}}
  %next = token[] get-tuple-element(%fed), index=1
  %all = f32[2]{0} all-reduce(%data), channel_id=1, replica_groups={}, use_global_device_ids=true, to_apply=%add, constrain_layout=true
  %tanh = f32[2]{0} tanh(%all), result_accuracy={mode=highest}, control-predecessors={%x}
  %sent = token[] outfeed(%tanh, %next), outfeed_shape=f32[2]{0}, outfeed_config="x"
  ROOT %out = (f32[2]{0}, token[]) tuple(%tanh, /*index=1*/%sent), backend_config={"a":{"b":["1"]}}
}
`;
    const module = parse(text);
    verify(module);
    expect(parse(print(module))).toEqual(module);
  });

  test('reads large floats, which print writes with an exponent', () => {
    const text = print(b.module('m', [], b.scalar('f32', 817190800000000000000)));
    expect(text).toContain('constant(8.171908e+20)');
    expect(valuesOf((parse(text).entry.root as Constant).value)).toEqual([
      Math.fround(8.171908e20),
    ]);
  });

  test('reads every bf16 that print writes, also below the smallest normal number', () => {
    const all = Array.from({ length: 65536 }, (_, bits) => bits);
    const numbers = all.filter((bits) => !Number.isNaN(f32FromBf16(bits)));
    const shape = arrayShape('bf16', [numbers.length]);
    const root = b.constant({ shape, data: Uint16Array.from(numbers) });
    const read = parse(print(b.module('m', [], root)));
    expect((read.entry.root as Constant).value.data).toEqual(root.value.data);
  });

  test('reads the padding of a scalar, which XLA prints like that of one dimension', () => {
    const text = (padding: string): string => `HloModule m

ENTRY %main (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %pad = f32[] pad(%x, %y), padding=${padding}
}
`;
    expect(print(parse(text('0_0')))).toContain(', padding=0_0\n');
    expect(parse(text(''))).toEqual(parse(text('0_0')));
    expect(() => parse(text('1_0'))).toThrow(/padding|rank|dimension/);
  });

  const cases: [string, from: string, to: string][] = [
    ['line 9, column 1: expected the name of a computation, found "/"', '/* the entry */', '/ '],
    ['line 14, column 31: expected an opcode, found "multipli"', 'multiply(', 'multipli('],
    [
      'line 14, column 50: expected an instruction above, found "%broadcast.33"',
      '%broadcast.3)',
      '%broadcast.33)',
    ],
    ['line 15, column 15: expected f32[3], found f32[2]', 'f32[3]{0} reduce', 'f32[2]{0} reduce'],
    [
      'line 15, column 84: expected a computation above, found "region_0"',
      'to_apply=region_0.4',
      'to_apply=region_0',
    ],
    [
      'line 15, column 25: expected attribute to_apply, found "reduce"',
      ', to_apply=region_0.4',
      '',
    ],
    [
      'line 15, column 25: reduce(f32[2,3], f32[]): expected dimensions distinct',
      'dimensions={0}',
      'dimensions={2}',
    ],
    ['line 12, column 32: expected a value of type f32, found "x"', 'constant(0.25', 'constant(x'],
    [
      'line 13, column 71: expected a known attribute, found "dimenzions"',
      'dimensions={},',
      'dimenzions={},',
    ],
    [
      'line 12, column 32: expected a constant of a type with arithmetic',
      'f32[] constant(',
      'f64[] constant(',
    ],
    ['expected one ROOT', '  %multiply.4 =', '  ROOT %multiply.4 ='],
    ['expected a name that is not used yet', '  %multiply.4 =', '  %constant.2 ='],
    [
      'line 10, column 16: expected the signature (f32[2,3]) -> (f32[2,3], f32[3]) of main.10',
      '-> (f32[2,3], f32[3]) {',
      '-> (f32[2,3]) {',
    ],
    ['expected an ENTRY computation, found the end', 'ENTRY ', ''],
  ];
  test.each(cases)('refuses with "%s"', (message, from, to) => {
    expect(foreign).toContain(from);
    const text = foreign.replace(from, to);
    expect(() => parse(text)).toThrow(PodError);
    expect(() => parse(text)).toThrow(message);
  });

  test('refuses an outfeed that the root does not depend on', () => {
    const text = `HloModule lost

ENTRY %main (x: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %after = token[] after-all()
  %out = token[] outfeed(%x, %after)
  ROOT %y = f32[] negate(%x)
}
`;
    expect(() => parse(text)).toThrow('expected each outfeed of main to lead to its root');
  });

  test('reports line and column of the error in any damaged text', () => {
    const damage = fc.tuple(
      fc.nat(),
      fc.nat(20),
      fc.constantFrom('', '{', ')', ',', '%x', '9', '"'),
    );
    fc.assert(
      fc.property(arbitraryModule({ choicesMax: 24 }), damage, ({ module }, [at, length, put]) => {
        const text = print(module);
        const start = at % text.length;
        const broken = text.slice(0, start) + put + text.slice(start + length);
        try {
          parse(broken);
        } catch (error) {
          expect(error).toBeInstanceOf(PodError);
          expect((error as Error).message).toMatch(/^line \d+, column \d+: \S.*$/);
        }
      }),
      { numRuns: 500 },
    );
  });
});
