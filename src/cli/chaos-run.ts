import { join } from 'node:path';
import type { FaultPlan } from '../fault/plan.ts';
import type { SeenEvent } from '../fault/seen.ts';
import { judge, outcomesOf } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { counted } from '../observe/format.ts';
import { faultTable, verdictLines } from '../observe/judged-text.ts';
import { lineOf } from './chaos-observation.ts';
import { ChaosOutputs } from './chaos-outputs.ts';
import { ChaosRecord, recordedTo } from './chaos-record.ts';
import { orEnd } from './interrupted.ts';
import { withOwnFolder } from './own-folder.ts';
import { planInFile } from './plan-file.ts';
import {
  groundOf,
  type NamedPlan,
  openPlanned,
  type PlannedRun,
  runWithFaults,
  runWithoutFaults,
} from './planned-run.ts';
import { writePageOfPlan, writeReportPage } from './report-run.ts';

/** Flags of `pod chaos run`. */
export interface ChaosFlags {
  readonly ground: string;
  readonly json?: boolean;
  readonly log?: string;
  /** Folder to which the run is recorded. */
  readonly run?: string;
  /** HTML file to which the report of the run is written. */
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
  const named = planInFile(path);
  const opened = await openPlanned(named, ground);
  const planned = flags.run === undefined ? opened : recordedTo(opened, flags.run);
  const outputs = new ChaosOutputs(planned, path, flags);
  try {
    await runAndShow(planned, named, path, flags);
  } finally {
    outputs.close();
  }
}

/** Runs a plan that was opened, and writes the page that the flags ask for. */
async function runAndShow(
  planned: PlannedRun,
  named: NamedPlan,
  path: string,
  flags: ChaosFlags,
): Promise<void> {
  const { html } = flags;
  const folder = planned.options.run;
  if (html === undefined || folder !== undefined) {
    await runPlanned(planned, named, flags);
    if (html !== undefined && folder !== undefined) writeReportPage(folder, html);
    return;
  }
  // The user has named no folder for the record, from which the page is made. So the record is
  // written to a temporary folder.
  await withOwnFolder('record', async (parent) => {
    const record = join(parent, 'run');
    await runPlanned(recordedTo(planned, record), named, flags);
    writePageOfPlan(record, html, path);
  });
}

/** Runs a plan that was opened, prints and records the verdict, and sets the exit code. */
async function runPlanned(planned: PlannedRun, named: NamedPlan, flags: ChaosFlags): Promise<void> {
  const folder = planned.options.run;
  const record = folder === undefined ? undefined : new ChaosRecord(planned, folder);
  try {
    await judged(planned, named, flags, record);
  } finally {
    record?.close();
  }
}

async function judged(
  planned: PlannedRun,
  { text = '' }: NamedPlan,
  flags: ChaosFlags,
  record: ChaosRecord | undefined,
): Promise<void> {
  const { plan, facts, ground } = planned;
  const say = flags.json
    ? () => undefined
    : (line: string) => void process.stdout.write(`${line}\n`);
  const size = `${counted(plan.faults.length, 'fault')} in ${counted(facts.steps, 'step')}`;
  say(`${size}, ground ${ground}`);
  const tell = (event: SeenEvent): void => {
    const line = lineOf(event);
    if (line !== undefined) say(line);
  };
  const reference = needsReference(plan) ? await runWithoutFaults(planned) : undefined;
  const seen = await orEnd(runWithFaults(planned, tell, flags.log, record?.stream));
  const verdicts = judge(plan, facts.topology, seen, reference);
  const outcomes = outcomesOf(plan, facts.topology, seen);
  if (flags.json) process.stdout.write(`${JSON.stringify({ verdicts, outcomes, ground })}\n`);
  else say(`\n${[...faultTable(outcomes), '', ...verdictLines(verdicts)].join('\n')}`);
  if (verdicts.some(({ holds }) => !holds)) process.exitCode = 1;
  record?.end(text, seen, outcomes, verdicts);
}

function needsReference({ expect }: FaultPlan): boolean {
  return expect.weights !== undefined || expect.samples !== undefined;
}
