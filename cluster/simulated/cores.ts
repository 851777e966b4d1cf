import { evaluateProgram, trainProgram } from '../../src/experiment/program-index.ts';
import type { CollectivePhase } from '../../src/fabric/lane.ts';
import type { Axis, Topology } from '../../src/fabric/torus.ts';
import type { Due, Ledger, Point } from '../../src/fault/injector.ts';
import type { Fault, StepPhase } from '../../src/fault/plan.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { StepOrder, StepReport } from '../../src/pod/messages.ts';
import type { Program } from '../../src/pod/pod.ts';
import type { Agenda } from './agenda.ts';
import { type FlippableMemory, Probe, type Wait } from './probe.ts';
import type { SimulatedTimes } from './times.ts';
import { finite, flipBit, hash, Weights } from './weights.ts';

/** What the cores of all Cloud TPUs of a pod have in common. */
export interface CoresOptions {
  readonly topology: Topology;
  readonly programs: readonly Program[];
  readonly times: SimulatedTimes;
  readonly agenda: Agenda;
  readonly ledger: Ledger;
}

/** A frame between two Cloud TPUs that are neighbours on the torus. */
export interface Frame {
  readonly generation: number;
  /** Index of the frame among the frames that its link carries in one membership, from 0. */
  readonly sequence: number;
  readonly value: number;
}

/**
 * The cores of one simulated Cloud TPU. A simulated step has the phases, the collectives and the
 * data flow of an emulated step, but only a few words of data. The gradients are hashes of the
 * weights, the step and the number of the Cloud TPU. The gradients are summed over the torus in the
 * same three phases as in an emulated step: reduce-scatter along X, all-reduce along Y, all-gather
 * along X. The new weights are a hash of the old weights and the sums. So a wrong sum changes the
 * weights, and with them the digest of the weights.
 */
export class Cores implements FlippableMemory {
  readonly weights: Weights;
  readonly probe: Probe;
  readonly #tpu: number;
  readonly #options: CoresOptions;
  readonly #send: (axis: Axis, frame: Frame) => void;
  readonly #arrived: readonly [Frame[], Frame[]] = [[], []];
  readonly #sent: [number, number] = [0, 0];
  readonly #taken: [number, number] = [0, 0];
  /**
   * Gradients, and after the all-reduce their sums: one array for each bucket, by the index of the
   * bucket. Each array has one word for each column of the torus.
   */
  #sums: readonly Uint32Array[] = [];
  #order: StepOrder = { program: trainProgram, step: 0, takeParameters: false };
  #generation = 0;

  /** `send` sends a frame to the next Cloud TPU on the given axis of the torus. */
  constructor(
    tpu: number,
    options: CoresOptions,
    faults: readonly Due[],
    send: (axis: Axis, frame: Frame) => void,
  ) {
    this.#tpu = tpu;
    this.#options = options;
    this.#send = send;
    this.weights = new Weights(options.programs);
    this.probe = new Probe(faults, options.ledger, this, () => options.agenda.nowUs);
  }

  /** Enters the membership number `generation`. All links are empty at first. */
  join(generation: number): void {
    this.#generation = generation;
    for (const axis of [0, 1] as const) {
      this.#arrived[axis].length = 0;
      this.#sent[axis] = 0;
      this.#taken[axis] = 0;
    }
  }

