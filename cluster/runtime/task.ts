import type { MessagePort } from 'node:worker_threads';
import type { EngineLayout } from '../../src/fabric/engine.ts';
import type { Topology } from '../../src/fabric/torus.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import type { Layout } from './layout.ts';
import type { ProbeTask } from './probe.ts';

/** Input of the thread of one Cloud TPU. */
export interface WorkerTask {
  readonly tpu: number;
  readonly topology: Topology;
  readonly programs: readonly Program[];
  readonly mxu: 'fast' | 'systolic';
  /**
   * True if fused multiply-adds (relaxed SIMD) may be used. All Cloud TPUs of a slice get the same
   * value.
   */
  readonly relaxed: boolean;
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  /**
   * Memory shared with the engine, another thread that runs the all-reduces. If absent, the thread
   * of the cores runs the all-reduces itself.
   */
  readonly engine?: EngineLayout;
  /** Port for messages to and from the master. */
  readonly port: MessagePort;
  /** Longest wait of the cores for a neighbour or for the infeed, in ms. */
  readonly waitMsLimit: number;
  /** Present only if a fault plan has faults for this Cloud TPU. */
  readonly probe?: ProbeTask;
}

/** Input of the thread that loads the samples of one program. */
export interface LoaderTask {
  readonly program: number;
  readonly programs: readonly Program[];
  readonly feed: FeedSource;
  /** Step of the program whose samples are loaded first. */
  readonly fromStep: number;
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
}
