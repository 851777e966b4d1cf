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
import { rematerialize } from './passes/rematerialize.ts';
import { type Pass, passes } from './passes.ts';
import type { Program } from './program.ts';
import { schedule } from './schedule.ts';

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
   * a program that would not fit otherwise; `always` wherever it saves HBM; `never`.
   */
  readonly remat?: 'auto' | 'always' | 'never';
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
  const place = (ready: HloModule): Executable => placed(codegen, ready, options, hbmLimitBytes);
  const recomputing = (limitBytes: number): HloModule =>
    recomputed(optimized, limitBytes, options.listener);
  if (remat === 'always') return place(recomputing(0));
  if (remat === 'never') return place(optimized);
  const attempts = [
    () => place(optimized),
    () => place(recomputing(hbmLimitBytes - keptBytes(optimized))),
  ];
  for (const attempt of attempts) {
    const executable = ifItFits(attempt);
    if (executable !== undefined) return executable;
  }
  return place(recomputing(0));
}

/** Returns what `work` returns; undefined if the program does not fit into HBM. */
function ifItFits(work: () => Executable): Executable | undefined {
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

/** Runs the pass `rematerialize`, which is the last one. */
function recomputed(
  optimized: HloModule,
  limitBytes: number,
  listener: CompileOptions['listener'],
): HloModule {
  const { module, recomputed: count } = rematerialize(optimized, limitBytes);
  verify(module);
  const does = `computes ${count} values a second time instead of keeping them in HBM`;
  listener?.({ number: rematNumber, name: 'rematerialize', does, run: () => module }, module);
  return module;
}

/** Number of the pass `rematerialize`: it follows the six that every program goes through. */
const rematNumber = 7;

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
