import { assert, at } from '../../numerics/assert.ts';
import type { StepOrder, StepReport } from '../messages.ts';
import type { MasterAction, Note } from './action.ts';
import type { MasterState } from './state.ts';

/** Returns the action that reports a fault, or a stage of a recovery, to the user. */
export function noteOf(
  state: MasterState,
  event: Note['event'],
  tpu: number | null,
  cause: string,
  now: number,
): MasterAction {
  const { generation, pending, phase, recoveringSinceMs } = state;
  const order = phase.kind === 'stepping' ? phase.order : pending;
  const program = order?.program ?? null;
  const step = order?.step ?? null;
  const elapsedMs = now - (recoveringSinceMs ?? now);
  return { kind: 'note', note: { event, generation, program, step, tpu, cause, elapsedMs } };
}

/** Returns the name of a Cloud TPU in messages: `Cloud TPU 3 (x 1, y 1)`. */
export function nameOf({ options }: MasterState, tpu: number): string {
  return options.names[tpu] ?? `Cloud TPU ${tpu}`;
}

/**
 * Returns the name of a step in messages: `step 7 of the training`. In names, as in the log, steps
 * count from 1.
 */
export function stepName({ options }: MasterState, { program, step }: StepOrder): string {
  const { unit, name } = at(options.programs, program);
  return `${unit} ${step + 1} of ${name}`;
}

/**
 * Returns the name of a Cloud TPU and what it is doing, as the beginning of a message: `Cloud TPU 3
 * (x 1, y 1), in step 7 of the training,`.
 */
export function describeWork(state: MasterState, tpu: number): string {
  const { phase } = state;
  const what =
    phase.kind === 'stepping' ? `in ${stepName(state, phase.order)}` : `while ${phase.kind}`;
  return `${nameOf(state, tpu)}, ${what},`;
}

/**
 * Returns the text of a message about a step after which the weights of Cloud TPUs differ. If most
 * Cloud TPUs have the same digest, the text names the others. If no digest has a majority, the text
 * names all Cloud TPUs, grouped by digest.
 */
export function describeMismatch(
  state: MasterState,
  order: StepOrder,
  reports: readonly StepReport[],
): string {
  const groups = new Map<string, string[]>();
  for (const { tpu, digest } of reports) {
    groups.set(digest, [...(groups.get(digest) ?? []), at(state.options.names, tpu)]);
  }
  const [largest, ...others] = [...groups].sort(([, a], [, b]) => b.length - a.length);
  assert(largest !== undefined, 'a step has reports');
  const [digest, holders] = largest;
  const expected =
    holders.length * 2 > reports.length
      ? `${holders.length} others have ${digest}`
      : `${holders.join(', ')} ${holders.length === 1 ? 'has' : 'have'} ${digest}, no majority`;
  const ended = others.map(([found, names]) => `${names.join(', ')} ended with weights ${found}`);
  return `${stepName(state, order)} differs: ${ended.join('; ')}; ${expected}`;
}
