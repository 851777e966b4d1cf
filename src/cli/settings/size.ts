import {
  formatTopology,
  isStandardGrid,
  parseTopology,
  standardGrid,
  type Topology,
} from '../../fabric/torus.ts';
import { PodError, withOrigin } from '../../numerics/error.ts';
import type { Given, Settings } from './merge.ts';

/** The grid of Cloud TPUs that the user wants. */
export interface AskedSize {
  readonly topology: Topology;
  /** Name, in messages, of the setting that asks for the grid. */
  readonly origin: string;
}

/**
 * Returns the grid of Cloud TPUs that the settings ask for; undefined if neither `tpus` nor
 * `topology` is given.
 *
 * @throws PodError `bad-flag` if one source gives both `tpus` and `topology`, and they disagree.
 */
export function askedSize(settings: Settings): AskedSize | undefined {
  const tpus = settings.ask('tpus');
  const topology = settings.ask('topology');
  if (topology !== undefined) return askedGrid(topology, tpus);
  if (tpus === undefined) return undefined;
  return { topology: gridOf(tpus), origin: tpus.origin };
}

/** Number of Cloud TPUs of a grid. */
export function tpusOf({ columns, rows }: Topology): number {
  return columns * rows;
}

/** Returns the flag that asks for this grid, as words of a command line: `--tpus`, `8`. */
export function sizeWords(topology: Topology): string[] {
  if (isStandardGrid(topology)) return ['--tpus', String(tpusOf(topology))];
  return ['--topology', formatTopology(topology)];
}

/** Grid of the slice if no setting says its size: eight Cloud TPUs. */
export const defaultTopology: Topology = standardGrid(8);

function askedGrid(topology: Given<'topology'>, tpus: Given<'tpus'> | undefined): AskedSize {
  const grid = parseTopology(topology.value);
  const count = tpusOf(grid);
  if (tpus === undefined || tpus.value === count)
    return { topology: grid, origin: topology.origin };
  throw new PodError(
    'bad-flag',
    `${tpus.origin}: expected ${count}, the Cloud TPUs of ${topology.origin} ${formatTopology(grid)}, found ${tpus.value}; leave one of the two out`,
  );
}

/** Returns the standard grid of the given number of Cloud TPUs. */
function gridOf({ value, origin }: Given<'tpus'>): Topology {
  return withOrigin(origin, () => standardGrid(value));
}
