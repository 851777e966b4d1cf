import { coreBytes } from '../../src/chip/core.ts';
import { mxuWorkspaceBytes } from '../../src/chip/mxu.ts';
import { type InfeedGeometry, infeedBytes } from '../../src/data/infeed.ts';
import { type FabricLayout, layOutFabric } from '../../src/fabric/fabric-memory.ts';
import type { ExchangePlans } from '../../src/fabric/plan-exchange.ts';
import { chipCount, type Torus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { elementCount } from '../../src/numerics/shape.ts';

/**
 * Layout of the shared memory of a slice. `stop` and the fields of {@link TpuPlaces} are byte
 * addresses.
 */
export interface Layout {
  readonly fabric: FabricLayout;
  /** The addresses of each Cloud TPU's memory, indexed by the number of the Cloud TPU. */
  readonly tpus: readonly TpuPlaces[];
  /**
   * Address of a line of 128 bytes. If its first word is not 0, the loaders of the infeed queues
   * end.
   */
  readonly stop: number;
  /**
   * feedBases[p]: address of a word for program p. The word holds the first step that was loaded
   * since the queues of the program were last emptied. In the queues, the number of a step is its
   * distance from this first step.
   */
  readonly feedBases: readonly number[];
  /** Plans of the exchanges of each program, for all chips of the slice. */
  readonly exchanges: readonly (readonly ExchangePlans[])[];
  readonly bytes: number;
}

/** Byte addresses of the memory of one Cloud TPU. */
export interface TpuPlaces {
  /** The control line: 128 bytes with the words listed in {@link controlWords}. */
  readonly control: number;
  /** Scratch memory of the MXU. */
  readonly workspace: number;
  /** Start of each program's arena, which holds the buffers of the cores. */
  readonly arenas: readonly number[];
  /** Start of each program's infeed queue; 0 for a program without an infeed. */
  readonly infeeds: readonly number[];
  /** For each exchange of each program: start of the memory for rows on their way to other chips. */
  readonly transits: readonly (readonly number[])[];
}

/**
 * Index of each word in the control line of a Cloud TPU. `progress` is the progress counter;
 * `awaitsInfeed` is 1 while the cores wait for the infeed, otherwise 0.
 */
export const controlWords = { progress: 0, awaitsInfeed: 1 } as const;

/**
 * How many slots an infeed queue has. Each slot holds the samples of one step. One slot is for the
 * running step: it is kept until the step is committed, because the step may have to run again. Two
 * slots are for the loaded steps that follow, and one is for the step that the loader is loading.
 */
export const infeedDepth = 4;

/**
 * Every area of the memory begins at a multiple of this number of bytes, which is at least the size
 * of a cache line of the processor.
 */
const lineBytes = 128;
/** Size of a WebAssembly page, in bytes. */
export const pageBytes = 65536;
const maxBytes = 2 ** 32;

/**
 * Lays out the memory of a slice that runs the given programs. `exchanges` are the plans of their
 * exchanges.
 *
 * @throws PodError `out-of-memory` if the slice needs more than 4 GiB, the limit of WebAssembly.
 */
export function layOut(
  torus: Torus,
  executables: readonly Executable[],
  exchanges: Layout['exchanges'],
): Layout {
  // The first line stays unused, because links use address 0 for "no address".
  let end = lineBytes;
  const take = (bytes: number): number => {
    const start = end;
    end += Math.ceil(bytes / lineBytes) * lineBytes;
    return start;
  };
  const stop = take(lineBytes);
  const feedBases = executables.map(() => take(lineBytes));
  const arenaBytes = executables.map(coreBytes);
  const chips = chipCount(torus) / torus.workers;
  const tpus = Array.from({ length: torus.workers }, (_, tpu) => ({
    control: take(lineBytes),
    workspace: take(mxuWorkspaceBytes),
    arenas: arenaBytes.map(take),
    infeeds: executables.map((it) =>
      it.infeed.length === 0 ? 0 : take(infeedBytes(infeedGeometry(it, tpu))),
    ),
    transits: exchanges.map((plans) => plans.map(({ transitBytes }) => take(transitBytes * chips))),
  }));
  const fabric = layOutFabric(torus, end);
  take(fabric.bytes);
  const bytes = Math.ceil(end / pageBytes) * pageBytes;
  if (bytes > maxBytes) throw tooLarge(torus, bytes, arenaBytes, fabric);
  return { fabric, tpus, stop, feedBases, exchanges, bytes };
}

/**
 * Returns the geometry of the given program's infeed queue. Each core's infeed must have images
 * f32[batch, …] and labels s32[batch].
 */
export function infeedGeometry(executable: Executable, tpu: number): InfeedGeometry {
  const [images, labels, ...others] = executable.infeed;
  assert(
    images?.type === 'f32' && labels?.type === 's32' && others.length === 0,
    `${executable.name}: its infeed is not images and labels`,
  );
  const batch = at(images.dims, 0);
  assert(elementCount(labels) === batch, `${executable.name}: ${batch} images, other labels`);
  const samples = executable.cores * batch;
  return { tpu, depth: infeedDepth, samples, elements: elementCount(images) / batch };
}

function tooLarge(
  torus: Torus,
  bytes: number,
  arenaBytes: readonly number[],
  fabric: FabricLayout,
): PodError {
  const each = arenaBytes.reduce((sum, size) => sum + size, 0);
  return new PodError(
    'out-of-memory',
    `${torus.workers} Cloud TPUs in one process take ${mib(bytes)} MiB, at most ${mib(maxBytes)}: ` +
      `programs ${mib(each)} MiB a Cloud TPU, links ${mib(fabric.bytes)} MiB; ` +
      'use a smaller batch or fewer Cloud TPUs',
  );
}

function mib(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

/**
 * Allocates a shared WebAssembly memory of `bytes`, a multiple of the page size.
 *
 * @throws PodError `out-of-memory` if this machine does not provide the memory.
 */
export function allocate(bytes: number): WebAssembly.Memory {
  const pages = bytes / pageBytes;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    const text = `${mib(bytes)} MiB of shared memory could not be allocated: Node reserves 8 GiB of address space for them; raise the limit (ulimit -v unlimited)`;
    throw new PodError('out-of-memory', text, error);
  }
}
