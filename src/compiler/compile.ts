import type { HloModule } from '../hlo/instruction.ts';
import type { Executable } from '../isa/executable.ts';
import { generate } from './codegen/generate.ts';
import { inPlace, supports } from './codegen/supports.ts';
import { type CompileOptions, compileWith } from './pipeline.ts';

export type { CompileOptions } from './pipeline.ts';

/**
 * Compiles a module, a program for one replica, for the cores of a Cloud TPU. Errors:
 * `bad-program`, `unsupported-program`, and `out-of-hbm` when a core's HBM does not hold it.
 */
export function compile(module: HloModule, options: CompileOptions): Executable {
  return compileWith({ supports, inPlace, generate }, module, options);
}
