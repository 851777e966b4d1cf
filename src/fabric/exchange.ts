import type { ExchangePattern } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';

/** A row that one replica sends. The indices of rows count from 0 in the data of a replica. */
export interface Message {
  /** Number of the replica that sends the row. */
  readonly source: number;
  /** Index of the row in the data that the source sends. */
  readonly row: number;
  readonly targets: readonly Target[];
}

/** Where a row goes: a replica, and the index of the row in the data that it receives. */
export interface Target {
  readonly replica: number;
  readonly row: number;
}

/**
 * Returns the messages of an exchange between `replicas` replicas. A replica may be a target of its
 * own message. Throws PodError `bad-program` if the pattern names a replica that does not exist, or
 * if a replica is in no group.
 */
export function messagesOf(pattern: ExchangePattern, replicas: number): Message[] {
  checkReplicas(pattern, replicas);
  if (pattern.kind === 'collective-permute') {
    return pattern.pairs.map(([source, replica]) => {
      return { source, row: 0, targets: [{ replica, row: 0 }] };
    });
  }
  const { kind, groups } = pattern;
  const whole = groups.length > 0 ? groups : [Array.from({ length: replicas }, (_, r) => r)];
  return whole.flatMap((members) => messagesIn(kind, members));
}

function checkReplicas(pattern: ExchangePattern, replicas: number): void {
  const isGrouped = pattern.kind !== 'collective-permute';
  const named = isGrouped ? pattern.groups.flat() : pattern.pairs.flat();
  const unknown = named.find((replica) => replica >= replicas);
  const expected = `${pattern.kind}: expected replicas 0 to ${replicas - 1}`;
  if (unknown !== undefined) throw new PodError('bad-program', `${expected}, found ${unknown}`);
  if (!isGrouped || named.length === 0 || named.length === replicas) return;
  throw new PodError('bad-program', `${expected} in groups, found ${named.length} replicas`);
}

function messagesIn(
  kind: 'all-gather' | 'all-to-all' | 'collective-broadcast',
  members: readonly number[],
): Message[] {
  const toAll = (row: number): Target[] => members.map((replica) => ({ replica, row }));
  switch (kind) {
    case 'all-gather':
      return members.map((source, i) => ({ source, row: 0, targets: toAll(i) }));
    case 'collective-broadcast':
      return [{ source: at(members, 0), row: 0, targets: toAll(0) }];
    case 'all-to-all':
      return members.flatMap((source, i) =>
        members.map((replica, row) => ({ source, row, targets: [{ replica, row: i }] })),
      );
  }
}
