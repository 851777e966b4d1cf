import { evaluateProgram, trainProgram } from '../../src/experiment/program-index.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import type { Due, Ledger } from '../../src/fault/injector.ts';
import type { DiskFault, Fault, MasterFault, StepPhase } from '../../src/fault/plan.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { digest } from '../../src/numerics/digest.ts';
import type { StepOrder, StepReport } from '../../src/pod/messages.ts';
import type { Program } from '../../src/pod/pod.ts';
import type { LinkFaults, NetworkFault } from '../net/link-faults.ts';
import type { Agenda } from './agenda.ts';
import { SimulatedIci } from './ici.ts';
import type { PodMemory } from './memory.ts';
import { type FaultTargets, HopStop, Probe, type Wait } from './probe.ts';
import type { SimulatedTimes } from './times.ts';
import { finite, flipBit, hash, Weights } from './weights.ts';

/** What the cores of all Cloud TPUs of a pod have in common. */
export interface CoresOptions {
  readonly programs: readonly Program[];
  readonly memory: PodMemory;
  readonly linkFaults: LinkFaults;
  readonly times: SimulatedTimes;
  readonly agenda: Agenda;
  readonly ledger: Ledger;
  /** Number of examples of a batch. */
  readonly batch: number;
  /** Begins a fault of the master or of its disk. */
  readonly disturb: (fault: MasterFault | DiskFault) => void;
}

/**
 * The cores of one simulated Cloud TPU, and its links. A simulated step has the phases and the data
 * flow of an emulated step. The all-reduces are real: their lanes and frames are those of an
 * emulated step. The cores, however, do not compute. The gradients follow from a hash of the
 * weights, the step and the number of the Cloud TPU. The new weights are a hash of the old weights
 * and of the summed gradients. So a wrong sum changes the weights, and with them the digest of the
 * weights.
 */
export class Cores implements FaultTargets {
  readonly weights: Weights;
  readonly probe: Probe;
  readonly #tpu: number;
  readonly #site: number;
  readonly #options: CoresOptions;
  /**
   * Called before each hop of an all-reduce, to inject faults. A hop receives a frame, sends a
   * frame, or does both. Undefined if no fault of the plan concerns this Cloud TPU.
   */
  readonly #onHop: OnHop | undefined;
  #ici: SimulatedIci | undefined;
  #order: StepOrder = { program: trainProgram, step: 0, takeParameters: false };

  /**
   * `site` is the number of the Cloud TPU on whose machine the worker of Cloud TPU `tpu` runs. It
   * is `tpu` itself unless another worker has adopted this Cloud TPU.
   */
  constructor(tpu: number, site: number, options: CoresOptions, faults: readonly Due[]) {
    this.#tpu = tpu;
    this.#site = site;
    this.#options = options;
    this.weights = new Weights(options.programs);
    this.probe = new Probe(faults, options.ledger, this, () => options.agenda.nowMs);
    this.#onHop = faults.length === 0 ? undefined : (...hop) => this.#reachHop(...hop);
  }

  /** Links of the present membership; undefined before the first. */
  get ici(): SimulatedIci | undefined {
    return this.#ici;
  }

