import type { ExchangePattern } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { type Message, messagesOf } from './exchange.ts';
import { laneCount, laneDirection, partLength, partStart } from './part.ts';
import {
  type Hop,
  type LaneAxis,
  LanePlan,
  type PlaceInRegion,
  wordsAHop,
  writeHops,
} from './plan.ts';
import {
  axisLength,
  axisOf,
  chipCount,
  chipsOf,
  isForward,
  neighbour,
  type Torus,
} from './torus.ts';

/** An exchange of rows between the replicas of a slice. */
export interface ExchangeOf {
  readonly torus: Torus;
  /** Number of replicas of a worker. They are spread evenly over its chips. */
  readonly cores: number;
  readonly pattern: ExchangePattern;
  /** Size of a row in words of four bytes. */
  readonly rowWords: number;
  /**
   * True if all replicas of a worker have one copy of the received rows, because these are equal.
   * Then only the first replica of a worker receives rows.
   */
  readonly sharesTarget: boolean;
  /** Largest number of words of a frame. */
  readonly frameElements: number;
}

/** Memory in which a worker has the rows of an exchange. Addresses and strides are in bytes. */
export interface ExchangePlace {
  /** The rows that replica 0 of the worker sends, and the distance to those of the next replica. */
  readonly source: { readonly address: number; readonly stride: number };
  /** The rows that replica 0 of the worker receives, and the distance to those of the next. */
  readonly target: { readonly address: number; readonly stride: number };
  /** Memory for rows that pass through chip 0, and the distance to that of the next chip. */
  readonly transit: { readonly address: number; readonly stride: number };
}

/** Largest number of hops of an exchange, over all chips. The hops take 48 bytes each in memory. */
const hopsMax = 2 ** 22;

/** Regions of the memory of a chip: those of the rows that its replicas send are first. */
const regionsOf = (perChip: number): { target: number; transit: number } => ({
  target: perChip,
  transit: 2 * perChip,
});

/** The plans of one exchange for all chips of a slice. They may be shared between threads. */
export interface ExchangePlans {
  /** Hops of all lanes of all chips, one lane after another. */
  readonly hops: Int32Array;
  /** Index in `hops` of the first word of lane l of chip c, at 4c + l; at the end, their length. */
  readonly starts: Int32Array;
  /** Bytes that a chip needs for rows on their way to other chips. */
  readonly transitBytes: number;
}

/** Returns the plan of one lane of one chip. `index` is the chip's index on its worker. */
export function exchangeLane(
  { hops, starts }: ExchangePlans,
  { chip, index, lane }: { readonly chip: number; readonly index: number; readonly lane: number },
  { source, target, transit }: ExchangePlace,
  replicasAChip: number,
): LanePlan {
  const first = index * replicasAChip;
  const copies = (of: { readonly address: number; readonly stride: number }): number[] =>
    Array.from({ length: replicasAChip }, (_, c) => of.address + (first + c) * of.stride);
  const regions = [...copies(source), ...copies(target), transit.address + index * transit.stride];
  const i = chip * laneCount + lane;
  return new LanePlan(hops.subarray(at(starts, i), at(starts, i + 1)), regions);
}

/**
 * Plans an exchange for all chips of a slice.
 *
 * Each row is cut into four lanes. In a lane, a row goes from the chip of its source along the first
 * axis of the lane to every position that has a target, and from there along the second axis, always
 * in the direction of the lane. So it crosses each link at most once, also if it has many targets.
 *
 * The plan comes from a simulation in rounds. In a round, each link takes the frame that waits for it
 * longest. A chip makes the hops of a round in this order: it sends what the round takes, then it
 * receives. A hop waits only for hops of earlier rounds, or for the sender's hop of its own round.
 * So the chips never wait for each other in a circle.
 *
 * @throws PodError `unsupported-program` if the exchange needs too many hops.
 */
export function planExchange(of: ExchangeOf): ExchangePlans {
  const chips = chipCount(of.torus);
  const shared = { ...of, chipOf: chipsOfReplicas(of), transit: new Float64Array(chips) };
  const byLane = Array.from({ length: laneCount }, (_, lane) =>
    new LaneRounds(shared, lane).hops(),
  );
  const planned = Array.from({ length: chips }, (_, chip) =>
    byLane.map((hops) => at(hops, chip)),
  ).flat();
  const starts = new Int32Array(planned.length + 1);
  for (const [i, { length }] of planned.entries()) {
    starts[i + 1] = at(starts, i) + length * wordsAHop;
  }
  const hops = new Int32Array(new SharedArrayBuffer(4 * at(starts, planned.length)));
  for (const [i, own] of planned.entries()) {
    writeHops(own, hops.subarray(at(starts, i), at(starts, i + 1)));
  }
  return { hops, starts, transitBytes: shared.transit.reduce((most, n) => Math.max(most, n), 0) };
}

