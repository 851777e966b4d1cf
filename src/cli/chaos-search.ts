import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Case, planOf } from '../fault/case.ts';
import { Coverage, type CoverageReport } from '../fault/coverage.ts';
import { mustRecover } from '../fault/fair.ts';
import { invariants, type Violation } from '../fault/invariants.ts';
import type { Ground } from '../fault/plan.ts';
import { printPlan } from '../fault/print.ts';
import { randomCase, type Shape, searchShape, shapeOn } from '../fault/random-plan.ts';
import { shrink } from '../fault/shrink.ts';
import { makeDirectory } from '../files/make-directory.ts';
import { writeOutput } from '../files/write.ts';
import { at } from '../numerics/assert.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { count, counted } from '../observe/format.ts';
import { Progress, type Screen } from '../observe/progress.ts';
import { coverageLines } from './coverage-table.ts';
import { withEndSignal } from './end-signal.ts';
import { Interrupted, orEnd } from './interrupted.ts';
import { checkOutputFolder } from './made-folder.ts';
import { groundOf } from './planned-run.ts';
import { repeatPlan } from './repeat.ts';
import { screenOf } from './screen.ts';
import { podRunner, type Runner, simulatingRunner, type Tried } from './search-runner.ts';
import { type KindTally, Tally, tallyLines } from './search-tally.ts';

/** Flags of `pod chaos search`. */
export interface SearchFlags {
  readonly seeds: string;
  readonly from: string;
  readonly json?: boolean;
  readonly out?: string;
  readonly coverage?: boolean;
  readonly first?: boolean;
  readonly ground: string;
  readonly faults?: string;
  readonly times?: boolean;
}

/** A seed whose plan broke an invariant. */
export interface Failure {
  readonly seed: number;
  /** The invariant that the plan breaks, and what was found. */
  readonly violation: Violation;
  /** The smallest plan found that breaks this invariant, as the text of a plan file. */
  readonly plan: string;
  /** Path of the plan file. If no file was written, the name that it would have. */
  readonly file: string;
  /** Number of plans that were simulated to make the plan small. */
  readonly tries: number;
  /** An earlier seed that led to the same smallest plan; undefined if there is none. */
  readonly sameAs?: number;
}

/** Result of a search. */
export interface SearchResult {
  readonly from: number;
  readonly plans: number;
  /** Number of faults in all plans. `injected` is the number of these faults that took effect. */
  readonly faults: number;
  readonly injected: number;
  readonly failures: readonly Failure[];
  readonly coverage: CoverageReport;
  /** For each kind of fault: how it was noticed and mended in the plans with only one fault. */
  readonly kinds: readonly KindTally[];
  readonly seconds: number;
}

/**
 * Simulates the plans of many seeds and prints what was found. Sets exit code 1 if a plan broke an
 * invariant. The first signal ends the search: the results so far are printed, and the exit code is
 * that of the signal. A second signal ends the process at once.
 *
 * @throws PodError `bad-flag` for a wrong flag, `io` if a plan file cannot be written.
 */
export async function searchPlans(flags: SearchFlags): Promise<void> {
  const seeds = wholeOf(flags.seeds, '--seeds', 1, 10_000_000);
  const from = wholeOf(flags.from, '--from', 0, 2 ** 32 - seeds);
  const ground = groundOf(flags.ground, '--ground');
  const usual = shapeOn(ground);
  const faultsMax = wholeOf(flags.faults ?? `${usual.faultsMax}`, '--faults', 1, 20);
  if (flags.out !== undefined) checkOutputFolder('--out', flags.out);
  const screen = screenOf(process.stdout);
  const progress = new Progress(flags.json ? silent : screen, () => performance.now());
  const runner = ground === 'sim' ? simulatingRunner() : podRunner(ground);
  const options: SearchOptions = {
    ...{ from, seeds, out: flags.out, isFirst: flags.first === true },
    shape: { ...usual, faultsMax },
  };
  let exitCode: number | undefined;
  const result = await orEnd(
    withEndSignal((signal) => {
      signal.catch((error: Interrupted) => {
        exitCode = error.exitCode;
      });
      return search(runner, { ...options, isStopped: () => exitCode !== undefined }, progress);
    }),
  );
  progress.end();
  if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else for (const line of closing(result, flags)) progress.add(line);
  if (exitCode !== undefined) {
    process.stderr.write(
      `pod: a signal ended the search after ${result.plans} of ${seeds} plans\n`,
    );
    process.exitCode = exitCode;
  } else if (result.failures.length > 0) process.exitCode = 1;
}

