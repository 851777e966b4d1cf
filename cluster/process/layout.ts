import { type FabricLayout, layOutFabric } from '../../src/fabric/fabric-memory.ts';
import { podTorus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type Hosting, receiveBytes } from '../net/route.ts';
import { type Layout, layOut, pageBytes } from '../threads/layout.ts';

/** Where everything of one Cloud TPU lies in the memory of its process. */
export interface ProcessLayout {
  /** As threads take it. The places of every other Cloud TPU are those of this one: none is used. */
  readonly threads: Layout;
  /** The links of the whole slice: those that end here are used. */
  readonly fabric: FabricLayout;
  readonly receiveAt: number;
  readonly bytes: number;
}

/** Lays out a process: as a slice of one Cloud TPU, and the links of its real slice behind it. */
export function layOutProcess(hosting: Hosting, executables: readonly Executable[]): ProcessLayout {
  const { torus } = hosting;
  const alone = layOut(podTorus({ columns: 1, rows: 1 }), executables);
  const fabric = layOutFabric(torus, alone.bytes);
  const receiveAt = roundUp(fabric.base + fabric.bytes);
  const receives = torus.workers > 1 ? receiveBytes(hosting) : 0;
  const bytes = roundUp(receiveAt + receives);
  const [own] = alone.tpus;
  const tpus = Array.from({ length: torus.workers }, () => own!);
  return { threads: { ...alone, tpus, fabric, bytes }, fabric, receiveAt, bytes };
}

export function allocate(bytes: number): WebAssembly.Memory {
  const pages = bytes / pageBytes;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    const mib = Math.ceil(bytes / 2 ** 20);
    throw new PodError('out-of-memory', `this machine does not give ${mib} MiB of memory`, error);
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / pageBytes) * pageBytes;
}
