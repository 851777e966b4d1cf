import { coreBytes } from '../../src/chip/core.ts';
import { mxuWorkspaceBytes } from '../../src/chip/mxu.ts';
import { type InfeedGeometry, infeedBytes } from '../../src/data/infeed.ts';
import { type FabricLayout, layOutFabric } from '../../src/fabric/fabric-memory.ts';
import type { Torus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { elementCount } from '../../src/numerics/shape.ts';

/** Where everything of a slice lies in the one shared memory. Byte addresses. */
export interface Layout {
  readonly fabric: FabricLayout;
  /** By Cloud TPU. */
  readonly tpus: readonly TpuPlaces[];
  /** A line whose first word ends the loaders. */
  readonly stop: number;
  /** By program: a word with the step of the program that is step 0 of its infeed queues. */
  readonly feedBases: readonly number[];
  readonly bytes: number;
}

export interface TpuPlaces {
  /** A line of words: see {@link controlWords}. */
  readonly control: number;
  readonly workspace: number;
  /** By program. */
  readonly arenas: readonly number[];
  /** By program; 0 without an infeed. */
  readonly infeeds: readonly number[];
}

/** Words of a control line of a Cloud TPU: its progress counter, and whether it waits for its infeed. */
export const controlWords = { progress: 0, awaitsInfeed: 1 } as const;

/**
 * Slots of an infeed queue: one in use until its step is committed, since it may have to be run
 * again; two ready; one being filled.
 */
export const infeedDepth = 4;

const lineBytes = 128;
export const pageBytes = 65536;
const maxBytes = 2 ** 32;

/**
 * Lays out the memory of a slice that runs `executables`.
 *
 * @throws PodError `out-of-memory` when it takes more than WebAssembly can address.
 */
export function layOut(torus: Torus, executables: readonly Executable[]): Layout {
  // Address 0 means `none` to links.
  let end = lineBytes;
  const take = (bytes: number): number => {
    const start = end;
    end += Math.ceil(bytes / lineBytes) * lineBytes;
    return start;
  };
  const stop = take(lineBytes);
  const feedBases = executables.map(() => take(lineBytes));
  const arenaBytes = executables.map(coreBytes);
  const tpus = Array.from({ length: torus.workers }, (_, tpu) => ({
    control: take(lineBytes),
    workspace: take(mxuWorkspaceBytes),
    arenas: arenaBytes.map(take),
    infeeds: executables.map((it) =>
      it.infeed.length === 0 ? 0 : take(infeedBytes(infeedGeometry(it, tpu))),
    ),
  }));
  const fabric = layOutFabric(torus, end);
  take(fabric.bytes);
  const bytes = Math.ceil(end / pageBytes) * pageBytes;
  if (bytes > maxBytes) throw tooLarge(torus, bytes, arenaBytes, fabric);
  return { fabric, tpus, stop, feedBases, bytes };
}

/** An infeed of images and their labels: f32[batch, …] and s32[batch] a core. */
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

/** @throws PodError `out-of-memory` when this machine does not give so many bytes: whole pages. */
export function allocate(bytes: number): WebAssembly.Memory {
  const pages = bytes / pageBytes;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    const text = `this machine does not give ${mib(bytes)} MiB of shared memory, for which the engine reserves 8 GiB of addresses; ulimit -v shows a limit`;
    throw new PodError('out-of-memory', text, error);
  }
}
