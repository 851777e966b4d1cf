import type { FaultPlan } from '../fault/plan.ts';
import type { SeenEvent } from '../fault/seen.ts';
import { judge, outcomesOf } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { faultTable, verdictLines } from '../observe/judged-text.ts';
import { lineOf } from './chaos-observation.ts';
import { Interrupted } from './chaos-processes.ts';
import { ChaosRecord, passingFolder, recordedTo } from './chaos-record.ts';
import { planInFile } from './plan-file.ts';
import {
  groundOf,
  openPlanned,
  type PlannedRun,
  runWithFaults,
  runWithoutFaults,
} from './planned-run.ts';
import { checkPage, writePageOfPlan, writeReportPage } from './report-run.ts';

/** Flags of `pod chaos run`. */
export interface ChaosFlags {
  readonly ground: string;
  readonly json?: boolean;
  readonly log?: string;
  /** Folder to which the run is recorded. */
  readonly run?: string;
  /** File for the report of the run, as a page. */
  readonly html?: string;
}

/**
 * Runs a fault plan, prints the verdict, and sets exit code 1 if an expectation does not hold.
 *
 * @throws PodError `bad-flag` or `bad-plan` if the flags or the plan are wrong, and the errors of
 * `train` if the run fails before its first step.
 */
export async function runPlan(path: string, flags: ChaosFlags): Promise<void> {
  const ground = groundOf(flags.ground, '--ground');
  if (flags.log !== undefined && ground !== 'sim') {
    throw new PodError('bad-flag', `--log: expected --ground sim, found --ground ${ground}`);
  }
  if (flags.html !== undefined) checkPage(flags.html, flags.run);
  const named = planInFile(path);
  const opened = await openPlanned(named, ground);
  const planned = recordedIfAsked(opened, flags);
  const folder = planned.options.run;
  const record = folder === undefined ? undefined : new ChaosRecord(planned, folder);
  const { plan, facts } = planned;
  const say = flags.json
    ? () => undefined
    : (line: string) => void process.stdout.write(`${line}\n`);
  say(`${plan.faults.length} faults in ${facts.steps} steps, ground ${ground}`);
  const tell = (event: SeenEvent): void => {
    const line = lineOf(event);
    if (line !== undefined) say(line);
  };
  const reference = needsReference(plan) ? await runWithoutFaults(planned) : undefined;
  const seen = await orEnd(runWithFaults(planned, tell, flags.log, record?.stream));
  const verdicts = judge(plan, facts.topology, seen, reference);
  const outcomes = outcomesOf(plan, seen);
  if (flags.json) process.stdout.write(`${JSON.stringify({ verdicts, outcomes, ground })}\n`);
  else say(`\n${[...faultTable(outcomes), '', ...verdictLines(verdicts)].join('\n')}`);
  if (verdicts.some(({ holds }) => !holds)) process.exitCode = 1;
  record?.end(named.text ?? '', seen, outcomes, verdicts);
  if (flags.html === undefined || folder === undefined) return;
  const isKept = flags.run !== undefined || opened.options.run !== undefined;
  if (isKept) writeReportPage(folder, flags.html);
  else writePageOfPlan(folder, flags.html, path);
}

/** Returns the run with the folder of its record, if a flag asks for a record or for a page. */
function recordedIfAsked(planned: PlannedRun, { run, html }: ChaosFlags): PlannedRun {
  if (run !== undefined) return recordedTo(planned, run);
  const isKept = planned.options.run !== undefined;
  return html === undefined || isKept ? planned : recordedTo(planned, passingFolder());
}

/** If a signal ended the pod, ends this process too, with the same exit code. */
async function orEnd<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Interrupted) process.exit(error.exitCode);
    throw error;
  }
}

function needsReference({ expect }: FaultPlan): boolean {
  return expect.weights !== undefined || expect.samples !== undefined;
}
