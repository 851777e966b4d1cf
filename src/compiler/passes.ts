import type { HloModule } from '../hlo/instruction.ts';
import { combineAllReduces } from './passes/all-reduce.ts';
import { canonicalize } from './passes/canonicalize.ts';
import { cse } from './passes/cse.ts';
import { dce } from './passes/dce.ts';
import { type FusedLoopSupport, fuse } from './passes/fusion.ts';
import { simplify } from './passes/simplify.ts';

/**
 * A compiler pass: a pure function from module to module that preserves every bit of the results.
 */
export interface Pass {
  readonly number: number;
  readonly name: string;
  readonly does: string;
  readonly run: (module: HloModule) => HloModule;
}

/**
 * Returns the passes in the order in which they run. `canonicalize` is first because it adds
 * instructions (zeros around an input, conversions, transposes) that later passes simplify and
 * share.
 */
export function passes(options: {
  readonly supports: FusedLoopSupport;
  readonly bucketBytes: number;
  /** Number of replicas of the slice, if it is known. */
  readonly replicas?: number | undefined;
}): readonly Pass[] {
  const list: readonly Omit<Pass, 'number'>[] = [
    {
      name: 'canonicalize',
      does: 'inlines calls and fusions; brings dots and convolutions to matmuls, collectives to exchanges',
      run: (module) => canonicalize(module, options),
    },
    { name: 'simplify', does: 'algebra that keeps every bit; folds constants', run: simplify },
    { name: 'cse', does: 'computes equal expressions once', run: cse },
    { name: 'dce', does: 'removes elements of all-reduces that nothing reads', run: dce },
    {
      name: 'all-reduce',
      does: 'joins gradients into buckets in the order of the backward pass',
      run: (module) => combineAllReduces(module, options.bucketBytes),
    },
    {
      name: 'fusion',
      does: 'gathers element-wise operations and reductions into fused loops',
      run: (module) => fuse(module, options.supports),
    },
  ];
  return list.map((pass, i) => ({ number: i + 1, ...pass }));
}
