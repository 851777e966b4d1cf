import type { MessagePort } from 'node:worker_threads';
import type { EngineLayout } from '../../src/fabric/engine.ts';
import type { Topology } from '../../src/fabric/torus.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import type { ThreadFault } from './fault.ts';
import type { Layout } from './layout.ts';

/** What the thread of one Cloud TPU is started with. */
export interface WorkerTask {
  readonly tpu: number;
  readonly topology: Topology;
  readonly programs: readonly Program[];
  readonly mxu: 'fast' | 'systolic';
  /** Whether fused multiply-adds may be used: chosen once for all. */
  readonly relaxed: boolean;
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  /** Where its network is met that runs on another thread; its own thread does that otherwise. */
  readonly engine?: EngineLayout;
  /** Messages to and from the master. */
  readonly port: MessagePort;
  /** Longest wait for a neighbour or for the infeed, in ms. */
  readonly waitMsLimit: number;
  /** Tests break the worker with them; the machine does not know. */
  readonly faults: readonly ThreadFault[];
}

/** What the thread that feeds one program is started with. */
export interface LoaderTask {
  readonly program: number;
  readonly programs: readonly Program[];
  readonly feed: FeedSource;
  /** Step of the program that comes first. */
  readonly fromStep: number;
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
}
