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
import { type Layout, layOut, pageBytes } from '../threads/layout.ts';
import { bucketPlaces } from '../threads/ports.ts';

/** Where everything of one Cloud TPU lies in the memory of its process. */
export interface ProcessLayout {
  /** As threads take it. The places of every other Cloud TPU are those of this one: none is used. */
  readonly threads: Layout;
  /** The links of the whole slice: those that end here are used. */
  readonly fabric: FabricLayout;
  /** Where the cores and the network of this Cloud TPU meet. */
  readonly engine: EngineLayout;
  /** Buckets of all programs, one after another. */
  readonly buckets: readonly BucketPlace[];
  readonly pump: PumpLayout;
  readonly frameSizes: FrameSizes;
  readonly bytes: number;
}

/** Lays out a process: as a slice of one Cloud TPU, and the links of its real slice behind it. */
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
