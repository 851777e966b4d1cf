import type { HloModule } from '../hlo/instruction.ts';
import type { Executable } from '../isa/executable.ts';
import { generate } from './codegen/generate.ts';
import { inPlace, supports } from './codegen/supports.ts';
import { type CompileOptions, compileWith } from './pipeline.ts';

export { type CompileOptions, type Remat, rematPolicies } from './pipeline.ts';

/**
 * Compiles a module, which is a program for one replica, for the cores of a Cloud TPU.
 *
 * @throws PodError `bad-program` if the module breaks a rule of HLO; `unsupported-program` if the
 * compiler cannot compile it; `out-of-hbm` if it does not fit into the HBM of a core.
 */
export function compile(module: HloModule, options: CompileOptions): Executable {
  return compileWith({ supports, inPlace, generate }, module, options);
}
