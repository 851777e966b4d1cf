import {
  type Direction,
  neighbour,
  opposite,
  parseLinkName,
  podTorus,
  type Topology,
  type Torus,
} from '../../src/fabric/torus.ts';
import { endOf, type IsOver } from '../../src/fault/duration.ts';
import {
  endsOf,
  type Fault,
  hitsOneFrame,
  isFrameFault,
  type LinkFault,
} from '../../src/fault/plan.ts';
import { frameKinds, headerBytes, kindOf, queueOf } from './frame.ts';
import { colours } from './route.ts';

/** Bytes that one Cloud TPU sends to another over a connection: one frame, or a part of a frame. */
export interface Packet {
  readonly from: number;
  readonly to: number;
  /**
   * Numbers of the Cloud TPUs on whose machines the sender and the receiver run. `fromSite` differs
   * from `from`, or `toSite` from `to`, if a worker on another machine has adopted that Cloud TPU.
   */
  readonly fromSite: number;
  readonly toSite: number;
  readonly bytes: Buffer;
}

/** What a link does with a packet. Times are in microseconds. */
export interface Passage {
  /** Pieces that arrive, in order. Empty if the packet is lost or is held back. */
  readonly pieces: readonly Buffer[];
  /** Time by which the packet arrives later than over a link without faults. */
  readonly delayUs: number;
  /** Time for which the packet occupies the link, so that later packets must wait. */
  readonly sendingUs: number;
  /** True if the connection breaks after the pieces have been sent. */
  readonly resets: boolean;
  /** True if the packet must wait until the link works again. */
  readonly isHeld: boolean;
  /** True if the next packet overtakes this packet. */
  readonly isOvertaken: boolean;
}

/** A fault of a link, or a partition. */
export type NetworkFault = LinkFault | (Fault & { readonly fault: 'partition' });

interface Active {
  readonly fault: NetworkFault;
  /**
   * If the fault names a link: the number of the link and that of the link in the opposite
   * direction, as frames have them.
   */
  readonly links: readonly [number, number] | undefined;
  readonly isOver: IsOver;
  /** Number of packets that the fault may still affect. */
  left: number;
}

/** The active faults of links: of all links of a simulated pod, or of the links of one process. */
export class LinkFaults {
  readonly #topology: Topology;
  readonly #torus: Torus;
  readonly #random: () => number;
  readonly #nowMs: () => number;
  #active: Active[] = [];
  #step = 0;

  /**
   * The header of a frame contains the number of a link. `torus` is the torus on which the links
   * have these numbers. It is the torus of all chips of the slice, or a smaller torus that has one
   * chip for each Cloud TPU. `random` returns numbers in [0, 1).
   */
  constructor(topology: Topology, torus: Torus, random: () => number, nowMs: () => number) {
    this.#topology = topology;
    this.#torus = torus;
    this.#random = random;
    this.#nowMs = nowMs;
  }

  /** True if no fault is active, so that packets need not be passed to `pass`. */
  get isEmpty(): boolean {
    return this.#active.length === 0;
  }