/** What a search tries, and where it writes plans. */
export interface SearchOptions {
  /**
   * Seed of the first plan. Each further plan has the next seed. `seeds` is the number of plans.
   */
  readonly from: number;
  readonly seeds: number;
  /** Folder to which plans that break an invariant are written; undefined for none. */
  readonly out?: string | undefined;
  /** True if the search ends with the first plan that breaks an invariant. Default: false. */
  readonly isFirst?: boolean;
  /** Called after each plan. Returns true if the search should end before it has tried the rest. */
  readonly isStopped?: () => boolean;
  /** Bounds within which plans are drawn by chance. Default: {@link searchShape}. */
  readonly shape?: Shape;
}

/** Runs the plans of a range of seeds, and shrinks each plan that breaks an invariant. */
export async function search(
  runner: Runner,
  { from, seeds, out, isFirst, isStopped = never, shape = searchShape }: SearchOptions,
  progress: Progress,
): Promise<SearchResult> {
  const coverage = new Coverage(shape.ground);
  const tally = new Tally();
  const failures: Failure[] = [];
  const beginMs = performance.now();
  let [plans, faults, injected] = [0, 0, 0];
  for (let seed = from; seed < from + seeds; seed++) {
    const it = randomCase(seed, shape);
    const tried = await unlessStopped(runner.try(it), isStopped);
    if (tried === undefined) break;
    plans++;
    faults += it.faults.length;
    injected += tried.injected.length;
    if (tried.ending.kind === 'ended') {
      coverage.add(tried.injected, tried.ending.seen);
      tally.add(tried.plan, it.run.topology, tried.ending.seen);
    }
    if (tried.violations.length > 0) {
      const failure = await shrunk({ runner, shape, out }, seed, it, tried);
      const same = failures.find((other) => isSamePlan(other.plan, failure.plan));
      failures.push({ ...failure, ...(same && { sameAs: same.sameAs ?? same.seed }) });
      for (const line of failureLines(at(failures, failures.length - 1))) progress.add(line);
    }
    progress.pass(`${count(plans)} of ${count(seeds)} plans`);
    if (isFirst && failures.length > 0) break;
    // Signals are delivered between two turns of the event loop.
    await setImmediate();
    if (isStopped()) break;
  }
  const seconds = (performance.now() - beginMs) / 1000;
  const found = { failures, coverage: coverage.report(), kinds: tally.kinds, seconds };
  return { from, plans, faults, injected, ...found };
}

function never(): boolean {
  return false;
}

/** Returns the result of a case; undefined if the signal that stops the search also ended its pod. */
async function unlessStopped(
  trying: Promise<Tried>,
  isStopped: () => boolean,
): Promise<Tried | undefined> {
  try {
    return await trying;
  } catch (error) {
    if (error instanceof Interrupted && isStopped()) return undefined;
    throw error;
  }
}

/** What a search hands to {@link shrunk}. */
interface Shrinking {
  readonly runner: Runner;
  readonly shape: Shape;
  readonly out: string | undefined;
}

/**
 * Simplifies a case as far as it still breaks the same invariant, and writes the plan of the
 * simplest case. In a real pod, of threads or processes, the same case may not break the invariant
 * again. So a case of a real pod is not simplified.
 */
