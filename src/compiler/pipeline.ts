import type { HloModule } from '../hlo/instruction.ts';
import { verify } from '../hlo/verify.ts';
import type { Executable, Instruction } from '../isa/executable.ts';
import { PodError } from '../numerics/error.ts';
import { isArray, leafShapes } from '../numerics/shape.ts';
import { hbmUsableBytesPerCore } from '../spec/tpu-v2.ts';
import { align } from './allocate.ts';
import { type Assignment, assign } from './assign.ts';
import type { FusedLoop } from './codegen/fused-loop.ts';
import { paddedBytes, programBytes } from './hbm.ts';
import { type LoopChecks, type Lowered, lower } from './lower.ts';
import { bucketBytesDefault } from './passes/all-reduce.ts';
import { type Rematerialized, rematerialize } from './passes/rematerialize.ts';
import { type Pass, passes } from './passes.ts';
import type { Program } from './program.ts';
import { schedule } from './schedule.ts';

/** All values of {@link Remat}. */
export const rematPolicies = ['auto', 'always', 'never'] as const;
/** When the compiler lets values be computed a second time instead of keeping them in HBM. */
export type Remat = (typeof rematPolicies)[number];

export interface CompileOptions {
  /** Number of cores of a Cloud TPU: 1 or an even number. The cores run in lockstep. */
  readonly cores: number;
  /**
   * Number of replicas of the slice. Needed only for an all-to-all, and for an all-reduce that is no
   * sum of f32, over all replicas.
   */
  readonly replicas?: number;
  /**
   * Bytes of a core's HBM that the program may use. Default: all bytes that the system does not
   * use.
   */
  readonly hbmLimitBytes?: number;
  /**
   * Bucket size, in bytes. When the gradients of a bucket have at least this size, the bucket is
   * full and its all-reduce starts.
   */
  readonly bucketBytes?: number;
  /**
   * True if the emulator keeps the old value of each parameter that a step updates, so that an
   * aborted step can run again. The new value then has a buffer of its own.
   */
  readonly keepPrevious?: boolean;
  /**
   * When values are computed a second time instead of being kept in HBM: `auto`, the default, only in
   * a program that would not fit otherwise; `always` wherever this saves HBM at the peak; `never`.
   */
  readonly remat?: Remat;
  /** Called with the module after each pass. */
  readonly listener?: (pass: Pass, module: HloModule) => void;
}

/** Code generator for fused loops: the functions in `codegen`, or substitutes in tests. */
export interface Codegen extends LoopChecks {
  readonly generate: (loops: readonly FusedLoop[]) => Uint8Array;
}

/** Compiles a module like `compile`, but with the given code generator for fused loops. */
export function compileWith(
  codegen: Codegen,
  module: HloModule,
  options: CompileOptions,
): Executable {
  const { remat = 'auto', hbmLimitBytes = hbmUsableBytesPerCore } = options;
  const optimized = optimize(module, options, codegen);
  const place = (it: Rematerialized): Placed => {
    return { ...it, executable: placed(codegen, it.module, options, hbmLimitBytes) };
  };
  const plain = (): Placed => place({ module: optimized, recomputed: 0 });
  const saving = (limitBytes: number): Placed => {
    const it = rematerialize(optimized, limitBytes);
    verify(it.module);
    return place(it);
  };
  const chosen = choose(remat, plain, saving, hbmLimitBytes - keptBytes(optimized));
  if (chosen.recomputed > 0) options.listener?.(rematPass(chosen), chosen.module);
  return chosen.executable;
}

interface Placed extends Rematerialized {
  readonly executable: Executable;
}

