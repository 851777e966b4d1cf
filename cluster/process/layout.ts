import type { BucketPlace } from '../../src/fabric/all-reduce.ts';
import { type EngineLayout, layOutEngine } from '../../src/fabric/engine.ts';
import { type FabricLayout, layOutFabric } from '../../src/fabric/fabric-memory.ts';
import { podTorus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import {
  type FrameSizes,
  frameSizes,
  type Hosting,
  layOutPump,
  type PumpLayout,
} from '../net/route.ts';
import { type Layout, layOut, pageBytes } from '../runtime/layout.ts';
import { bucketPlaces } from '../runtime/ports.ts';

/** Memory layout of the process of one Cloud TPU. Places are byte addresses. */
export interface ProcessLayout {
  /**
   * Memory that the thread of the cores uses. A pod of threads has the same type of layout, with an
   * entry for each Cloud TPU of the slice. In a process, all entries are equal, and the thread uses
   * only the entry of its own Cloud TPU.
   */
  readonly threads: Layout;
  /** Links of the whole slice. Only the links that end at this Cloud TPU are used. */
  readonly fabric: FabricLayout;
  /** Memory through which the thread of the cores and the all-reduce engine communicate. */
  readonly engine: EngineLayout;
  /** Memory of all buckets: first the buckets of program 0, then those of program 1, and so on. */
  readonly buckets: readonly BucketPlace[];
  readonly pump: PumpLayout;
  readonly frameSizes: FrameSizes;
  /** Size of the whole memory: a multiple of the WebAssembly page size. */
  readonly bytes: number;
}

/**
 * Lays out the memory of the process of one Cloud TPU. First comes the memory of the thread of the
 * cores, laid out as for a pod of threads with a single Cloud TPU. Then come the links of the whole
 * slice, the all-reduce engine, and the pump, which moves frames between links and sockets.
 */
export function layOutProcess(hosting: Hosting, executables: readonly Executable[]): ProcessLayout {
  const { torus } = hosting;
  const alone = layOut(podTorus({ columns: 1, rows: 1 }), executables);
  const fabric = layOutFabric(torus, alone.bytes);
  const own = at(alone.tpus, 0);
  const buckets = executables.flatMap((executable, program) =>
    bucketPlaces(executable, at(own.arenas, program)),
  );
  const engine = layOutEngine(fabric.base + fabric.bytes, buckets.length);
  const sizes = frameSizes(torus, Math.max(1, ...buckets.map(({ elements }) => elements)));
  const pump = layOutPump(hosting, sizes, engine.base + engine.bytes);
  const bytes = roundUp(pump.end);
  const tpus = Array.from({ length: torus.workers }, () => own);
  const threads = { ...alone, tpus, fabric, bytes };
  return { threads, fabric, engine, buckets, pump, frameSizes: sizes, bytes };
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / pageBytes) * pageBytes;
}
