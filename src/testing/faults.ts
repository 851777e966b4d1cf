import type {
  Duration,
  EndingFault,
  Fault,
  LinkFault,
  LinkFaultKind,
  Memory,
  Position,
} from '../fault/plan.ts';

/** A fault with its target and with the position in the run at which it is injected. */
export interface PlacedFault {
  readonly fault: Fault;
}

/** A placed fault that lasts until the end of the run, unless `for` gives it an earlier end. */
export interface LastingFault extends PlacedFault {
  /** Returns the same fault with an end: it lasts for a number of steps or of milliseconds. */
  for(duration: Duration): PlacedFault;
}

/** A fault whose position in the run is still missing. */
export interface Unplaced<Placed extends PlacedFault> {
  /** Returns the fault at a position of the run, such as `{ step: 10, phase: 'update' }`. */
  at(position: Position): Placed;
}

/** Returns a fault: the worker of a Cloud TPU is killed and cannot send a last message. */
export function kill(tpu: number): Unplaced<PlacedFault> {
  return ending('kill', tpu);
}

/** Returns a fault: the program of a worker exits. */
export function exit(tpu: number): Unplaced<PlacedFault> {
  return ending('exit', tpu);
}

/** Returns a fault: the program of a worker throws an error. */
export function throwError(tpu: number): Unplaced<PlacedFault> {
  return ending('throw', tpu);
}

/** Returns a fault: the heap of a worker is full. */
export function outOfMemory(tpu: number): Unplaced<PlacedFault> {
  return ending('out-of-memory', tpu);
}

/** Returns a fault: a worker stands still for ever, and its process or thread stays alive. */
export function hang(tpu: number): Unplaced<PlacedFault> {
  return ending('hang', tpu);
}

/** Returns a fault: a worker stands still for `ms` milliseconds and then goes on. */
export function pause(tpu: number, { ms }: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'pause', tpu, at, for: { ms } }));
}

/** Returns a fault: every instruction of a worker takes `factor` times as long. */
export function slow(tpu: number, { factor }: { readonly factor: number }): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'slow', tpu, at, factor }));
}

/** Returns a fault: the clock of a worker jumps by `ms` milliseconds, which may be negative. */
export function clockJump(tpu: number, { ms }: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'clock-jump', tpu, at, ms }));
}

/**
 * Returns a fault: one bit of a worker's memory flips. `in` names the memory. `bit` is the number of
 * the bit in it, from 0; if it is absent, the pod chooses the bit.
 */
export function flipBit(
  tpu: number,
  { in: memory, bit }: { readonly in: Memory; readonly bit?: number },
): Unplaced<PlacedFault> {
  return placing((at) => ({
    ...{ fault: 'flip-bit', tpu, at, in: memory },
    ...(bit !== undefined && { bit }),
  }));
}

/** Returns a fault: all Cloud TPUs of a row of the torus are killed. Rows count from 0. */
export function loseRow(row: number): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'lose-row', row, at }));
}

/** Returns a fault: all Cloud TPUs of a column of the torus are killed. Columns count from 0. */
export function loseColumn(column: number): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'lose-column', column, at }));
}

/** Returns a fault: the master is killed. Another master follows it. */
export function killMaster(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'master-kill', at }));
}

/** Returns a fault: the master stands still for `ms` milliseconds and then goes on. */
export function pauseMaster({ ms }: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'master-pause', at, for: { ms } }));
}

/** Returns a fault: for `ms` milliseconds nothing passes between the master and the workers. */
export function cutOffMaster({ ms }: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'master-cut-off', at, for: { ms } }));
}

/** Returns a fault: a second master begins while the first lives. The workers go over to it. */
export function secondMaster(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'second-master', at }));
}

/** Returns a fault: the disk of the master is full. */
export function fillDisk(): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'disk-full', at }));
}

/** Returns a fault: each operation of a checkpoint on the disk takes `ms` milliseconds longer. */
export function slowDisk({ ms }: { readonly ms: number }): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'slow-disk', at, ms }));
}

/** Returns a fault: the master loses power in the middle of its next write. */
export function tearWrite(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'torn-write', at }));
}

/** Returns a fault: the master loses power right after its next rename, which is lost. */
export function loseRename(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'lost-rename', at }));
}