/** Chooses between a program whose values are kept, and one that computes some a second time. */
function choose(
  remat: Remat,
  plain: () => Placed,
  saving: (limitBytes: number) => Placed,
  limitBytes: number,
): Placed {
  switch (remat) {
    case 'never':
      return plain();
    case 'auto':
      return ifItFits(plain) ?? ifItFits(() => saving(limitBytes)) ?? saving(0);
    case 'always': {
      const [whole, least] = [ifItFits(plain), saving(0)];
      const helps = whole === undefined || least.executable.hbm.peak < whole.executable.hbm.peak;
      return helps ? least : whole;
    }
  }
}

/** Returns what `work` returns; undefined if the program does not fit into HBM. */
function ifItFits<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof PodError && error.code === 'out-of-hbm') return undefined;
    throw error;
  }
}

/** Bytes in HBM that are in use during the whole program: its parameters. */
function keptBytes({ entry }: HloModule): number {
  const shapes = entry.parameters.flatMap(({ shape }) => leafShapes(shape)).filter(isArray);
  return shapes.reduce((sum, shape) => sum + paddedBytes(shape), 0);
}

/** Describes the pass `rematerialize`, which follows the six that every program goes through. */
function rematPass({ module, recomputed }: Rematerialized): Pass {
  const what = recomputed === 1 ? 'one value' : `${recomputed} values`;
  const does = `computes ${what} a second time, to save HBM`;
  return { number: 7, name: 'rematerialize', does, run: () => module };
}

function placed(
  codegen: Codegen,
  module: HloModule,
  options: CompileOptions,
  hbmLimitBytes: number,
): Executable {
  const lowered = lower(module, schedule(module.entry), codegen);
  const assignment = assign(lowered.program, {
    cores: options.cores,
    hbmLimitBytes,
    programBytes: programBytesOf(lowered.program),
    keepPrevious: options.keepPrevious ?? false,
  });
  return assemble(module.name, options.cores, lowered, assignment, codegen);
}

/** Runs all passes. Verifies the module before the first pass and after each pass. */
function optimize(module: HloModule, options: CompileOptions, { supports }: Codegen): HloModule {
  verify(module);
  const bucketBytes = options.bucketBytes ?? bucketBytesDefault;
  let now = module;
  for (const pass of passes({ supports, bucketBytes, replicas: options.replicas })) {
    now = pass.run(now);
    verify(now);
    options.listener?.(pass, now);
  }
  return now;
}

function programBytesOf({ steps }: Program): number {
  const units = steps.map(({ instruction }) => instruction(() => 0).unit);
  const count = (unit: Instruction['unit']): number => units.filter((it) => it === unit).length;
  const fusedLoops = count('vpu');
  const matmuls = count('mxu');
  return programBytes({ fusedLoops, matmuls, others: steps.length - fusedLoops - matmuls });
}

function assemble(
  name: string,
  cores: number,
  lowered: Lowered,
  assignment: Assignment,
  codegen: Codegen,
): Executable {
  const { bufferOf, buffers, results, next, hbm } = assignment;
  const { program, tables, infeed, outfeed } = lowered;
  return {
    name,
    cores,
    buffers,
    instructions: assignment.steps.map(({ instruction }) => instruction(bufferOf)),
    tables,
    code: codegen.generate(lowered.fusedLoops),
    constants: program.constants.map(({ value, data }) => ({ buffer: bufferOf(value), data })),
    parameters: program.parameters.map(bufferOf),
    ...(next && { next }),
    results,
    infeed,
    outfeed,
    buckets: lowered.buckets.map(({ storage, members }) => ({
      buffer: bufferOf(storage),
      elements: storage.shape.dims[0] ?? 0,
      members: members.map(({ name, offset, elements }) => ({ name, offset, elements })),
    })),
    exchanges: lowered.exchanges.map(({ source, target, ...exchange }) => {
      return { ...exchange, source: bufferOf(source), target: bufferOf(target) };
    }),
    hbm,
    arenaBytes: tables.reduce(
      (bytes, table) => bytes + align(table.byteLength, tableAlignment),
      assignment.arenaBytes,
    ),
  };
}

const tableAlignment = 64;
