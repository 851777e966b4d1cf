import type { ExchangePattern } from '../../src/isa/executable.ts';

/** The rows of all replicas, in bytes. */
export interface Rows {
  readonly replicas: number;
  /** Returns a copy of row `index` that a replica sends. */
  readonly sent: (replica: number, index: number) => Uint8Array;
  /** Writes row `index` that a replica receives. */
  readonly receive: (replica: number, index: number, row: Uint8Array) => void;
}

/** Makes an exchange row by row, as `ExchangePattern` defines it. Rows have `rowBytes` bytes. */
export function exchangeRows(
  pattern: ExchangePattern,
  rowBytes: number,
  { replicas, sent, receive }: Rows,
): void {
  const all = Array.from({ length: replicas }, (_, replica) => replica);
  const moves: (() => void)[] = [];
  const move = (from: number, row: number, to: number, place: number): void => {
    const bytes = sent(from, row);
    moves.push(() => receive(to, place, bytes));
  };
  if (pattern.kind === 'collective-permute') {
    for (const to of all) {
      const pair = pattern.pairs.find(([, target]) => target === to);
      if (pair === undefined) receive(to, 0, new Uint8Array(rowBytes));
      else move(pair[0], 0, to, 0);
    }
  } else {
    const { kind, groups } = pattern;
    for (const members of groups.length > 0 ? groups : [all]) {
      members.forEach((to, i) => {
        const sources = kind === 'collective-broadcast' ? members.slice(0, 1) : members;
        sources.forEach((from, place) => {
          move(from, kind === 'all-to-all' ? i : 0, to, place);
        });
      });
    }
  }
  for (const write of moves) write();
}
