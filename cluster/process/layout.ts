import type { CollectivePlace } from '../../src/fabric/collectives.ts';
import { type EngineLayout, layOutEngine } from '../../src/fabric/engine.ts';
import { type FabricLayout, layOutFabric } from '../../src/fabric/fabric-memory.ts';
import { podTorus, type Torus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import {
  type FrameSizes,
  frameSizes,
  type Hosting,
  layOutPump,
  type PumpLayout,
} from '../net/route.ts';
import { collectivePlaces, planExchanges } from '../runtime/collectives.ts';
import { type Layout, layOut, pageBytes } from '../runtime/layout.ts';

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
  /** Places of all collectives, in the order of their numbers. */
  readonly collectives: readonly CollectivePlace[];
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
  const sizes = frameSizes(
    torus,
    Math.max(1, ...executables.flatMap((it) => elementsOf(torus, it))),
  );
  const { frameElements } = sizes;
  const exchanges = planExchanges({ torus, executables, frameElements });
  const alone = layOut(podTorus({ columns: 1, rows: 1 }), executables, exchanges);
  const fabric = layOutFabric(torus, alone.bytes);
  const own = at(alone.tpus, 0);
  const programs = executables.map((executable, program) => ({
    executable,
    arena: at(own.arenas, program),
    exchanges: at(exchanges, program),
    transits: at(own.transits, program),
  }));
  const collectives = collectivePlaces(programs, torus);
  const engine = layOutEngine(fabric.base + fabric.bytes, collectives.length);
  const pump = layOutPump(hosting, sizes, engine.base + engine.bytes);
  const bytes = roundUp(pump.end);
  const tpus = Array.from({ length: torus.workers }, () => own);
  const threads = { ...alone, tpus, fabric, bytes };
  return { threads, fabric, engine, collectives, pump, frameSizes: sizes, bytes };
}

/**
 * Returns the sizes of the vectors whose all-reduces would take frames as large as the collectives of
 * a program need them.
 */
function elementsOf(
  { width, height }: Torus,
  { buckets, exchanges }: Executable,
): readonly number[] {
  const ring = Math.max(width, height);
  return [
    ...buckets.map(({ elements }) => elements),
    ...exchanges.map(({ rowBytes }) => (rowBytes / 4) * ring),
  ];
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / pageBytes) * pageBytes;
}