/** Returns a fault: a byte of the newest checkpoint changes. */
export function damageCheckpoint(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'unreadable-checkpoint', at }));
}

/**
 * Returns a fault: messages between different groups of Cloud TPUs are lost. The master counts as a
 * member of the first group.
 */
export function partition(
  first: readonly number[],
  second: readonly number[],
  ...more: readonly (readonly number[])[]
): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'partition', groups: [first, second, ...more], at }));
}

/**
 * The links that a fault affects. Either the name of one directed link between chips, such as
 * `chip(3,1)+x`; or the numbers of two neighbouring Cloud TPUs, which stand for all links from the
 * first to the second.
 */
export type Link = string | readonly [number, number];

/** Options of every fault of a link. */
export interface LinkOptions {
  /** True if the fault also affects the links of the opposite direction. Default: false. */
  readonly both?: boolean;
}

/** Options of a fault that affects a share of the frames of a link. */
export interface FrameOptions extends LinkOptions {
  /**
   * Share of the frames that are affected, greater than 0 and at most 1. Default for a fault with
   * an end: 1. A fault with neither a share nor an end affects one frame.
   */
  readonly share?: number;
}

/** Returns a fault: a link carries nothing. Frames sent meanwhile arrive when the fault ends. */
export function cutLink(link: Link, options?: LinkOptions): Unplaced<LastingFault> {
  return ofLink('link-down', link, options);
}

/**
 * Returns a fault: each frame of a link arrives later by `ms` milliseconds plus a further time that
 * varies from 0 to `jitterMs`.
 */
export function delayLink(
  link: Link,
  options: LinkOptions & { readonly ms: number; readonly jitterMs?: number },
): Unplaced<LastingFault> {
  return ofLink('delay', link, options);
}

/** Returns a fault: a link carries only `bytesPerSecond` bytes a second. */
export function limitLink(
  link: Link,
  options: LinkOptions & { readonly bytesPerSecond: number },
): Unplaced<LastingFault> {
  return ofLink('bandwidth', link, options);
}

/** Returns a fault: a link is reset while it carries a frame. */
export function resetLink(link: Link, options?: LinkOptions): Unplaced<LastingFault> {
  return ofLink('reset', link, options);
}

/** Returns a fault: frames of a link are lost. */
export function loseFrames(link: Link, options?: FrameOptions): Unplaced<LastingFault> {
  return ofLink('lose', link, options);
}

/** Returns a fault: frames of a link arrive twice. */
export function duplicateFrames(link: Link, options?: FrameOptions): Unplaced<LastingFault> {
  return ofLink('duplicate', link, options);
}

/** Returns a fault: frames of a link are overtaken by the next frame. */
export function reorderFrames(link: Link, options?: FrameOptions): Unplaced<LastingFault> {
  return ofLink('reorder', link, options);
}

/** Returns a fault: frames of a link arrive with half of their payload. */
export function truncateFrames(link: Link, options?: FrameOptions): Unplaced<LastingFault> {
  return ofLink('truncate', link, options);
}

/** Returns a fault: frames of a link arrive with a flipped bit. */
export function corruptFrames(link: Link, options?: FrameOptions): Unplaced<LastingFault> {
  return ofLink('corrupt', link, options);
}

/** Parameters of a fault of a link. The kind of the fault decides which of them it has. */
type LinkParameters = Partial<Omit<LinkFault, 'fault' | 'link' | 'at' | 'for'>>;

function ofLink(
  fault: LinkFaultKind,
  link: Link,
  options: LinkParameters = {},
): Unplaced<LastingFault> {
  return lasting((at) => ({ ...options, fault, link, at }));
}

function ending(fault: EndingFault, tpu: number): Unplaced<PlacedFault> {
  return placing((at) => ({ fault, tpu, at }));
}

function placing(faultAt: (at: Position) => Fault): Unplaced<PlacedFault> {
  return { at: (position) => ({ fault: faultAt(position) }) };
}

/** Kinds of faults whose duration can be left out. */
type Endless = Extract<Fault, { readonly for?: Duration }>;

function lasting(faultAt: (at: Position) => Endless): Unplaced<LastingFault> {
  return {
    at(position) {
      const fault = faultAt(position);
      return { fault, for: (duration) => ({ fault: { ...fault, for: duration } }) };
    },
  };
}
