import {
  type Axis,
  flatTorus,
  neighbour,
  type Topology,
  type Torus,
} from '../../src/fabric/torus.ts';
import type { Agenda } from './agenda.ts';
import type { Frame } from './cores.ts';
import type { Life } from './life.ts';
import { drawn, type Range, type SimulatedTimes } from './times.ts';
import { hash } from './weights.ts';

/** Numbers of delivered messages and frames, and a hash of the frames. */
export interface Traffic {
  readonly messages: number;
  readonly frames: number;
  /** Hash of all delivered frames and of their times of arrival, in order of arrival. */
  readonly hash: number;
}

/** Traffic of a pod that has not started. */
export const noTraffic: Traffic = { messages: 0, frames: 0, hash: 0 };

/**
 * Times of arrival on the channels of one worker: the two channels of messages between worker and
 * master, and for each axis the channel of frames to the next Cloud TPU. Each time is that of the
 * message or frame that was sent last on the channel, in microseconds of virtual time.
 */
interface Channels {
  toMaster: number;
  toWorker: number;
  readonly frames: [number, number];
}

/**
 * Carries messages between master and workers, and frames between workers. No message and no frame
 * gets lost, and those of one channel arrive in the order in which they were sent.
 */
export class Network {
  /** Torus that tells the neighbours: it has one chip for each Cloud TPU, with the same number. */
  readonly #torus: Torus;
  readonly #agenda: Agenda;
  readonly #times: SimulatedTimes;
  readonly #random: () => number;
  readonly #channels: WeakMap<Life, Channels> = new WeakMap();
  readonly #traffic: { messages: number; frames: number; hash: number } = { ...noTraffic };

  constructor(
    { columns, rows }: Topology,
    agenda: Agenda,
    times: SimulatedTimes,
    random: () => number,
  ) {
    this.#torus = flatTorus(columns, rows);
    this.#agenda = agenda;
    this.#times = times;
    this.#random = random;
  }

  get traffic(): Traffic {
    return this.#traffic;
  }

  /** Sends a message between the worker and the master. Calls `deliver` when it arrives. */
  send(life: Life, way: 'toMaster' | 'toWorker', deliver: () => void): void {
    const channels = this.#channelsOf(life);
    channels[way] = this.#arrival(channels[way], this.#times.message);
    this.#agenda.at(channels[way], () => {
      this.#traffic.messages++;
      deliver();
    });
  }

  /**
   * Sends a frame from a worker to the next Cloud TPU on an axis. When the frame arrives, `lifeOf`
   * returns the worker that the receiving Cloud TPU has at that time. If the Cloud TPU has no
   * worker, the frame is dropped.
   */
  sendFrame(life: Life, axis: Axis, frame: Frame, lifeOf: (tpu: number) => Life | undefined): void {
    const { frames } = this.#channelsOf(life);
    frames[axis] = this.#arrival(frames[axis], this.#times.frame);
    const tpu = neighbour(this.#torus, life.tpu, axis === 0 ? 0 : 2);
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
}
