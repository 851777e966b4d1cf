import type { CollectivePhase } from '../../src/fabric/lane.ts';
import type { Topology } from '../../src/fabric/torus.ts';
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
  /** Index of the frame on its link, in the membership. */
  readonly sequence: number;
  readonly value: number;
}

/** Axes of the torus: 0 is X, 1 is Y. */
export type Axis = 0 | 1;

/** Index of the program that evaluates. For faults, every other program is a training program. */
const evaluateProgram = 1;

/**
 * The cores of one simulated Cloud TPU: a model of a training step that has the phases, the
 * collectives and the data flow of a real one, but a few words of data. The gradients are hashes of
 * the weights, of the step and of the Cloud TPU. They are summed over the torus as on the emulated
 * chip: a reduce-scatter along X, an all-reduce along Y, an all-gather along X. The new weights are
 * a hash of the old weights and of the sums, so a wrong sum or a wrong weight shows in the digest.
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
  /** By bucket, one word of gradients for each column of the torus. */
  #sums: readonly Uint32Array[] = [];
  #order: StepOrder = { program: 0, step: 0, takeParameters: false };
  #generation = 0;

  /** `send` sends a frame to the next Cloud TPU on an axis. */
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

  /** Enters a membership: with empty links. */
  join(generation: number): void {
    this.#generation = generation;
    for (const axis of [0, 1] as const) {
      this.#arrived[axis].length = 0;
      this.#sent[axis] = 0;
      this.#taken[axis] = 0;
    }
  }

  /** Takes a frame from a link. Ignores a frame of another membership. */
  arrive(axis: Axis, frame: Frame): void {
    if (frame.generation === this.#generation) this.#arrived[axis].push(frame);
  }

  /** True if a frame of an axis can be taken. */
  hasFrame(axis: Axis): boolean {
    return this.#arrived[axis].length > 0;
  }

  /**
   * Runs one step. `sourceSteps`: number of steps applied to the parameters of the program from
   * which this one takes its parameters.
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

  /** Computes the new weights, if the program has its own, and returns the loss, from 0 to 1. */
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

  /** Sums a bucket over the torus. */
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
   * Makes the hops of one phase on one axis. The ring has two chips for each Cloud TPU, so there are
   * twice as many hops as Cloud TPUs, as on the emulated chip; at the first a chip only sends, at
   * the last it only receives. `length` − 1 frames carry data from Cloud TPU to Cloud TPU, which the
   * callbacks give and take; the others have the place of frames between chips of one Cloud TPU.
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
  /** Index of the first hop in the phase. */
  readonly firstHop: number;
}
