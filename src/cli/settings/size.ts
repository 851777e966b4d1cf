import {
  formatTopology,
  isStandardGrid,
  parseTopology,
  standardGrid,
  type Topology,
} from '../../fabric/torus.ts';
import { PodError } from '../../numerics/error.ts';
import type { Given, Settings } from './merge.ts';

/** The grid of Cloud TPUs that somebody asked for. */
export interface AskedSize {
  readonly topology: Topology;
  /** How messages name the setting that says so. */
  readonly origin: string;
}

/**
 * The size of the slice that settings ask for; undefined when nobody gave any.
 *
 * @throws PodError `bad-flag` when `tpus` and `topology` of one source disagree.
 */
export function askedSize(settings: Settings): AskedSize | undefined {
  const tpus = settings.ask('tpus');
  const topology = settings.ask('topology');
  if (topology !== undefined) return askedGrid(topology, tpus);
  if (tpus === undefined) return undefined;
  return { topology: gridOf(tpus), origin: tpus.origin };
}

/** Cloud TPUs of a grid. */
export function tpusOf({ columns, rows }: Topology): number {
  return columns * rows;
}

/** The flag, as words, that asks for a slice. */
export function sizeWords(topology: Topology): string[] {
  if (isStandardGrid(topology)) return ['--tpus', String(tpusOf(topology))];
  return ['--topology', formatTopology(topology)];
}

/** The slice when nobody says its size: eight Cloud TPUs. */
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

/** The standard grid of a number. */
function gridOf({ value, origin }: Given<'tpus'>): Topology {
  try {
    return standardGrid(value);
  } catch (error) {
    if (error instanceof PodError) throw new PodError(error.code, `${origin}: ${error.message}`);
    throw error;
  }
}