  /** Receives a frame on the link of an axis. Ignores a frame of another membership. */
  arrive(axis: Axis, frame: Frame): void {
    if (frame.generation === this.#generation) this.#arrived[axis].push(frame);
  }

  /** True if a frame has arrived on the given axis and is not taken yet. */
  hasFrame(axis: Axis): boolean {
    return this.#arrived[axis].length > 0;
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
    const { parametersFrom, executable } = at(this.#options.programs, program);
    if (order.takeParameters) {
      assert(parametersFrom !== undefined, `program ${program} shares no parameters`);
      this.weights.of(program, 0).set(this.weights.of(parametersFrom, sourceSteps));
    }
    if (program === evaluateProgram) yield* this.#point('evaluate');
    const { infeed, compute, update, outfeed } = this.#options.times;
    const startsUs = [this.#nowUs];
    this.#sums = executable.buckets.map(() => new Uint32Array(this.#options.topology.columns));
    yield* this.#work('infeed', infeed);
    startsUs.push(this.#nowUs);
    yield* this.#work('compute', compute);
    this.#computeGradients();
    startsUs.push(this.#nowUs);
    for (const bucket of this.#sums.keys()) yield* this.#allReduce(bucket);
    startsUs.push(this.#nowUs);
    yield* this.#work('update', update);
    const loss = this.#update();
    startsUs.push(this.#nowUs);
    yield* this.#work('outfeed', outfeed);
    startsUs.push(this.#nowUs);
    const after = parametersFrom === undefined ? step + 1 : 0;
    return {
      digest: this.weights.digest(program, after),
      outfeed: [new Uint8Array(Float32Array.of(loss).buffer)],
      phaseMs: startsUs.slice(1).map((us, i) => (us - at(startsUs, i)) / 1000),
    };
  }

  flip({ in: memory, bit = 20 }: Fault & { readonly fault: 'flip-bit' }): void {
    const { program, step } = this.#order;
    if (memory === 'weights') flipBit(this.weights.of(program, step), bit);
    const [sums] = this.#sums;
    if (memory === 'reduce-buffer' && sums !== undefined) flipBit(sums, bit);
  }

  get #nowUs(): number {
    return this.#options.agenda.nowUs;
  }

  *#work(phase: StepPhase, us: number): Generator<Wait, void> {
    if (this.#order.program !== evaluateProgram) yield* this.#point(phase);
    yield { kind: 'work', us };
  }

  *#point(phase: StepPhase, place: { bucket?: number; hop?: number } = {}): Generator<Wait, void> {
    if (this.probe.isDone) return;
    const point: Point = { kind: 'step', step: this.#order.step + 1, phase, ...place };
    yield* this.probe.reach(point);
  }

  #computeGradients(): void {
    const { program, step } = this.#order;
    const [low = 0, high = 0] = this.weights.of(program, step);
    for (const [bucket, sums] of this.#sums.entries()) {
      for (const chunk of sums.keys()) {
        sums[chunk] = hash(low, high, program, step, this.#tpu, bucket, chunk);
      }
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
    const sums = this.#sums.reduce((all, words) => hash(all, ...words), 0);
    if (parametersFrom === undefined) {
      const words = [hash(low, sums, 0), hash(high, sums, 1)];
      this.weights.of(program, step + 1).set(words.map(finite));
    }
    return hash(low, high, sums) / 2 ** 32;
  }

  /** Sums the gradients of the given bucket over all Cloud TPUs of the torus. */
  *#allReduce(bucket: number): Generator<Wait, void> {
    const { columns, rows } = this.#options.topology;
    const x = this.#tpu % columns;
    const sums = at(this.#sums, bucket);
    const chunk = (index: number): number => (index + 2 * columns) % columns;
    const alongX = { bucket, axis: 0, length: columns } as const;
    const alongY = { bucket, axis: 1, length: rows } as const;
    yield* this.#ring(
      { ...alongX, phase: 'reduce-scatter', firstHop: 0 },
      (hop) => sums[chunk(x - hop)]!,
      (hop, value) => {
        sums[chunk(x - hop - 1)]! += value;
      },
    );
    const own = chunk(x + 1);
    let carried = sums[own]!;
    yield* this.#ring(
      { ...alongY, phase: 'all-reduce', firstHop: 0 },
      () => carried,
      (_, value) => {
        carried = value;
        sums[own]! += value;
      },
    );
    yield* this.#ring(
      { ...alongY, phase: 'all-reduce', firstHop: 2 * rows },
      () => sums[own]!,
      () => undefined,
    );
    yield* this.#ring(
      { ...alongX, phase: 'all-gather', firstHop: 0 },
      (hop) => sums[chunk(x + 1 - hop)]!,
      (hop, value) => {
        sums[chunk(x - hop)] = value;
      },
    );
  }

  /**
   * Makes the hops of one round of a phase, along an axis of `length` Cloud TPUs. A round has
   * 2 · `length` hops, because on the emulated hardware `length` Cloud TPUs in a row have
   * 2 · `length` chips in a row. The first hop sends a frame, the last hop receives one, and every
   * other hop first receives one, then sends one. Frame i carries data only if i < `length` − 1:
   * `give(i)` returns the value to send, and `take(i, value)` gets the value that has arrived. All
   * later frames carry 0. If `length` is 1, the hops send and receive nothing.
   */
  *#ring(
    { phase, bucket, axis, length, firstHop }: RingPhase,
    give: (index: number) => number,
    take: (index: number, value: number) => void,
  ): Generator<Wait, void> {
    for (let hop = 0; hop < 2 * length; hop++) {
      if (!this.probe.isDone && this.#order.program !== evaluateProgram) {
        yield* this.#point(phase, { bucket, hop: firstHop + hop });
      }
      if (length === 1) continue;
      if (hop > 0) {
        if (!this.hasFrame(axis)) yield { kind: 'frame', axis };
        const value = this.#takeFrame(axis);
        if (hop < length) take(hop - 1, value);
      }
      if (hop === 2 * length - 1) continue;
      const value = hop < length - 1 ? give(hop) : 0;
      this.#send(axis, { generation: this.#generation, sequence: this.#sent[axis]++, value });
    }
  }

  #takeFrame(axis: Axis): number {
    const frame = this.#arrived[axis].shift();
    assert(frame !== undefined, 'a frame was awaited');
    assert(frame.sequence === this.#taken[axis]++, `frame ${frame.sequence} out of order`);
    return frame.value;
  }
}

interface RingPhase {
  readonly phase: CollectivePhase;
  readonly bucket: number;
  readonly axis: Axis;
  /** Number of Cloud TPUs on the axis. */
  readonly length: number;
  /**
   * Index of the first hop of this round within the phase. The phase along Y has two rounds; its
   * second round starts at hop 2 · `length`. Every other round starts at hop 0.
   */
  readonly firstHop: number;
}
