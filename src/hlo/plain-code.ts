import type { Literal } from '../numerics/literal.ts';
import { evaluate } from './evaluate.ts';
import { parse } from './parse.ts';

/**
 * Returns the function that runs a module, given as HLO text, on arrays: one for each parameter.
 * It returns the arrays of the result, with nested tuples flattened depth first. The core of a chip
 * runs the instructions for which it has no faster code in this way. Throws `bad-program` if the
 * text is not a module.
 */
export function plainCode(text: string): (operands: readonly Literal[]) => readonly Literal[] {
  const module = parse(text);
  return (parameters) => evaluate(module, { parameters }).values;
}