async function shrunk(
  { runner, shape, out }: Shrinking,
  seed: number,
  it: Case,
  { violations }: Tried,
): Promise<Failure> {
  // How the smallest case found so far breaks the invariant.
  let violation = at(violations, 0);
  const { invariant } = violation;
  const breaks = async (simpler: Case): Promise<boolean> => {
    if (!isFair(simpler, shape)) return false;
    const tried = await runner.try(simpler);
    const same = tried.violations.find((other) => other.invariant === invariant);
    violation = same ?? violation;
    return same !== undefined;
  };
  const { smallest, tries } = runner.isRepeatable
    ? await shrink(it, breaks)
    : { smallest: it, tries: 0 };
  const file = join(out ?? '', `seed-${seed}.yaml`);
  const { ground } = shape;
  const plan = printPlan(planOf(smallest, ground), heading(seed, violation, file, ground));
  if (out !== undefined) writePlan(file, plan);
  return { seed, violation, plan, file, tries };
}

/**
 * True if a pod without defects must end as the case says. If faults have been removed from a case,
 * the pod may rightly end in another way, which then proves no defect.
 */
function isFair({ run, faults, outcome }: Case, shape: Shape): boolean {
  return outcome === 'failed' || mustRecover(faults, run.topology, shape);
}

function heading(
  seed: number,
  { invariant, found }: Violation,
  file: string,
  ground: Ground,
): readonly string[] {
  const isSimulated = ground === 'sim';
  return [
    `Found by: pod chaos search --seeds 1 --from ${seed}${isSimulated ? '' : ` --ground ${ground}`}`,
    `Breaks the invariant "${invariant}": ${invariants[invariant]}.`,
    `Found: ${found}`,
    `Repeat: ${repeatPlan(file, ground)}`,
  ];
}

/** True if two plan files have the same plan. Their comments may differ. */
function isSamePlan(a: string, b: string): boolean {
  const withoutComments = (text: string): string => text.replace(/^#.*\n/gm, '');
  return withoutComments(a) === withoutComments(b);
}

function failureLines({ seed, violation, plan, tries, sameAs }: Failure): readonly string[] {
  const { invariant, found } = violation;
  if (sameAs !== undefined) {
    return [`BROKEN  seed ${seed}: ${invariant}: the smallest plan is that of seed ${sameAs}`];
  }
  return [
    `BROKEN  seed ${seed}: ${invariant}: ${found}`,
    tries === 0 ? 'the plan:' : `smallest plan that breaks it, after ${tryCount(tries)}:`,
    '',
    ...plan.trimEnd().split('\n'),
    '',
  ];
}

function closing(result: SearchResult, flags: SearchFlags): readonly string[] {
  const { plans, faults, injected, failures, coverage, kinds, seconds, from } = result;
  const paths = Object.entries(coverage.paths).map(([path, times]) => `${path} ${count(times)}`);
  const last = from + Math.max(0, plans - 1);
  return [
    ...(flags.coverage === true ? [...coverageLines(coverage), ''] : []),
    ...(flags.times === true ? [...tallyLines(kinds, plans), ''] : []),
    `plans: ${count(plans)} (seeds ${from} to ${last}) in ${seconds.toFixed(1)} s, ${(plans / seconds).toFixed(1)} a second`,
    `${count(injected)} of ${count(faults)} faults injected; recoveries: ${paths.join(', ')}`,
    failures.length === 0
      ? 'no invariant was broken'
      : `BROKEN by ${counted(failures.length, 'plan')}: ${seedsOf(failures)}`,
  ];
}

function seedsOf(failures: readonly Failure[]): string {
  const seeds = failures.map(({ seed }) => seed).join(', ');
  return failures.length === 1 ? `seed ${seeds}` : `seeds ${seeds}`;
}

function tryCount(tries: number): string {
  return tries === 1 ? '1 try' : `${count(tries)} tries`;
}

/** Screen of a search that prints JSON at its end and nothing before. */
const silent: Screen = { terminal: false, columns: 80, write: () => undefined };

function wholeOf(text: string, flag: string, least: number, most: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const expected = `a whole number from ${least} to ${most}`;
  throw new PodError('bad-flag', `${flag}: expected ${expected}, found ${quote(text)}`);
}

/** Writes a plan to a file, and makes its folder if it does not exist. */
function writePlan(path: string, text: string): void {
  try {
    makeDirectory(dirname(path));
    writeOutput(path, Buffer.from(text));
  } catch (error) {
    throw new PodError('io', `--out ${path}: ${messageOf(error)}`, error);
  }
}