  begin(fault: NetworkFault): void {
    const isOver = endOf(fault.for, this.#step, this.#nowMs());
    const isNamed = 'link' in fault && typeof fault.link === 'string';
    const links = isNamed ? this.#numbersOf(fault.link) : undefined;
    this.#active.push({
      fault,
      links,
      isOver,
      left: hitsOneFrame(fault) ? 1 : Number.POSITIVE_INFINITY,
    });
  }

  /** Tells that a step begins. Its number decides when faults with a duration in steps end. */
  stepBegins(step: number): void {
    this.#step = Math.max(this.#step, step);
  }

  /**
   * True if no message passes between the machine of Cloud TPU `site` and the master because of a
   * partition.
   */
  isCutOff(site: number): boolean {
    this.#endFaults();
    return this.#active.some(
      ({ fault }) => fault.fault === 'partition' && groupOf(fault, site) !== 0,
    );
  }

  /** Decides what happens to a packet. */
  pass(packet: Packet): Passage {
    this.#endFaults();
    let pieces: readonly Buffer[] = [packet.bytes];
    let [delayUs, sendingUs, resets, isOvertaken] = [0, 0, false, false];
    for (const active of this.#active) {
      if (!this.#hits(active, packet)) continue;
      const { fault } = active;
      if (fault.fault === 'partition' || fault.fault === 'link-down') return held;
      active.left--;
      delayUs += this.#delayOf(fault);
      sendingUs += sendingTime(fault, packet.bytes.length);
      pieces = pieces.flatMap((it) => this.#damage(fault, it));
      resets ||= fault.fault === 'reset';
      isOvertaken ||= fault.fault === 'reorder';
    }
    return { pieces, delayUs, sendingUs, resets, isHeld: false, isOvertaken };
  }

  #endFaults(): void {
    const nowMs = this.#nowMs();
    const isActive = ({ isOver, left }: Active): boolean => left > 0 && !isOver(this.#step, nowMs);
    if (!this.#active.every(isActive)) this.#active = this.#active.filter(isActive);
  }

  #hits({ fault, links }: Active, packet: Packet): boolean {
    if (fault.fault === 'partition') {
      return groupOf(fault, packet.fromSite) !== groupOf(fault, packet.toSite);
    }
    const isOn = links === undefined ? isBetween(fault, packet) : isOnLink(fault, links, packet);
    if (!isOn) return false;
    if (isFrameFault(fault) && kindOf(packet.bytes) !== frameKinds.tensor) return false;
    return fault.share === undefined || this.#random() < fault.share;
  }

  /** Numbers, on `#torus`, of the link named `name` and of the link in the opposite direction. */
  #numbersOf(name: string): readonly [number, number] {
    const torus = podTorus(this.#topology);
    const number = parseLinkName(torus, name);
    const direction = (number & 3) as Direction;
    if (this.#torus.width === torus.width) {
      return [number, neighbour(torus, number >> 2, direction) * 4 + opposite(direction)];
    }
    const [sender, receiver] = endsOf({ link: name }, this.#topology);
    return [sender * 4 + direction, receiver * 4 + opposite(direction)];
  }

  #delayOf({ ms = 0, jitterMs = 0 }: LinkFault): number {
    return Math.round(1000 * (ms + (jitterMs === 0 ? 0 : jitterMs * this.#random())));
  }

  #damage({ fault }: LinkFault, bytes: Buffer): readonly Buffer[] {
    switch (fault) {
      case 'lose':
        return [];
      case 'duplicate':
        return [bytes, Buffer.from(bytes)];
      case 'truncate':
        return [bytes.subarray(0, headerBytes + Math.floor((bytes.length - headerBytes) / 2))];
      case 'reset':
        return [bytes.subarray(0, Math.floor(bytes.length / 2))];
      case 'corrupt':
        return [flipBitOf(bytes, Math.floor(8 * bytes.length * this.#random()))];
      default:
        return [bytes];
    }
  }
}

const held: Passage = {
  ...{ pieces: [], delayUs: 0, sendingUs: 0, resets: false },
  ...{ isHeld: true, isOvertaken: false },
};

/** True if a packet goes from one to the other of the two Cloud TPUs that a fault names. */
function isBetween({ link: [a, b], both = false }: LinkFault, { from, to }: Packet): boolean {
  return (from === a && to === b) || (both && from === b && to === a);
}

/**
 * True if a packet travels over a link. The number of the queue in the header gives the number of a
 * link. A tensor frame, or a count of them, travels over this link. A credit names the queue of the tensor frames that it
 * acknowledges, so it travels over the link in the opposite direction. Other frames name no link.
 */
function isOnLink(
  { both = false }: LinkFault,
  [forward, backward]: readonly [number, number],
  { bytes }: Packet,
): boolean {
  const kind = kindOf(bytes);
  const isForward = kind === frameKinds.tensor || kind === frameKinds.sent;
  if (!isForward && kind !== frameKinds.credit) return false;
  const link = Math.floor(queueOf(bytes) / colours);
  const [own, other] = isForward ? [forward, backward] : [backward, forward];
  return link === own || (both && link === other);
}

/**
 * Index of the group of a Cloud TPU in a partition. A Cloud TPU that is in no group counts as a
 * member of group 0, which is the master's group.
 */
function groupOf({ groups }: Fault & { readonly fault: 'partition' }, tpu: number): number {
  return Math.max(
    0,
    groups.findIndex((group) => group.includes(tpu)),
  );
}

/** Time, in microseconds, that a link of a limited bandwidth needs for a packet. */
function sendingTime({ bytesPerSecond }: LinkFault, bytes: number): number {
  return bytesPerSecond === undefined ? 0 : Math.round((1e6 * bytes) / bytesPerSecond);
}

/** Returns a copy of `bytes` in which bit number `bit` is flipped. */
function flipBitOf(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  const byte = Math.floor(bit / 8);
  copy.writeUInt8(copy.readUInt8(byte) ^ (1 << (bit % 8)), byte);
  return copy;
}
