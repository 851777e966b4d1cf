import type { Topology } from '../../src/fabric/torus.ts';
import type { Agenda } from './agenda.ts';
import type { Axis, Frame } from './cores.ts';
import type { Life } from './life.ts';
import { drawn, type Range, type SimulatedTimes } from './times.ts';
import { hash } from './weights.ts';

/** Delivered messages and frames. */
export interface Traffic {
  readonly messages: number;
  readonly frames: number;
  /** Hash of all delivered frames, in order, with their times. */
  readonly hash: number;
}

/** Traffic of a pod that has not started. */
export const noTraffic: Traffic = { messages: 0, frames: 0, hash: 0 };

/** When the last message or frame of each channel of a worker arrives, in microseconds. */
interface Channels {
  toMaster: number;
  toWorker: number;
  readonly frames: [number, number];
}

/**
 * Carries messages between master and workers, and frames between workers. Nothing gets lost, and
 * on one channel nothing overtakes.
 */
export class Network {
  readonly #topology: Topology;
  readonly #agenda: Agenda;
  readonly #times: SimulatedTimes;
  readonly #random: () => number;
  readonly #channels: WeakMap<Life, Channels> = new WeakMap();
  readonly #traffic: { messages: number; frames: number; hash: number } = { ...noTraffic };

  constructor(topology: Topology, agenda: Agenda, times: SimulatedTimes, random: () => number) {
    this.#topology = topology;
    this.#agenda = agenda;
    this.#times = times;
    this.#random = random;
  }

  get traffic(): Traffic {
    return this.#traffic;
  }

  /** Sends a message between a worker and the master. `deliver` is called when it arrives. */
  send(life: Life, way: 'toMaster' | 'toWorker', deliver: () => void): void {
    const channels = this.#channelsOf(life);
    channels[way] = this.#arrival(channels[way], this.#times.message);
    this.#agenda.at(channels[way], () => {
      this.#traffic.messages++;
      deliver();
    });
  }

  /**
   * Sends a frame from a worker to the next Cloud TPU on an axis. `lifeOf` returns the worker that
   * this Cloud TPU has when the frame arrives; without a worker the frame is dropped.
   */
  sendFrame(life: Life, axis: Axis, frame: Frame, lifeOf: (tpu: number) => Life | undefined): void {
    const { frames } = this.#channelsOf(life);
    frames[axis] = this.#arrival(frames[axis], this.#times.frame);
    const tpu = this.#next(life.tpu, axis);
    this.#agenda.at(frames[axis], () => {
      const traffic = this.#traffic;
      traffic.frames++;
      traffic.hash = hash(traffic.hash, this.#agenda.nowUs, tpu, axis, frame.sequence, frame.value);
      lifeOf(tpu)?.arrive(axis, frame);
    });
  }

  #channelsOf(life: Life): Channels {
    const known = this.#channels.get(life);
    if (known !== undefined) return known;
    const channels: Channels = { toMaster: 0, toWorker: 0, frames: [0, 0] };
    this.#channels.set(life, channels);
    return channels;
  }

  #arrival(lastUs: number, range: Range): number {
    return Math.max(lastUs, this.#agenda.nowUs + drawn(range, this.#random));
  }

  /** Number of the next Cloud TPU on a ring. */
  #next(tpu: number, axis: Axis): number {
    const { columns, rows } = this.#topology;
    const [x, y] = [tpu % columns, Math.floor(tpu / columns)];
    return axis === 0 ? y * columns + ((x + 1) % columns) : ((y + 1) % rows) * columns + x;
  }
}
