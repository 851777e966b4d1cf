import type { LinkFaults, Packet } from './link-faults.ts';

/** Time, in microseconds, after which bytes for a link that is down are tried again. */
const heldUs = 5000;

/** Bytes that leave a {@link FaultyPath}. */
export interface Departure {
  /** What is to be sent, in order. Empty if a fault has lost the bytes. */
  readonly pieces: readonly Buffer[];
  /** Time, in microseconds on the clock of the path, at which the pieces are sent; never past. */
  readonly us: number;
  /** True if the connection breaks after the pieces. */
  readonly resets: boolean;
}

/** The clock of a {@link FaultyPath}, and the receiver of what leaves it. */
export interface PathWorld {
  /** Returns the time in microseconds. */
  nowUs(): number;
  /** Calls `act` once, `us` microseconds from now. */
  later(us: number, act: () => void): void;
  depart(departure: Departure): void;
}

/**
 * Applies the faults of links to the bytes of one direction of one connection. The bytes keep their
 * order, with one exception: under a fault `reorder`, a frame may be sent after the frame that
 * followed it.
 */
export class FaultyPath {
  readonly #faults: LinkFaults;
  readonly #ends: Omit<Packet, 'bytes'>;
  readonly #world: PathWorld;
  /** Frames that wait until the link works again. */
  #held: Buffer[] = [];
  /** Frame that the next frame overtakes; undefined if there is none. */
  #late: Buffer | undefined;
  /** Time, in microseconds, until which earlier bytes occupy a slow link. */
  #freeUs = 0;

  constructor(faults: LinkFaults, ends: Omit<Packet, 'bytes'>, world: PathWorld) {
    this.#faults = faults;
    this.#ends = ends;
    this.#world = world;
  }

  /**
   * True if no fault is active and no bytes wait. The caller may then send bytes without calling
   * `take`.
   */
  get isClear(): boolean {
    return this.#held.length === 0 && this.#late === undefined && this.#faults.isEmpty;
  }

  /** Takes the bytes of one frame. They depart at once, later or never. */
  take(bytes: Buffer): void {
    if (this.#held.length > 0) {
      this.#held.push(bytes);
      return;
    }
    const { pieces, delayUs, sendingUs, ...passage } = this.#faults.pass({ ...this.#ends, bytes });
    if (passage.isHeld) {
      this.#held.push(bytes);
      this.#world.later(heldUs, () => this.#retry());
      return;
    }
    if (passage.isOvertaken && this.#late === undefined) {
      this.#late = bytes;
      return;
    }
    const late = this.#late === undefined ? [] : [this.#late];
    this.#late = undefined;
    this.#freeUs = Math.max(this.#freeUs, this.#world.nowUs()) + sendingUs;
    const us = this.#freeUs + delayUs;
    this.#world.depart({ pieces: [...pieces, ...late], us, resets: passage.resets });
  }

  /** Forgets all bytes that wait, because the connection has ended. */
  drop(): void {
    this.#held = [];
    this.#late = undefined;
  }

  #retry(): void {
    const held = this.#held;
    this.#held = [];
    for (const bytes of held) this.take(bytes);
  }
}
