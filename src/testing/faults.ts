import type {
  Duration,
  EndingFault,
  Fault,
  LinkFault,
  LinkFaultKind,
  Memory,
  Position,
} from '../fault/plan.ts';
import { given } from './given.ts';

/** A fault with its target and with the position in the run at which it is injected. */
export interface PlacedFault {
  readonly fault: Fault;
}

/** A placed fault to which `for` can give an end. */
export interface LastingFault extends PlacedFault {
  /** Returns the same fault with an end. It then lasts for a number of steps or of milliseconds. */
  for(duration: Duration): PlacedFault;
}

/** A fault that has no position in the run yet. The method `at` gives it one. */
export interface Unplaced<Placed extends PlacedFault> {
  /** Returns the fault with its position in the run, such as `{ step: 10, phase: 'update' }`. */
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
export function pause(tpu: number, options: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'pause', tpu, at, for: given(options) }));
}

/** Returns a fault: every instruction of a worker takes `factor` times as long. */
export function slow(tpu: number, options: { readonly factor: number }): Unplaced<LastingFault> {
  return lasting((at) => ({ ...given(options), fault: 'slow', tpu, at }));
}

/**
 * Returns a fault: the clock of a worker jumps by `ms` milliseconds. A negative `ms` means a jump
 * back.
 */
export function clockJump(tpu: number, options: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ ...given(options), fault: 'clock-jump', tpu, at }));
}

/**
 * Returns a fault: one bit in a memory of a worker flips. `in` says in which memory. `bit` is the
 * number of the bit in that memory, from 0. Without `bit`, the pod chooses a bit.
 */
export function flipBit(
  tpu: number,
  options: { readonly in: Memory; readonly bit?: number },
): Unplaced<PlacedFault> {
  return placing((at) => ({ ...given(options), fault: 'flip-bit', tpu, at }));
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
export function pauseMaster(options: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'master-pause', at, for: given(options) }));
}

/** Returns a fault: for `ms` milliseconds nothing passes between the master and the workers. */
export function cutOffMaster(options: { readonly ms: number }): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'master-cut-off', at, for: given(options) }));
}

/**
 * Returns a fault: a second master starts while the first is alive. The workers leave the first
 * master and join the second.
 */
export function secondMaster(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'second-master', at }));
}

/** Returns a fault: the disk of the master is full. */
export function fillDisk(): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'disk-full', at }));
}

/**
 * Returns a fault: each operation on the disk of the checkpoints takes `ms` milliseconds longer.
 */
export function slowDisk(options: { readonly ms: number }): Unplaced<LastingFault> {
  return lasting((at) => ({ ...given(options), fault: 'slow-disk', at }));
}

/** Returns a fault: the master loses power in the middle of its next write. */
export function tearWrite(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'torn-write', at }));
}

/**
 * Returns a fault: the master renames a file or folder and then at once loses power, so that the
 * rename is lost.
 */
export function loseRename(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'lost-rename', at }));
}

/** Returns a fault: a byte of the newest checkpoint changes. */
export function damageCheckpoint(): Unplaced<PlacedFault> {
  return placing((at) => ({ fault: 'unreadable-checkpoint', at }));
}

/**
 * Returns a fault: the Cloud TPUs are divided into groups, and nothing passes from one group to
 * another. What was sent arrives when the fault ends. The master belongs to the first group.
 */
export function partition(
  first: readonly number[],
  second: readonly number[],
  ...more: readonly (readonly number[])[]
): Unplaced<LastingFault> {
  return lasting((at) => ({ fault: 'partition', groups: [first, second, ...more], at }));
}

/**
 * The links that a fault affects, in one of two forms. A text is the name of one directed link
 * between chips, such as `chip(3,1)+x`. A pair has the numbers of two neighbouring Cloud TPUs, and
 * means all links from the first to the second.
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
   * Share of the frames that the fault affects, greater than 0 and at most 1. If the share is
   * absent, a fault with an end affects all frames, and a fault without an end affects one frame.
   */
  readonly share?: number;
}

/**
 * Returns a fault: a link carries nothing. Frames that are sent during the fault arrive when it
 * ends.
 */
export function cutLink(link: Link, options?: LinkOptions): Unplaced<LastingFault> {
  return ofLink('link-down', link, options);
}

/**
 * Returns a fault: each frame of a link arrives late. The delay is `ms` milliseconds plus a time
 * that varies from 0 to `jitterMs` milliseconds.
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

/** Returns a fault: frames of a link arrive after the frame that was sent next. */
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

/** All parameters that faults of links can have. Each kind of fault has some of them. */
type LinkParameters = Partial<Omit<LinkFault, 'fault' | 'link' | 'at' | 'for'>>;

function ofLink(
  fault: LinkFaultKind,
  link: Link,
  options: LinkParameters = {},
): Unplaced<LastingFault> {
  return lasting((at) => ({ ...given(options), fault, link, at }));
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
