import { programsForWorkers } from '../../src/experiment/programs.ts';
import { keyOf, type RunKey } from '../../src/experiment/same-run.ts';
import { flatTorus, type Topology } from '../../src/fabric/torus.ts';
import { type Ledger, memoryLedger } from '../../src/fault/injector.ts';
import type { Kept } from '../../src/fault/kept.ts';
import type { Fault } from '../../src/fault/plan.ts';
import type { CommitSeen, Observation } from '../../src/fault/verdict.ts';
import { at } from '../../src/numerics/assert.ts';
import { mulberry32 } from '../../src/numerics/generator.ts';
import type { RecoveryPolicy } from '../../src/pod/master/options.ts';
import { Agenda } from './agenda.ts';
import { Disk } from './disk.ts';
import type { DiskTree } from './disk-tree.ts';
import type { Committed, SimulatedEvent } from './event.ts';
import {
  batchOf,
  type SimulatedSettings,
  simulatedExperiment,
  simulatedPrograms,
} from './experiment.ts';
import { Masters } from './masters.ts';
import { PodMemory } from './memory.ts';
import { Network, type Traffic } from './network.ts';
import { paths } from './paths.ts';
import { SimulationRecord } from './record.ts';
import { remainsOn } from './remains.ts';
import { defaultTimes, type SimulatedTimes } from './times.ts';
import { Waiting } from './waiting.ts';
import { Workers } from './workers.ts';

/** A training run to simulate. */
export interface SimulatedRun {
  readonly topology: Topology;
  readonly steps: number;
  /** Number of batches that are evaluated after the last training step. Default: 0. */
  readonly evaluationSteps?: number;
  /** Number of buckets of gradients. Default: 1. */
  readonly buckets?: number;
  /** Number of steps from one checkpoint to the next; undefined for a run without checkpoints. */
  readonly checkpointEvery?: number;
  /** Number of checkpoints that the run keeps. Default: 2. */
  readonly checkpointsKept?: number;
  /** What the master does after the loss of a Cloud TPU. Default: `replace`. */
  readonly recovery?: RecoveryPolicy;
  readonly faults?: readonly Fault[];
  readonly seed?: number;
  readonly times?: Partial<SimulatedTimes>;
}

/** Record of a simulated run. Times are virtual. */
export interface SimulatedOutcome {
  readonly observation: Observation;
  /** One entry for each batch of the evaluation, in order. */
  readonly evaluation: readonly CommitSeen[];
  /** All events, in order of time. The arrival of a frame is not an event. */
  readonly events: readonly (SimulatedEvent | Committed)[];
  readonly traffic: Traffic;
}

/**
 * A simulated run with everything that it needs: a clock, a network, workers, a disk and masters.
 * After the loss of a master, the next master uses the same clock, network, workers and disk.
 */
export class Simulation {
  readonly #agenda: Agenda;
  readonly #memory: PodMemory;
  readonly #network: Network;
  readonly #workers: Workers;
  readonly #disk: Disk;
  readonly #masters: Masters;
  readonly #waiting: Waiting;
  readonly #record: SimulationRecord;
  readonly #key: RunKey;
  /** Number of checkpoints that the run keeps; undefined for a run without checkpoints. */
  readonly #keep: number | undefined;
  /** Copies of the disk after each loss of power. */
  readonly #losses: { readonly ms: number; readonly tree: DiskTree }[] = [];

  constructor(run: SimulatedRun) {
    const { topology, faults = [], seed = 0, checkpointEvery, checkpointsKept = 2 } = run;
    const settings = settingsOf(run);
    const times = { ...defaultTimes, ...run.times };
    const random = mulberry32(seed);
    const agenda = new Agenda();
    this.#agenda = agenda;
    const nowMs = (): number => agenda.nowMs;
    const torus = flatTorus(topology.columns, topology.rows);
    this.#waiting = new Waiting(agenda);
    this.#memory = new PodMemory(torus, settings.buckets);
    this.#network = new Network(topology, torus, agenda, times, random);
    this.#record = new SimulationRecord(nowMs, () => this.#network.traffic);
    const ledger = this.#ledger(run);
    const programs = simulatedPrograms(settings);
    const shared = { agenda, times, network: this.#network, random, faults, ledger };
    this.#workers = new Workers({
      ...{ ...shared, topology },
      cores: {
        ...{ ...shared, programs: programsForWorkers(programs), memory: this.#memory },
        ...{ linkFaults: this.#network.faults, batch: batchOf(topology) },
        disturb: (fault) => this.#masters.disturb(fault),
      },
      log: (event) => this.#record.log(event),
    });
    this.#disk = new Disk(
      {
        ...{ nowMs, random, time: times.disk },
        step: () => this.#record.lastStep + 1,
        lostPower: () => this.#losePower(),
        damaged: (step) => this.#record.damaged(step),
        touch: () => this.#waiting.touch(),
      },
      paths.checkpoints,
    );
    const opened = simulatedExperiment(settings);
    this.#key = keyOf(opened.identity);
    this.#keep = checkpointEvery && checkpointsKept;
    this.#masters = new Masters({
      ...{ ...shared, programs, opened, disk: this.#disk, checkpointsKept, checkpointEvery },
      ...{ key: this.#key, record: this.#record, waiting: this.#waiting, workers: this.#workers },
    });
  }

  /** Runs the simulation to its end. */
  async run(): Promise<SimulatedOutcome> {
    const error = await this.#waiting.until(this.#masters.run());
    const { events, evaluation } = this.#record;
    const seen = this.#record.observation(error?.message ?? '');
    const observation = { ...seen, kept: await this.#kept() };
    return { observation, evaluation, events, traffic: { ...this.#network.traffic } };
  }

  /** Ends all workers, and lets later simulations use the memory again. */
  close(): void {
    this.#workers.endAll();
    this.#memory.release();
  }

  #losePower(): void {
    this.#losses.push({ ms: this.#agenda.nowMs, tree: this.#disk.durable });
    this.#masters.losePower();
  }

  async #kept(): Promise<Kept> {
    const { saves, damages } = this.#record;
    const losses: Kept['losses'][number][] = [];
    for (const { ms, tree } of this.#losses) {
      losses.push({ ms, ...(await remainsOn(tree, this.#key)) });
    }
    const end = await remainsOn(this.#disk.durable, this.#key);
    return { keep: this.#keep, saves, damages, losses, end };
  }

  /** Returns a ledger that records each injected fault as an event. */
  #ledger({ faults = [] }: SimulatedRun): Ledger {
    const ledger = memoryLedger();
    return {
      has: (index) => ledger.has(index),
      record: (index) => {
        ledger.record(index);
        this.#record.log({ event: 'injected', index, fault: at(faults, index) });
      },
    };
  }
}

function settingsOf(run: SimulatedRun): SimulatedSettings {
  const { topology, steps, evaluationSteps = 0, buckets = 1 } = run;
  const { recovery = 'replace', seed = 0 } = run;
  return { topology, steps, evaluationSteps, buckets, recovery, seed };
}
