import { faultNameOf } from '../fault/plan.ts';
import { type FaultOutcome, recoversFrom, type Verdict } from '../fault/verdict.ts';
import { table } from './format.ts';
import { positionOf } from './incident.ts';
import { time, unknown } from './shown.ts';

/** Column heads of {@link faultRow}. */
export const faultHeads = [
  'fault',
  'at',
  'injected',
  'noticed after',
  'recovery time',
  'blamed',
] as const;

/** Returns what happened to a fault as a row of a table. */
export function faultRow(outcome: FaultOutcome): readonly string[] {
  const { fault, injectedMs, detectionMs, recoveryMs, blamed } = outcome;
  return [
    faultNameOf(fault),
    positionOf(fault.at),
    injectedMs === undefined ? 'never' : 'yes',
    time(detectionMs),
    recoversFrom(fault) ? time(recoveryMs) : unknown,
    blamed === undefined || blamed === null ? unknown : `Cloud TPU ${blamed}`,
  ];
}

/** Returns what happened to the faults of a plan as the lines of a table. */
export function faultTable(outcomes: readonly FaultOutcome[]): readonly string[] {
  return table([faultHeads, ...outcomes.map(faultRow)]);
}

/** Returns a verdict as lines: each expectation, whether it holds, and what was found. */
export function verdictLines(verdicts: readonly Verdict[]): readonly string[] {
  return verdicts.map(({ expectation, holds, found }) => {
    return `${holds ? 'holds  ' : 'BROKEN '} ${expectation}: ${found}`;
  });
}
