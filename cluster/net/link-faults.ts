import {
  type Direction,
  linkNumber,
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
   * Machines of the sender and of the receiver, each named by the Cloud TPU to which it belongs.
   * `fromSite` equals `from`, and `toSite` equals `to`, unless the worker of another Cloud TPU has
   * adopted the sender or the receiver.
   */
  readonly fromSite: number;
  readonly toSite: number;
  readonly bytes: Buffer;
}

/** What a link does with a packet. Times are in microseconds. */
export interface Passage {
  /**
   * What arrives of the packet: the whole packet, a part of it or two copies. Empty if the packet
   * is lost or must wait.
   */
  readonly pieces: readonly Buffer[];
  /** Time by which the packet arrives later than over a link without faults. */
  readonly delayUs: number;
  /** Time for which the packet occupies the link, so that later packets must wait. */
  readonly sendingUs: number;
  /** True if the connection breaks after `pieces` have been sent. */
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
   * If the fault names a link: index of this link, and index of the link in the opposite direction.
   * Undefined if the fault names no link.
   */
  readonly links: readonly [number, number] | undefined;
  readonly isOver: IsOver;
  /** How many more packets the fault may affect. */
  left: number;
}

/**
 * The faults of links that are active now. A simulated pod has one object for all its links. A
 * process of a pod has one object for its own links.
 */
export class LinkFaults {
  readonly #topology: Topology;
  readonly #torus: Torus;
  readonly #random: () => number;
  readonly #nowMs: () => number;
  #active: Active[] = [];
  #step = 0;

  /**
   * `torus` is the torus whose link indices are in the headers of frames. It has all chips of the
   * slice, or only one chip for each Cloud TPU. `random` returns numbers in [0, 1).
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

  /**
   * Called when step number `step` begins. This ends the faults whose duration, counted in steps,
   * is over.
   */
  stepBegins(step: number): void {
    this.#step = Math.max(this.#step, step);
  }

  /**
   * True if a partition separates the machine of Cloud TPU `site` from the master. No message then
   * passes between them.
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

  /**
   * Returns the index of the link named `name`, and the index of the link in the opposite
   * direction. Both are indices on `#torus`.
   */
  #numbersOf(name: string): readonly [number, number] {
    const torus = podTorus(this.#topology);
    const number = parseLinkName(torus, name);
    const direction = (number & 3) as Direction;
    if (this.#torus.width === torus.width) {
      return [number, linkNumber(neighbour(torus, number >> 2, direction), opposite(direction))];
    }
    const [sender, receiver] = endsOf({ link: name }, this.#topology);
    return [linkNumber(sender, direction), linkNumber(receiver, opposite(direction))];
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
 * True if a packet travels over the link of a fault. The header of a frame names a queue, and so a
 * link. Which link the frame travels over depends on its kind:
 *
 * - A tensor frame, and a count of sent frames, travel over the link that they name.
 * - A credit acknowledges tensor frames. It names their link, but travels in the opposite
 *   direction.
 * - Any other frame names no link, so the result is false.
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
 * Index of the group of a Cloud TPU in a partition. The master is in group 0. A Cloud TPU that is
 * in no group counts as a member of group 0 too.
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
