import { CloudTpuCores, setAfter } from '../../src/chip/core.ts';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { fastMxu } from '../../src/chip/mxu.ts';
import type { Ports } from '../../src/chip/ports.ts';
import { systolicMxu } from '../../src/chip/systolic.ts';
import type { CoreUnits } from '../../src/chip/units.ts';
import { vectorUnit } from '../../src/chip/vector-unit.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { Collectives } from '../../src/fabric/collectives.ts';
import { EngineClient } from '../../src/fabric/engine.ts';
import { type SumKernels, sumKernels } from '../../src/fabric/kernels/sum.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { podTorus } from '../../src/fabric/torus.ts';
import { type Executable, phases } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { digestText } from '../../src/numerics/digest.ts';
import type { StepOrder, StepReport } from '../../src/pod/messages.ts';
import { bucketPlaces, collectiveCount, collectivePlaces } from './collectives.ts';
import { infeedGeometry, type TpuPlaces } from './layout.ts';
import { Parameters } from './parameters.ts';
import {
  GatheredOutfeed,
  type Heartbeat,
  iciPort,
  LiveDoorbell,
  noInfeed,
  QueueInfeed,
  type Reducer,
  type StepInfeed,
} from './ports.ts';
import { WorkerProbe } from './probe.ts';
import type { WorkerTask } from './task.ts';

/**
 * The cores of one Cloud TPU, as the Cloud TPU's thread uses them. All programs are loaded, and are
 * connected to the ports for ICI (the links), infeed and outfeed.
 */
export interface Host {
  /**
   * Enters a membership, in which each program p has done `steps[p]` steps. Selects the parameters
   * that each program has after so many steps. Returns the digest of these parameters for each
   * program.
   */
  join(generation: number, steps: readonly number[]): string[];
  /**
   * Runs one step and returns its report. Throws a PodError if the step fails, or if the master
   * aborts it.
   */
  run(order: StepOrder): Omit<StepReport, 'tpu' | 'program' | 'step'>;
}

const outfeedPhase = phases.indexOf('outfeed');

/** A loaded program and its ports. */
interface Loaded {
  readonly cores: CloudTpuCores;
  readonly ports: Ports;
  readonly infeed: StepInfeed;
  readonly outfeed: GatheredOutfeed;
}

/** What the thread of a Cloud TPU gives to its cores. */
export interface HostUnits {
  readonly heartbeat: Heartbeat;
  /** Returns the time in ms. */
  readonly clock: () => number;
  readonly plainCode: CoreUnits['plainCode'];
}

/** Loads the programs of the task's Cloud TPU. */
export function loadHost(task: WorkerTask, { heartbeat, clock, plainCode }: HostUnits): Host {
  const { tpu, programs, memory, layout, waitMsLimit } = task;
  const places = at(layout.tpus, tpu);
  const units = { ...coreUnits(task, places), plainCode };
  const kernels = sumKernels(memory);
  const phaseMs = new Float64Array(phases.length);
  let allReduce: Reducer | undefined;
  const probe = probeOf(task, clock);
  const now = probe?.now ?? clock;
  let firstCollective = 0;
  const loaded = programs.map(({ executable }, program): Loaded => {
    const firstReplica = tpu * executable.cores;
    const cores = new CloudTpuCores(executable, at(places.arenas, program), units, firstReplica);
    heartbeat.beat();
    const ici = iciPort(() => joined(allReduce), firstCollective, now, waitMsLimit);
    firstCollective += collectiveCount(executable);
    const infeed = infeedOf(task, executable, program, heartbeat);
    const outfeed = new GatheredOutfeed(executable, memory);
    const ports: Ports = {
      ici,
      infeed,
      outfeed,
      beat: () => heartbeat.beatInStep(),
    };
    return {
      cores,
      ports: probe?.ports(ports, executable.buckets.length) ?? ports,
      infeed,
      outfeed,
    };
  });
  return {
    join(generation, steps) {
      probe?.loading(generation);
      allReduce = connect(task, { kernels, heartbeat, generation, now, onHop: probe?.hop });
      return loaded.map(({ cores }, program) => {
        cores.select(setAfter(at(steps, program)));
        return digestText(cores.digestParameters(at(programs, program).digested));
      });
    },
    run(order: StepOrder) {
      probe?.begin(order);
      const { cores, ports, infeed, outfeed } = at(loaded, order.program);
      const { parametersFrom, digested } = at(programs, order.program);
      if (order.takeParameters) {
        assert(parametersFrom !== undefined, `program ${order.program} shares no parameters`);
        cores.takeParameters(at(loaded, parametersFrom).cores);
      }
      phaseMs.fill(0);
      infeed.begin(order.step);
      cores.run(ports, now, phaseMs);
      // The time of the digest counts as outfeed, because the digest leaves with the results.
      const sinceMs = now();
      const digest = digestText(cores.digestParameters(digested));
      phaseMs[outfeedPhase]! += now() - sinceMs;
      const linkWaitMs = joined(allReduce).takeWaits();
      return { digest, outfeed: outfeed.elements, phaseMs: Array.from(phaseMs), linkWaitMs };
    },
  };
}

