import { type Expectations, faultNameOf } from '../fault/plan.ts';
import type { FaultOutcome, Verdict } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { PodRun } from './pod-run.ts';

/** The result of a matcher, as `expect.extend` of Vitest and Jest takes it. */
export interface Matched {
  readonly pass: boolean;
  /** Returns what was expected and what was found. */
  readonly message: () => string;
}

/** Bounds of a recovery. A bound that is absent is not checked. */
export interface RecoveryBounds {
  /**
   * Longest time, in ms, of a recovery. The time begins when a fault is injected. It ends with the
   * first commit of a step after the report of the fault. If the fault was not reported, it ends
   * with the first commit after the injection.
   */
  readonly withinMs?: number;
  /** Largest allowed number of committed steps that ran again. */
  readonly steps?: number;
}

/** Matchers for the result of a run, for `expect.extend`. */
export const matchers: {
  readonly toMatchFaultFree: (run: unknown) => Matched;
  readonly toHaveRecovered: (run: unknown, bounds?: RecoveryBounds) => Matched;
  readonly toBlame: (run: unknown, tpu: number) => Matched;
  readonly toHoldExpectations: (run: unknown) => Matched;
} = { toMatchFaultFree, toHaveRecovered, toBlame, toHoldExpectations };

/**
 * Passes if the run committed every step once and in order, and if its weights and losses are those
 * of the same run without faults.
 */
function toMatchFaultFree(received: unknown): Matched {
  const run = podRun(received, 'toMatchFaultFree');
  if (run.faultFreeSteps === undefined) {
    const found = 'found one with faultFree: false, for which that run was not trained';
    throw new PodError(
      'bad-plan',
      `toMatchFaultFree: expected a run with faultFree: true, ${found}`,
    );
  }
  return judged(run, 'to match the run without faults', {
    ...{ weights: 'bit-identical', samples: 'exactly-once', steps: 'committed-once' },
  });
}

/**
 * Passes if the run was completed and has recovered from each of its faults within the bounds.
 * Fails if the run has no faults, or if one of its faults was never injected.
 */
function toHaveRecovered(received: unknown, bounds: RecoveryBounds = {}): Matched {
  const run = podRun(received, 'toHaveRecovered');
  const time = bound('withinMs', bounds.withinMs, 'ms') ?? anyTime;
  const steps = bound('steps', bounds.steps, '');
  const expected = 'to have recovered from its faults';
  if (run.faults.length === 0) return matched(expected, ['found a run without faults']);
  return judged(run, expected, { recovery: { time, ...(steps !== undefined && { steps }) } });
}

/**
 * Bound of the time of a recovery, for tests that give no `withinMs`. The bound is so long that it
 * is broken only if there was no recovery at all.
 */
const anyTime = '<=100000min';

/**
 * Passes if, for at least one fault of the run, the first report after the fault names Cloud TPU
 * `tpu`. A fault `slow` is reported as a straggler. Any other fault of a Cloud TPU or a link is
 * reported as a loss, a suspicion or a quarantine.
 */
function toBlame(received: unknown, tpu: number): Matched {
  const run = podRun(received, 'toBlame');
  const found = run.faults.map((fault) => `${faultWithPosition(fault)}: ${blameOf(fault)}`);
  const pass = run.faults.some(({ blamed }) => blamed === tpu);
  return {
    pass,
    message: () => {
      const expected = `expected the run ${pass ? 'not ' : ''}to blame Cloud TPU ${tpu}`;
      return [expected, ...(found.length === 0 ? ['found a run without faults'] : found)].join(
        '\n',
      );
    },
  };
}

/** Passes if all expectations of the plan hold, by the same rules as in `pod chaos run`. */
function toHoldExpectations(received: unknown): Matched {
  const run = podRun(received, 'toHoldExpectations');
  return matched('to hold its expectations', broken(run.verdicts));
}

/** Judges a run by `expect`. In the message, `expected` follows the words "expected the run". */
function judged(run: PodRun, expected: string, expect: Expectations): Matched {
  return matched(expected, broken(run.judge(expect)));
}

/** Returns the result of a matcher. It passes if `problems` is empty. */
function matched(expected: string, problems: readonly string[]): Matched {
  const pass = problems.length === 0;
  return {
    pass,
    message: () =>
      pass
        ? `expected the run not ${expected}`
        : [`expected the run ${expected}`, ...problems].join('\n'),
  };
}

/**
 * Returns one line for each expectation that does not hold: what was expected and what was found.
 */
function broken(verdicts: readonly Verdict[]): readonly string[] {
  return verdicts
    .filter(({ holds }) => !holds)
    .map(({ expectation, found }) => `expected ${inWords(expectation)}; found ${found}`);
}

function inWords(expectation: string): string {
  return expectation.endsWith(anyTime) ? 'a committed step after each fault' : expectation;
}

function faultWithPosition({ fault }: FaultOutcome): string {
  return `${faultNameOf(fault)} at ${JSON.stringify(fault.at).replaceAll('"', '')}`;
}

function blameOf({ blamed, injectedMs }: FaultOutcome): string {
  if (injectedMs === undefined) return 'the fault was never injected';
  if (blamed === undefined) return 'found no report';
  return blamed === null
    ? 'found a report that names no Cloud TPU'
    : `found a report that names Cloud TPU ${blamed}`;
}

/** Largest bound that a test may give: in ms for `withinMs`, in steps for `steps`. */
const boundMax = 86_400_000;

/**
 * Returns a bound in the form that plans use, such as `<=2000ms`. Returns undefined if `value` is
 * undefined.
 */
function bound(name: string, value: number | undefined, unit: string): string | undefined {
  if (value === undefined) return undefined;
  if (value >= 0 && value <= boundMax) return `<=${Number(value.toFixed(3))}${unit}`;
  const expected = `expected a number from 0 to ${boundMax}`;
  throw new PodError('bad-plan', `toHaveRecovered: ${name}: ${expected}, found ${value}`);
}

/**
 * Returns `received` if it is the result of a run.
 *
 * @throws PodError `bad-plan` if it is anything else, such as a promise that was not awaited.
 */
function podRun(received: unknown, matcher: string): PodRun {
  if (received instanceof PodRun) return received;
  const found = received instanceof Promise ? 'a promise; await it first' : describe(received);
  const expected = 'expected the result of pod(…).train()';
  throw new PodError('bad-plan', `${matcher}: ${expected}, found ${found}`);
}

function describe(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value);
  const { constructor: maker } = value;
  return typeof maker === 'function' ? `an object of ${maker.name}` : 'an object';
}
