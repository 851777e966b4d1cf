import {
  enteringLinks,
  type LinkSource,
  linkName,
  linkSource,
  podTorus,
  type Topology,
  type Torus,
} from '../fabric/torus.ts';
import { phases } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import type { StepReport } from '../pod/messages.ts';
import type { LinkWait } from './event.ts';
import { sum } from './statistics.ts';

/** The links between the Cloud TPUs of a slice. */
export interface SliceLinks {
  /** For each Cloud TPU: the links that enter it, in the order of `StepReport.linkWaitMs`. */
  readonly entering: readonly (readonly SliceLink[])[];
}

/** A directed link from one Cloud TPU to another. */
export interface SliceLink {
  readonly name: string;
  /** Number of the Cloud TPU from which the link leaves. */
  readonly from: number;
  /** Direction of the link: `+x`, `-x`, `+y` or `-y`. */
  readonly direction: LinkSource['direction'];
}

/** Who held up the all-reduces of one step. Each list has one entry for each Cloud TPU. */
export interface LinkCauses {
  /**
   * For each Cloud TPU: the time, in ms, for which it held up the others inside the all-reduces. A
   * Cloud TPU has 0 if it only begins the all-reduces late, because its other phases take longer.
   * At most one Cloud TPU has more than 0.
   */
  readonly heldUpMs: readonly number[];
  /**
   * For each Cloud TPU: of the links on which it sends, the link whose receiver waited longest.
   * Undefined if no receiver waited.
   */
  readonly longest: readonly (LinkWait | undefined)[];
}

const allReduce = phases.indexOf('all-reduce');

const linksBySlice = new WeakMap<Topology, SliceLinks>();

/**
 * Returns the links between the Cloud TPUs of a slice. Computes them once for each `topology`
 * object.
 */
export function linksOfSlice(topology: Topology): SliceLinks {
  const known = linksBySlice.get(topology);
  if (known !== undefined) return known;
  const links = linksOf(podTorus(topology));
  linksBySlice.set(topology, links);
  return links;
}

/** Returns the links between the workers of a torus. */
export function linksOf(torus: Torus): SliceLinks {
  const entering = Array.from({ length: torus.workers }, (_, worker) =>
    enteringLinks(torus, worker).map((link) => {
      const { worker: from, direction } = linkSource(torus, link);
      return { name: linkName(torus, link), from, direction };
    }),
  );
  return { entering };
}

/**
 * Calls `visit` for each link between two Cloud TPUs. `waitMs` is the wait on the link, in ms. `to`
 * is the index of the Cloud TPU that the link enters.
 */
export function visitWaits(
  waitsMs: readonly (readonly number[])[],
  { entering }: SliceLinks,
  visit: (link: SliceLink, waitMs: number, to: number) => void,
): void {
  for (const [to, links] of entering.entries()) {
    for (const [i, link] of links.entries()) visit(link, readable(waitsMs[to]?.[i]), to);
  }
}

/** Returns who held up the all-reduces of a step. `reports` has one report for each Cloud TPU. */
export function causesOf(reports: readonly StepReport[], links: SliceLinks): LinkCauses {
  const waitsMs = reports.map(({ linkWaitMs }) => linkWaitMs);
  const longest: (LinkWait | undefined)[] = reports.map(() => undefined);
  visitWaits(waitsMs, links, ({ name, from }, waitMs) => {
    if (waitMs > (longest[from]?.waitMs ?? 0)) longest[from] = { link: name, waitMs };
  });
  return { heldUpMs: heldUpMs(reports, causedMs(waitsMs, links)), longest };
}

/**
 * Returns for each Cloud TPU the time, in ms, for which it made the others wait: the mean wait on
 * the links that leave the Cloud TPU, minus the mean wait on the links that enter it. `waitsMs` has
 * the waits that each Cloud TPU reported.
 *
 * The reason for the difference: a Cloud TPU that waits makes the next Cloud TPU in the ring wait
 * as long. If a Cloud TPU only passes a wait on, the two means are equal and the difference is 0.
 * If a wait began with a Cloud TPU, that Cloud TPU itself has not waited, so the difference is the
 * whole wait.
 */
export function causedMs(waitsMs: readonly (readonly number[])[], links: SliceLinks): number[] {
  const caused = links.entering.map(() => 0);
  visitWaits(waitsMs, links, ({ from }, waitMs, to) => {
    caused[from]! += waitMs;
    caused[to]! -= waitMs;
  });
  return caused.map((sumMs, tpu) => sumMs / Math.max(1, at(links.entering, tpu).length));
}

/**
 * Returns `LinkCauses.heldUpMs`. Only the Cloud TPU that caused the longest wait can have more than
 * 0. Its value is the wait that it caused, minus the time by which its other phases took longer
 * than those of the fastest Cloud TPU. The value is at most the mean time of the others in the
 * all-reduce, because a wait for frames delays no Cloud TPU while its cores still compute.
 *
 * All other Cloud TPUs have 0. They may seem to have caused a part of the wait, but they only
 * passed the wait on from one axis of the torus to the other.
 */
function heldUpMs(reports: readonly StepReport[], caused: readonly number[]): number[] {
  const reduceMs = reports.map(({ phaseMs }) => at(phaseMs, allReduce));
  const otherMs = reports.map(({ phaseMs }, i) => sum(phaseMs) - at(reduceMs, i));
  const shortestMs = Math.min(...otherMs);
  const culprit = caused.indexOf(Math.max(...caused));
  return reports.map((_, i) => {
    if (i !== culprit) return 0;
    const meanMs = (sum(reduceMs) - at(reduceMs, i)) / Math.max(1, reports.length - 1);
    const beyondMs = at(caused, i) - (at(otherMs, i) - shortestMs);
    return Math.max(0, Math.min(beyondMs, meanMs));
  });
}

/** Returns a wait that a worker reported; 0 if the wait is missing, negative or not finite. */
function readable(ms: number | undefined): number {
  return ms !== undefined && ms > 0 && Number.isFinite(ms) ? ms : 0;
}