/** Returns the chip of each replica. */
function chipsOfReplicas({ torus, cores }: ExchangeOf): Int32Array {
  const perChip = (cores * torus.workers) / chipCount(torus);
  assert(Number.isInteger(perChip), `${cores} replicas on the chips of a worker`);
  const chipOf = new Int32Array(cores * torus.workers);
  for (let worker = 0; worker < torus.workers; worker++) {
    for (const [index, chip] of chipsOf(torus, worker).entries()) {
      const first = worker * cores + index * perChip;
      chipOf.fill(chip, first, first + perChip);
    }
  }
  return chipOf;
}

/** What the lanes of an exchange share while they are planned. */
interface Planning extends ExchangeOf {
  readonly chipOf: Int32Array;
  /** For each chip: how many bytes it needs so far for rows on their way to other chips. */
  readonly transit: Float64Array;
}

/** Part of a row that travels in one frame, and the way that it takes. */
interface Piece {
  readonly words: number;
  /** Places where the piece is stored, by chip. */
  readonly targets: ReadonlyMap<number, readonly PlaceInRegion[]>;
  /** How many links it crosses on the first axis. */
  readonly firstReach: number;
  /** secondReach[d]: how many links it crosses on the second axis, d links along the first. */
  readonly secondReach: readonly number[];
}

/** A piece at a chip: `first` and `second` count the links that it has crossed on each axis. */
interface Visit {
  readonly piece: Piece;
  readonly chip: number;
  readonly first: number;
  readonly second: number;
  readonly place: PlaceInRegion;
  /** Set if the piece only passes through the chip. */
  readonly slot?: Slot;
}

interface Sending {
  readonly visit: Visit;
  readonly axis: LaneAxis;
}

/** Memory of a chip for a piece on its way. */
interface Slot {
  readonly place: PlaceInRegion;
  /** How many sends of the piece are still to come. */
  pending: number;
  /** How many frames the chip has sent on each axis when the last piece left the slot. */
  readonly sent: [number, number];
}

/**
 * How many free slots a chip keeps before it uses one again. A chip frees at most two slots in a
 * round, so the oldest of more than four became free in an earlier round. If it had become free in
 * the round in which it is used again, chips could wait for each other in a circle, each for the
 * release of its own frame.
 */
const restingSlots = 4;

/** Simulates the rounds of one lane. */
class LaneRounds {
  readonly #of: Planning;
  readonly #lane: number;
  readonly #perChip: number;
  readonly #hops: Hop[][];
  /** Sends that wait for a link, in order; the index is 2 · chip + axis. */
  readonly #queues: Sending[][];
  /** How many frames each chip has sent on each axis; the index is 2 · chip + axis. */
  readonly #sent: Uint32Array;
  readonly #free: Slot[][];
  #busy: Set<number> = new Set();
  #count = 0;

  constructor(of: Planning, lane: number) {
    const chips = chipCount(of.torus);
    this.#of = of;
    this.#lane = lane;
    this.#perChip = (of.cores * of.torus.workers) / chips;
    this.#hops = Array.from({ length: chips }, () => []);
    this.#queues = Array.from({ length: 2 * chips }, () => []);
    this.#sent = new Uint32Array(2 * chips);
    this.#free = Array.from({ length: chips }, () => []);
  }

