import { expect } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import type { Literal } from '../../src/numerics/literal.ts';
import { difference } from './same.ts';

/**
 * Evaluates the instruction that `make` returns for parameters with the values `xs`. Expects the text
 * of its module to be read back as the same module.
 */
export function run(
  make: (xs: readonly HloInstruction[]) => HloInstruction,
  xs: readonly Literal[],
): readonly Literal[] {
  const parameters = xs.map(({ shape }, i) => b.parameter(i, shape));
  const module = b.module('m', parameters, make(parameters));
  const read = parse(print(module));
  expect(difference(read, module)).toBeUndefined();
  return evaluate(read, { parameters: xs }).values;
}
