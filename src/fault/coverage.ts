import { type DrawableKind, drawableKinds, kindNameOf } from './draw.ts';
import { reasonNotDrawn } from './fair.ts';
import { fromKeys } from './from-keys.ts';
import {
  type AnyPhase,
  type Fault,
  type Ground,
  phaseOf,
  type RecoveryPath,
  recoveryPaths,
} from './plan.ts';
import { allPhases, sampleOf } from './random-plan.ts';
import { supported } from './support.ts';
import { type Observation, pathEvents } from './verdict.ts';

/** Row of the coverage matrix: the name of a {@link DrawableKind}. */
export type CoverageRow = string;

/**
 * Cell of the coverage matrix. `count` is the number of times that the search injected a fault of
 * one kind in one phase.
 */
export interface Cell {
  readonly count: number;
  /** Reason why the count must be 0; undefined if the search can inject such a fault. */
  readonly reason: string | undefined;
}

/** Which faults met which phases, and which recovery paths were taken, over many runs. */
export interface CoverageReport {
  /** The coverage matrix. Each row has a cell for each phase, in the order of {@link allPhases}. */
  readonly matrix: Readonly<Record<CoverageRow, Readonly<Record<AnyPhase, Cell>>>>;
  /** How often each recovery path was taken. */
  readonly paths: Readonly<Record<RecoveryPath, number>>;
  /**
   * One line for each gap: a cell that is empty without a reason, or a path that was never taken.
   */
  readonly findings: readonly string[];
}

/** Collects the coverage of many runs. */
export class Coverage {
  readonly #ground: Ground;
  readonly #counts = new Map<string, number>();
  readonly #paths = new Map<RecoveryPath, number>();

  /** `ground` is the kind of pod of all runs. */
  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** Adds a run. `injected` are the faults of its plan that were injected. */
  add(injected: readonly Fault[], { notes }: Pick<Observation, 'notes'>): void {
    for (const fault of injected) count(this.#counts, `${kindNameOf(fault)} ${phaseOf(fault)}`);
    for (const path of recoveryPaths) {
      const taken = notes.filter(({ note }) => pathEvents[path].includes(note.event)).length;
      count(this.#paths, path, taken);
    }
  }

  /** Returns what was covered so far. */
  report(): CoverageReport {
    const matrix = Object.fromEntries(drawableKinds.map((kind) => [kind.name, this.#cells(kind)]));
    const paths = fromKeys(recoveryPaths, (path) => this.#paths.get(path) ?? 0);
    return { matrix, paths, findings: findingsIn(matrix, paths) };
  }

  #cells(kind: DrawableKind): Readonly<Record<AnyPhase, Cell>> {
    return fromKeys(allPhases, (phase): Cell => {
      const fault = sampleOf(kind, phase);
      const support = supported(fault, this.#ground);
      const reason = support === true ? reasonNotDrawn(fault) : support;
      return { count: this.#counts.get(`${kind.name} ${phase}`) ?? 0, reason };
    });
  }
}

function findingsIn(
  matrix: CoverageReport['matrix'],
  paths: CoverageReport['paths'],
): readonly string[] {
  const cells = Object.entries(matrix).flatMap(([row, of]) =>
    allPhases
      .filter((phase) => of[phase].count === 0 && of[phase].reason === undefined)
      .map((phase) => `no fault ${row} was injected in the phase ${phase}`),
  );
  const untaken = recoveryPaths
    .filter((path) => paths[path] === 0)
    .map((path) => `the recovery path ${path} was never taken`);
  return [...cells, ...untaken];
}

function count<K>(counts: Map<K, number>, key: K, by = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