  /** Returns the hops of each chip. */
  hops(): readonly (readonly Hop[])[] {
    const { torus, cores, pattern } = this.#of;
    for (const message of messagesOf(pattern, torus.workers * cores)) this.#begin(message);
    while (this.#busy.size > 0) this.#round();
    return this.#hops;
  }

  /** Puts the pieces of a row at the chip of its source. */
  #begin(message: Message): void {
    const { rowWords, frameElements } = this.#of;
    const start = partStart(rowWords, laneCount, this.#lane);
    const length = partLength(rowWords, laneCount, this.#lane);
    const targets = this.#targetsOf(message);
    const chip = at(this.#of.chipOf, message.source);
    for (let done = 0; done < length; done += frameElements) {
      const offset = 4 * (start + done);
      const words = Math.min(frameElements, length - done);
      const place = this.#placeOf(message.source, 'source', message.row, offset);
      const piece = this.#pieceOf(chip, targets, words, offset);
      this.#countHops(piece);
      const visit = { piece, chip, first: 0, second: 0, place };
      for (const own of piece.targets.get(chip) ?? []) this.#copy(visit, own);
      for (const axis of axesOf(visit)) this.#enqueue({ visit, axis });
    }
  }

  #targetsOf({ targets }: Message): Message['targets'] {
    const { sharesTarget, cores } = this.#of;
    return sharesTarget ? targets.filter(({ replica }) => replica % cores === 0) : targets;
  }

  #pieceOf(source: number, targets: Message['targets'], words: number, offset: number): Piece {
    const places = new Map<number, PlaceInRegion[]>();
    const secondReach = [0];
    for (const { replica, row } of targets) {
      const chip = at(this.#of.chipOf, replica);
      const own = places.get(chip) ?? [];
      own.push(this.#placeOf(replica, 'target', row, offset));
      places.set(chip, own);
      const first = this.#distance(source, chip, 0);
      secondReach[first] = Math.max(secondReach[first] ?? 0, this.#distance(source, chip, 1));
    }
    const firstReach = secondReach.length - 1;
    return { words, targets: places, firstReach, secondReach };
  }

  /** Each link takes the frame that waits for it longest, and then each chip receives. */
  #round(): void {
    const links = [...this.#busy].sort((a, b) => a - b);
    const moving = links.map((link) => {
      const queue = at(this.#queues, link);
      const sending = queue.shift()!;
      if (queue.length === 0) this.#busy.delete(link);
      return sending;
    });
    for (const sending of moving) this.#send(sending);
    for (const sending of moving) this.#arrive(sending);
  }

  #send({ visit, axis }: Sending): void {
    const { chip, place, slot, piece } = visit;
    this.#push(chip, { sends: [axis], action: 'none', place, elements: piece.words });
    const sent = (this.#sent[2 * chip + axis] ?? 0) + 1;
    this.#sent[2 * chip + axis] = sent;
    if (slot === undefined) return;
    slot.sent[axis] = sent;
    slot.pending--;
    if (slot.pending === 0) at(this.#free, chip).push(slot);
  }

  #arrive({ visit, axis }: Sending): void {
    const { piece } = visit;
    const chip = neighbour(this.#of.torus, visit.chip, laneDirection(this.#lane, axis));
    const first = visit.first + (axis === 0 ? 1 : 0);
    const second = visit.second + (axis === 1 ? 1 : 0);
    const [own, ...copies] = piece.targets.get(chip) ?? [];
    const next = axesOf({ piece, first, second });
    const slot = own === undefined ? this.#slotAt(chip) : undefined;
    const place = own ?? slot!.place;
    const released = slot === undefined ? {} : { released: [slot.sent[0], slot.sent[1]] as const };
    const hop = {
      receives: axis,
      sends: [],
      action: 'store',
      place,
      elements: piece.words,
    } as const;
    this.#push(chip, { ...hop, ...released });
    const here: Visit = { piece, chip, first, second, place, ...(slot && { slot }) };
    for (const copy of copies) this.#copy(here, copy);
    if (slot !== undefined) slot.pending = next.length;
    for (const each of next) this.#enqueue({ visit: here, axis: each });
  }

  #copy({ chip, piece, place }: Visit, to: PlaceInRegion): void {
    this.#push(chip, {
      ...{ sends: [], action: 'copy', place: to, from: place, elements: piece.words },
    });
  }

  #enqueue(sending: Sending): void {
    const link = 2 * sending.visit.chip + sending.axis;
    at(this.#queues, link).push(sending);
    this.#busy.add(link);
  }

  /** Returns memory of a chip for a piece on its way. */
  #slotAt(chip: number): Slot {
    const free = at(this.#free, chip);
    if (free.length > restingSlots) return free.shift()!;
    const { frameElements, rowWords, transit } = this.#of;
    const offset = at(transit, chip);
    const words = Math.min(frameElements, partLength(rowWords, laneCount, this.#lane));
    transit[chip] = offset + 4 * words;
    const region = regionsOf(this.#perChip).transit;
    return { place: { region, offset }, pending: 0, sent: [0, 0] };
  }

  #push(chip: number, hop: Omit<Hop, 'phase' | 'index'>): void {
    const own = at(this.#hops, chip);
    own.push({ phase: 'all-gather', index: own.length, ...hop });
  }

  /** Refuses the exchange if the pieces so far make too many hops: two for each link that they cross. */
  #countHops({ firstReach, secondReach }: Piece): void {
    const { pattern, torus } = this.#of;
    this.#count += 2 * secondReach.reduce((sum, links) => sum + links, firstReach);
    if (this.#count * laneCount <= hopsMax) return;
    const found = `expected at most ${hopsMax} hops over the links, found more`;
    throw new PodError(
      'unsupported-program',
      `${pattern.kind} of ${torus.workers} Cloud TPUs: ${found}; use smaller groups or fewer parts`,
    );
  }

  #placeOf(
    replica: number,
    of: 'source' | 'target',
    row: number,
    offsetInRow: number,
  ): PlaceInRegion {
    const first = of === 'source' ? 0 : regionsOf(this.#perChip).target;
    const region = first + (replica % this.#perChip);
    return { region, offset: row * this.#of.rowWords * 4 + offsetInRow };
  }

  /** Returns how many links lead from one chip to another along an axis of the lane. */
  #distance(from: number, to: number, axis: LaneAxis): number {
    const direction = laneDirection(this.#lane, axis);
    const { torus } = this.#of;
    const length = axisLength(torus, axisOf(direction));
    const position = (chip: number): number =>
      axisOf(direction) === 0 ? chip % torus.width : Math.floor(chip / torus.width);
    const forward = position(to) - position(from);
    return ((isForward(direction) ? forward : -forward) + length) % length;
  }
}

/** Returns the axes on which a piece leaves a chip. */
function axesOf({ piece, first, second }: Pick<Visit, 'piece' | 'first' | 'second'>): LaneAxis[] {
  const axes: LaneAxis[] = [];
  if (second === 0 && first < piece.firstReach) axes.push(0);
  if (second < (piece.secondReach[first] ?? 0)) axes.push(1);
  return axes;
}