  /** Makes the links anew, for the membership number `generation`. */
  join(generation: number): SimulatedIci {
    const place = { tpu: this.#tpu, site: this.#site };
    const { memory, agenda } = this.#options;
    const nowMs = (): number => agenda.nowMs;
    this.#ici = new SimulatedIci(memory, place, generation, this.#onHop, nowMs);
    return this.#ici;
  }

  /**
   * Runs one step of a program. If the program copies its parameters from another program,
   * `sourceSteps` is the number of steps that this other program has done.
   */
  *run(
    order: StepOrder,
    sourceSteps: number,
  ): Generator<Wait, Omit<StepReport, 'tpu' | 'program' | 'step'>> {
    this.#order = order;
    const { program, step } = order;
    const { parametersFrom } = at(this.#options.programs, program);
    if (order.takeParameters) {
      assert(parametersFrom !== undefined, `program ${program} shares no parameters`);
      this.weights.of(program, 0).set(this.weights.of(parametersFrom, sourceSteps));
    }
    if (program === evaluateProgram) yield* this.#point('evaluate');
    else this.#options.linkFaults.stepBegins(step + 1);
    const { infeed, compute, update, outfeed } = this.#options.times;
    const startsUs = [this.#nowUs];
    yield* this.#work('infeed', infeed);
    startsUs.push(this.#nowUs);
    yield* this.#work('compute', compute);
    this.#computeGradients();
    startsUs.push(this.#nowUs);
    yield* this.#allReduce();
    startsUs.push(this.#nowUs);
    yield* this.#work('update', update);
    const loss = this.#update();
    startsUs.push(this.#nowUs);
    yield* this.#work('outfeed', outfeed);
    startsUs.push(this.#nowUs);
    const after = parametersFrom === undefined ? step + 1 : 0;
    return {
      digest: this.weights.digest(program, after),
      outfeed: this.#outfeed(program, loss),
      phaseMs: startsUs.slice(1).map((us, i) => (us - at(startsUs, i)) / 1000),
      linkWaitMs: this.#linkWaits(),
    };
  }

  flip({ in: memory, bit = 20 }: Fault & { readonly fault: 'flip-bit' }): void {
    const { program, step } = this.#order;
    if (memory === 'weights') flipBit(this.weights.of(program, step), bit);
    if (memory === 'reduce-buffer') flipBit(this.#options.memory.sum(this.#tpu, 0), bit);
  }

  begin(fault: NetworkFault): void {
    this.#options.linkFaults.begin(fault);
  }

  disturb(fault: MasterFault | DiskFault): void {
    this.#options.disturb(fault);
  }

  get #nowUs(): number {
    return this.#options.agenda.nowUs;
  }

  /** Number of buckets of the running program. */
  get #buckets(): number {
    return at(this.#options.programs, this.#order.program).executable.buckets.length;
  }

  *#work(phase: StepPhase, us: number): Generator<Wait, void> {
    if (this.#order.program !== evaluateProgram) yield* this.#point(phase);
    yield { kind: 'work', us };
  }

  *#point(phase: StepPhase): Generator<Wait, void> {
    if (this.probe.isDone) return;
    yield* this.probe.reach({ kind: 'step', step: this.#order.step + 1, phase });
  }

  /** Throws {@link HopStop} if a fault stops the worker before the hop. */
  #reachHop(...[bucket, phase, hop]: Parameters<OnHop>): void {
    if (this.probe.isDone) return;
    const step = this.#order.step + 1;
    // The number of a hop in a fault plan is that of an emulated Cloud TPU, which has two chips
    // along each axis. A simulated Cloud TPU has only one chip, so each of its hops stands for two
    // hops of the plan.
    const waits = [2 * hop, 2 * hop + 1].flatMap((it) =>
      this.probe.waitsAt({ kind: 'step', step, phase, bucket, hop: it }),
    );
    if (waits.length > 0) throw new HopStop(waits);
  }

  /**
   * Returns the outfeed of a step, one array for each value:
   *
   * - of the training program: loss, number of correct examples, learning rate;
   * - of the evaluation program: number of correct examples, loss, number of examples.
   */
  #outfeed(program: number, loss: number): Uint8Array[] {
    const { batch } = this.#options;
    const correct = Math.floor(loss * batch);
    const values = program === evaluateProgram ? [correct, loss, batch] : [loss, correct, 0];
    return values.map((value) => new Uint8Array(Float32Array.of(value).buffer));
  }

  /**
   * Returns how long the Cloud TPU waited on each link that enters it, in ms. An emulated Cloud TPU
   * has two such links for each direction, a simulated Cloud TPU only one. So the wait of each
   * simulated link is given twice.
   */
  #linkWaits(): number[] {
    const waits = this.#ici?.takeWaits() ?? [];
    return this.#options.memory.waitOf(this.#tpu).map((index) => at(waits, index));
  }

  #computeGradients(): void {
    const { program, step } = this.#order;
    const [low = 0, high = 0] = this.weights.of(program, step);
    for (let bucket = 0; bucket < this.#buckets; bucket++) {
      const seed = hash(low, high, program, step, this.#tpu, bucket);
      this.#options.memory.writeGradients(this.#tpu, bucket, seed);
    }
  }

  /** Sums the gradients of all buckets over all chips of the torus. */
  *#allReduce(): Generator<Wait, void> {
    const ici = this.#ici;
    assert(ici !== undefined, 'a worker loads before it runs a step');
    for (let bucket = 0; bucket < this.#buckets; bucket++) ici.start(bucket);
    ici.poke();
    for (let bucket = 0; bucket < this.#buckets; bucket++) {
      if (!ici.isDone(bucket)) yield { kind: 'sum', bucket };
    }
  }

  /**
   * Computes the new weights, unless the program copies its weights from another program. Returns
   * the loss, from 0 to 1.
   */
  #update(): number {
    const { program, step } = this.#order;
    const { parametersFrom } = at(this.#options.programs, program);
    const [low = 0, high = 0] = this.weights.of(program, step);
    let sums = 0n;
    for (let bucket = 0; bucket < this.#buckets; bucket++) {
      sums = digest(this.#options.memory.sum(this.#tpu, bucket), sums);
    }
    const [a, b] = [Number(sums & 0xffff_ffffn), Number(sums >> 32n)];
    if (parametersFrom === undefined) {
      const words = [hash(low, a, b, 0), hash(high, a, b, 1)];
      this.weights.of(program, step + 1).set(words.map(finite));
    }
    return hash(low, high, a, b) / 2 ** 32;
  }
}
