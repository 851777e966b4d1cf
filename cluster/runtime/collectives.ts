import type { BucketPlace, CollectivePlace } from '../../src/fabric/collectives.ts';
import { frameElementsMax } from '../../src/fabric/part.ts';
import { type ExchangePlans, planExchange } from '../../src/fabric/plan-exchange.ts';
import { chipCount, type Torus } from '../../src/fabric/torus.ts';
import type { Exchange, Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';

/** The programs of a slice, and how their exchanges travel. */
export interface ExchangesOf {
  readonly torus: Torus;
  readonly executables: readonly Executable[];
  /** Largest number of words of a frame; by default `frameElementsMax`. */
  readonly frameElements?: number;
}

/** Plans of the exchanges of each program, for all chips of the slice. */
export function planExchanges({
  torus,
  executables,
  frameElements = frameElementsMax,
}: ExchangesOf): ExchangePlans[][] {
  return executables.map((executable) =>
    executable.exchanges.map(({ pattern, target, rowBytes }) =>
      planExchange({
        ...{ torus, pattern, frameElements },
        cores: executable.cores,
        rowWords: rowBytes / 4,
        sharesTarget: at(executable.buffers, target).copies === 'shared',
      }),
    ),
  );
}

/** A program in the memory of one Cloud TPU. */
export interface ProgramInMemory {
  readonly executable: Executable;
  /** Byte address of the buffers of the program. */
  readonly arena: number;
  /** Plans of the exchanges of the program. */
  readonly exchanges: readonly ExchangePlans[];
  /** Byte address of the memory of each exchange for rows on their way to other chips. */
  readonly transits: readonly number[];
}

/**
 * Returns the place of each collective that one Cloud TPU runs. The collectives are numbered in one
 * sequence: the buckets of program 0, its exchanges, the buckets of program 1, and so on.
 */
export function collectivePlaces(
  programs: readonly ProgramInMemory[],
  torus: Torus,
): CollectivePlace[] {
  return programs.flatMap((program) => {
    const { executable, arena, exchanges, transits } = program;
    const replicasAChip = (executable.cores * torus.workers) / chipCount(torus);
    return [
      ...bucketPlaces(executable, arena),
      ...executable.exchanges.map((it, i): CollectivePlace => {
        const plans = at(exchanges, i);
        const transit = { address: at(transits, i), stride: plans.transitBytes };
        return { plans, place: { ...rowsOf(executable, it, arena), transit }, replicasAChip };
      }),
    ];
  });
}

/** Number of collectives of a program. */
export function collectiveCount({ buckets, exchanges }: Executable): number {
  return buckets.length + exchanges.length;
}

function rowsOf(
  { buffers }: Executable,
  { source, target }: Exchange,
  arena: number,
): Record<'source' | 'target', { readonly address: number; readonly stride: number }> {
  const place = (id: number): { address: number; stride: number } => {
    const { offset, stride, copies, name } = at(buffers, id);
    assert(copies !== 'chip', `${name} has a copy for each core or for all`);
    return { address: arena + offset, stride };
  };
  return { source: place(source), target: place(target) };
}

/**
 * Returns the memory address of each bucket of a program whose arena begins at byte address
 * `arena`.
 */
export function bucketPlaces(executable: Executable, arena: number): BucketPlace[] {
  return executable.buckets.map(({ buffer, elements }) => {
    const { offset, stride, copies, name } = at(executable.buffers, buffer);
    assert(copies === 'chip', `bucket ${name} is ${copies}, not one a chip`);
    return { address: arena + offset, stride, elements };
  });
}