function joined(allReduce: Reducer | undefined): Reducer {
  assert(allReduce !== undefined, 'a step before a membership');
  return allReduce;
}

function coreUnits(
  { memory, mxu, relaxed }: WorkerTask,
  { workspace }: TpuPlaces,
): Omit<CoreUnits, 'plainCode'> {
  const common = { memory, vector: vectorUnit(memory) };
  if (mxu === 'systolic') {
    return { ...common, mxu: systolicMxu(memory), rowsPerCall: () => systolicRows };
  }
  const supported = relaxed && enableRelaxedSimd();
  const unit = fastMxu(memory, { relaxed: supported }, workspace);
  return { ...common, mxu: unit, rowsPerCall: rowsForMacs };
}

/**
 * Number of rows of a matmul that the systolic MXU computes in one call. With so many rows, the
 * pipeline of the MXU is full for most of the call.
 */
const systolicRows = 128;

/**
 * Returns the number of rows of a matmul [m, k] × [k, n] that the fast MXU computes in one call.
 * Usually a call has about 200 million multiply-adds and takes a few milliseconds. So the progress
 * counter, which advances between calls, advances often. But a call has at least 6 · {@link
 * tileRows} rows: every call packs the right operand again, and with fewer rows the packing would
 * take most of the time.
 */
function rowsForMacs(n: number, k: number): number {
  return tileRows * Math.max(6, Math.floor(200e6 / (n * k * tileRows)));
}

/** How many rows the fast MXU packs at a time. */
const tileRows = 96;

/**
 * Returns the object through which the cores run collectives. Without `engine` the object runs the
 * collectives itself. With `engine` another thread runs them, and the object only starts them and
 * waits for them.
 */
function connect(
  { tpu, topology, memory, layout, programs, engine }: WorkerTask,
  { kernels, heartbeat, generation, now, onHop }: Connection,
): Reducer {
  const doorbell = new LiveDoorbell(memory, layout.fabric, tpu, heartbeat);
  if (engine !== undefined) return new EngineClient(memory, engine, doorbell, now);
  const torus = podTorus(topology);
  const links = memoryLinks(memory, layout.fabric, torus, doorbell);
  const { arenas, transits } = at(layout.tpus, tpu);
  const inMemory = programs.map(({ executable }, program) => ({
    executable,
    arena: at(arenas, program),
    exchanges: at(layout.exchanges, program),
    transits: at(transits, program),
  }));
  const collectives = collectivePlaces(inMemory, torus);
  const parts = { torus, worker: tpu, generation, kernels, links, doorbell, collectives, now };
  return new Collectives({ ...parts, ...(onHop && { onHop }) });
}

/** Arguments of {@link connect}, besides the task of the Cloud TPU's thread. */
interface Connection {
  readonly kernels: SumKernels;
  readonly heartbeat: Heartbeat;
  readonly generation: number;
  readonly now: () => number;
  readonly onHop: OnHop | undefined;
}

function infeedOf(
  { tpu, layout, memory, waitMsLimit }: WorkerTask,
  executable: Executable,
  program: number,
  heartbeat: Heartbeat,
): StepInfeed {
  if (executable.infeed.length === 0) return noInfeed;
  const place = at(at(layout.tpus, tpu).infeeds, program);
  const queue = new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
  const words = new Int32Array(memory.buffer);
  const base = at(layout.feedBases, program);
  return new QueueInfeed({ executable, queue, heartbeat, words, base, waitMsLimit });
}

/**
 * Returns the {@link WorkerProbe} that injects faults into the task's Cloud TPU; undefined if the
 * fault plan has no fault for this Cloud TPU.
 */
function probeOf(task: WorkerTask, now: () => number): WorkerProbe | undefined {
  const { probe, tpu, memory, layout, programs } = task;
  if (probe === undefined) return undefined;
  const arena = (program: number): number => at(at(layout.tpus, tpu).arenas, program);
  const parameters = new Parameters(memory, layout, programs);
  const places = programs.map(({ executable }, program) =>
    bucketPlaces(executable, arena(program)),
  );
  return new WorkerProbe(
    probe,
    {
      memory,
      arena,
      bucket: (program, bucket) => at(at(places, program), bucket).address,
      weights: ({ program, step }) => {
        const [weights] = parameters.views({ tpu, program, steps: step });
        assert(weights !== undefined, 'a program without weights');
        return weights.byteOffset;
      },
    },
    now,
  );
}
