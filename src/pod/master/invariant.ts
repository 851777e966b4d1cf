import type { MasterState, Member } from './state.ts';

/** A statement that is true of the master's state after every event, until the run has ended. */
export interface Invariant {
  /** The statement in words, for the message of a violation. */
  readonly statement: string;
  holds(state: MasterState): boolean;
}

/** Returns an invariant: `holds` returns true for each Cloud TPU of the slice. */
export function ofEachMember(
  statement: string,
  holds: (member: Member, state: MasterState, tpu: number) => boolean,
): Invariant {
  return {
    statement,
    holds: (state) => state.members.every((member, tpu) => holds(member, state, tpu)),
  };
}

/** True for whole numbers from 0 on. */
export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
